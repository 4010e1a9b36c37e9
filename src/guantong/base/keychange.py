"""A participant's evidence key changes: a statement signed by the old key where it still exists, or confirmed by others where it is lost.

Pure: documents in, values out. The statement is canonical JSON; what is signed is the statement without ``signatures`` and
``confirmations``. The new key always signs (it is really held); the old key signs a rotation, and the partners' confirmations stand in
for it after a loss: each says that this partner has checked the new key with its owner over another channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guantong.base.canonical import b64, canonical_bytes, digest, unb64
from guantong.base.clock import iso, parse_iso
from guantong.base.errors import Refused
from guantong.base.keys import Ed25519Key, verify_ed25519

__all__ = ["KeyChange", "confirmation", "confirmed_by", "make", "parse"]

LOST, ROTATED = "lost", "rotated"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """A change whose signatures are good; whether to believe it is for :func:`confirmed_by` and the verifier's own keys."""

    did: str
    reason: str
    """``rotated`` (signed by the old key) or ``lost`` (not)."""
    old: bytes
    new: bytes
    at: int
    """From this instant, ns, the old key signs nothing any more."""
    document: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Name of the statement, whoever has confirmed it: the digest of what is signed."""
        return digest(_core(self.document))


def make(did: str, old: bytes, new: Ed25519Key, at: int, *, old_key: Ed25519Key | None) -> dict[str, Any]:
    """The statement of a change; without the old key it is one of loss."""
    core = {
        "v": 1,
        "type": "guantong-key-change",
        "did": did,
        "reason": LOST if old_key is None else ROTATED,
        "old": b64(old),
        "new": b64(new.public),
        "at": iso(at),
    }
    message = canonical_bytes(core)
    signatures = {"new": b64(new.sign(message))}
    if old_key is not None:
        signatures["old"] = b64(old_key.sign(message))
    return {**core, "signatures": signatures, "confirmations": []}


def parse(document: Any) -> KeyChange:
    """Read a statement and check the signatures in it. Raises Refused ``base.key-change-refused`` with the reason."""
    try:
        core = _core(document)
        if set(core) != {"v", "type", "did", "reason", "old", "new", "at"} or core["type"] != "guantong-key-change":
            raise ValueError("it has other members than a key change has")
        if core["v"] != 1 or core["reason"] not in (LOST, ROTATED):
            raise ValueError("it is of another version or kind")
        old, new, signatures = unb64(core["old"]), unb64(core["new"]), document["signatures"]
        message = canonical_bytes(core)
        if len(old) != 32 or len(new) != 32 or old == new:
            raise ValueError("it does not name two Ed25519 keys")
        if not verify_ed25519(new, message, unb64(signatures["new"])):
            raise ValueError("the new key has not signed it")
        if core["reason"] == ROTATED and not verify_ed25519(old, message, unb64(signatures["old"])):
            raise ValueError("the old key has not signed it")
        if len(document["confirmations"]) > 64:
            raise ValueError("it has too many confirmations")
        return KeyChange(str(core["did"]), core["reason"], old, new, parse_iso(core["at"]), document)
    except Refused:
        raise
    except Exception as error:
        raise Refused("base.key-change-refused", reason=str(error)[:200] or type(error).__name__) from error


def confirmation(change: KeyChange, by: str, key: Ed25519Key, at: int) -> dict[str, str]:
    """A partner says: I have checked this new key with its owner over another channel."""
    stated = {"by": by, "at": iso(at)}
    return {**stated, "signature": b64(key.sign(_confirmed(change.digest, stated)))}


def confirmed_by(change: KeyChange, dids: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """The parties known to the verifier, other than the one whose key it is, that have confirmed the change."""
    found = []
    for one in change.document["confirmations"]:
        try:
            stated, value = {"by": str(one["by"]), "at": str(one["at"])}, unb64(one["signature"])
        except (ValueError, KeyError, TypeError):
            continue
        message = _confirmed(change.digest, stated)
        if stated["by"] != change.did and any(
            verify_ed25519(key, message, value) for key in dids.get(stated["by"], ())
        ):
            found.append(stated["by"])
    return tuple(sorted(set(found)))


def believed(changes: Sequence[KeyChange], dids: Mapping[str, frozenset[bytes]]) -> list[KeyChange]:
    """The changes that lead on from keys the verifier knows, in order: signed by a known key, confirmed by a known party, or to a key
    that the verifier lists itself.

    Raises Refused ``base.key-change-refused`` where one key was changed for two different ones: then somebody else holds it.
    """
    held = {did: set(keys) for did, keys in dids.items()}
    found: dict[tuple[str, bytes], KeyChange] = {}
    waiting = sorted(changes, key=lambda one: one.at)
    while True:
        left = []
        for change in waiting:
            known = held.get(change.did, set())
            signed = change.reason == ROTATED and change.old in known
            if not (signed or change.new in known or (change.reason == LOST and confirmed_by(change, dids))):
                left.append(change)
                continue
            before = found.setdefault((change.did, change.old), change)
            if before.new != change.new:
                raise Refused("base.key-change-refused", reason=f"a key of {change.did} was changed for two others")
            held.setdefault(change.did, set()).update((change.old, change.new))
        if len(left) == len(waiting):
            return sorted(found.values(), key=lambda one: one.at)
        waiting = left  # who knows the newest key only is led back from change to change


def _core(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in ("signatures", "confirmations")}


def _confirmed(name: str, stated: Mapping[str, str]) -> bytes:
    return canonical_bytes({"v": 1, "type": "guantong-key-confirmation", "change": name, **stated})
