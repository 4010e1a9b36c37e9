"""A participant's private keys in one file, and how they change: first made, rotated, lost.

``keys.json`` is readable by its owner only and is written whole or not at all. Beside it ``keys-public.json`` says which keys these are,
so that a key file that has gone is a loss to be declared, never a silent new identity.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from guantong.base import keychange
from guantong.base.canonical import b64, b64url, sha256, unb64, unb64url
from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem
from guantong.base.gm import Sm2Key
from guantong.base.keys import Ed25519Key, P256Key
from guantong.exchange.identity import Identity, Retired

__all__ = ["Keys", "load_keys", "lost", "rotated", "store_keys"]

FILE, PUBLIC = "keys.json", "keys-public.json"
OVERLAP_S = 30 * 86_400
"""How long the DID document lists an old key beside the new one, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Keys:
    """A participant's private keys; only this module stores them."""

    token: P256Key
    evidence: Ed25519Key
    witness: Ed25519Key
    sm2: Sm2Key | None = None
    token_name: str = "token"  # noqa: S105 - the fragment that names the key, no secret
    retired: tuple[Retired, ...] = ()
    former: Ed25519Key | None = None
    """The evidence key before the last rotation; its signature stands beside the new one's on checkpoints until ``former_until``."""
    former_until: int = 0
    changes: tuple[Mapping[str, Any], ...] = ()
    """Statements of every change of the evidence key, oldest first (``base/keychange.py``)."""
    company: Mapping[str, Any] | None = None
    """The statement of the company's certificate over DID and evidence key (``base/company.py``)."""

    def identity(self, did: str) -> Identity:
        """What the exchange needs."""
        return Identity(did, self.token, self.evidence, self.token_name, self.retired, self.company is not None)

    def former_at(self, at: int) -> Ed25519Key | None:
        """The old evidence key, while the overlap lasts."""
        return self.former if at < self.former_until else None


def load_keys(path: Path, *, sm2: bool = False) -> Keys:
    """Read the key file, or make it where there never was one. ``sm2``: with an SM2 key, made when it is first asked for.

    Raises ConfigProblem ``base.key-unreadable``, and ``base.extra-missing`` where SM2 is asked for without the extra.
    """
    if not path.exists():
        if path.with_name(PUBLIC).exists():
            raise ConfigProblem("base.key-unreadable", name=path.name)
        keys = Keys(P256Key.generate(), Ed25519Key.generate(), Ed25519Key.generate())
        store_keys(path, keys)
    else:
        keys = _read(path)
        if not path.with_name(PUBLIC).exists():  # a node from before there was such a file
            store_keys(path, keys)
    if sm2 and keys.sm2 is None:
        keys = replace(keys, sm2=Sm2Key.generate())
        store_keys(path, keys)
    return keys


def _read(path: Path) -> Keys:
    try:
        stored = json.loads(path.read_text("utf-8"))
        sm2, former = stored.get("sm2"), stored.get("former")
        return Keys(
            P256Key(unb64url(stored["token"])),
            Ed25519Key(unb64url(stored["evidence"])),
            Ed25519Key(unb64url(stored["witness"])),
            None if sm2 is None else Sm2Key(unb64url(sm2)),
            stored.get("tokenName", "token"),
            tuple(Retired(str(one["name"]), dict(one["jwk"]), int(one["until"])) for one in stored.get("retired", ())),
            None if former is None else Ed25519Key(unb64url(former)),
            int(stored.get("formerUntil", 0)),
            tuple(stored.get("changes", ())),
            stored.get("company"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigProblem("base.key-unreadable", name=path.name) from error


def store_keys(path: Path, keys: Keys) -> None:
    """Write the key file, then what it holds in public."""
    secret: dict[str, Any] = {
        "token": b64url(keys.token.private_bytes()),
        "evidence": b64url(keys.evidence.private_bytes()),
        "witness": b64url(keys.witness.private_bytes()),
    }
    if keys.sm2 is not None:
        secret["sm2"] = b64url(keys.sm2.private_bytes())
    if keys.company is not None:
        secret["company"] = dict(keys.company)
    if keys.changes:
        secret |= {
            "tokenName": keys.token_name,
            "retired": [{"name": one.name, "jwk": dict(one.jwk), "until": one.until} for one in keys.retired],
            "formerUntil": keys.former_until,
            "changes": [dict(one) for one in keys.changes],
        }
        if keys.former is not None:
            secret["former"] = b64url(keys.former.private_bytes())
    _write(path, json.dumps(secret), 0o600)
    public = {"evidence": b64(keys.evidence.public), "token": keys.token.jwk, "witness": b64(keys.witness.public)}
    _write(path.with_name(PUBLIC), json.dumps(public), 0o644)


def rotated(keys: Keys, did: str, at: int, *, overlap_s: int = OVERLAP_S) -> Keys:
    """New token and evidence keys; the old ones sign the change, and stay listed for the overlap.

    The witness's key and the SM2 key stay: partners' policies name them.
    """
    number, until = len(keys.changes) + 1, at + overlap_s * NS
    fresh = Ed25519Key.generate()
    return replace(
        keys,
        company=None,  # it was about the old key: the company signs again
        token=P256Key.generate(),
        evidence=fresh,
        token_name=f"token-{number + 1}",
        retired=(
            *(one for one in keys.retired if at < one.until),
            Retired(keys.token_name, keys.token.jwk, until),
            Retired(f"evidence-{number}", keys.evidence.jwk, until),
        ),
        former=keys.evidence,
        former_until=until,
        changes=(*keys.changes, keychange.make(did, keys.evidence.public, fresh, at, old_key=keys.evidence)),
    )


def lost(path: Path, did: str, at: int, *, old: bytes | None = None) -> Keys:
    """All keys anew, because the old ones are gone; the old evidence key is told by ``keys-public.json`` or ``old``.

    Nothing of the old keys stays listed: whoever may hold them now must not be believed. Raises ConfigProblem ``base.key-unreadable``.
    """
    changes: tuple[Mapping[str, Any], ...] = ()
    if old is None:
        try:
            old = unb64(json.loads(path.with_name(PUBLIC).read_text("utf-8"))["evidence"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigProblem("base.key-unreadable", name=PUBLIC) from error
    if path.exists():  # stolen rather than lost: the history of changes goes on
        changes = _read(path).changes
    fresh = Ed25519Key.generate()
    statement = keychange.make(did, old, fresh, at, old_key=None)
    return Keys(
        P256Key.generate(),
        fresh,
        Ed25519Key.generate(),
        token_name=f"token-{sha256(fresh.public).hex()[:8]}",  # how many there were before may not be known any more
        changes=(*changes, statement),
    )


def _write(path: Path, text: str, mode: int) -> None:
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
