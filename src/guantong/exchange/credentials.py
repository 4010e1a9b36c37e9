"""Verifiable credentials and presentations as compact JWS, read and judged: no I/O, no clock.

Two profiles are understood, never mixed in one presentation: ``vc11-sl2021/jwt`` (claims ``vp`` and ``vc``) and ``vc20-bssl/jwt`` (the
document is the payload). Source: Decentralized Claims Protocol 1.0, Presentation validation and Profiles; W3C VC Data Model 1.1 and
2.0; W3C Securing Verifiable Credentials using JOSE and COSE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guantong.base.clock import NS, parse_iso
from guantong.base.errors import Skippable
from guantong.exchange.jws import ALGORITHMS, Jws, opened, signed
from guantong.exchange.status_list import LIST_TYPES

__all__ = [
    "PROFILES",
    "Credential",
    "Presentation",
    "Status",
    "credential_in",
    "made_credential",
    "made_presentation",
    "presentation_in",
    "problems_of",
    "read_credential",
]

V1 = "https://www.w3.org/2018/credentials/v1"
V2 = "https://www.w3.org/ns/credentials/v2"
PROFILES: Mapping[str, str] = {"1.1": "vc11-sl2021/jwt", "2.0": "vc20-bssl/jwt"}
"""Profile of DCP by version of the data model."""

MAX_CREDENTIALS = 32
MAX_CREDENTIAL = 64 * 1024
_IGNORED_PURPOSES = frozenset({"message", "refresh"})
"""Purposes of a status that do not end a credential. Source: Bitstring Status List, statusPurpose."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where it is written whether a credential still holds."""

    kind: str
    purpose: str
    index: int
    address: str
    size: int = 1


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential taken apart; believed only once its signature, issuer, times and status are checked."""

    version: str
    issuer: str
    types: tuple[str, ...]
    subjects: tuple[Mapping[str, Any], ...]
    valid_from: int | None
    """Nanoseconds since the epoch."""
    valid_until: int | None
    statuses: tuple[Status, ...]
    schemas: tuple[tuple[str, str], ...]
    """``(type, address)`` of the schemas it promises to meet."""
    document: Mapping[str, Any]
    jws: Jws
    text: str


@dataclass(frozen=True, slots=True)
class Presentation:
    """A presentation taken apart."""

    version: str
    holder: str
    audience: tuple[str, ...]
    credentials: tuple[Credential, ...]
    valid_from: int | None
    valid_until: int | None
    jws: Jws


def presentation_in(text: object) -> Presentation:
    """The presentation in a compact JWS. Raises ValueError with the reason."""
    if not isinstance(text, str):
        raise _unusable("a presentation is no compact JWS")
    jws = _opened(text, limit=MAX_CREDENTIALS * MAX_CREDENTIAL)
    claims = jws.claims
    vp = claims.get("vp")
    version = "1.1" if isinstance(vp, dict) else "2.0"
    document = vp if isinstance(vp, dict) else claims
    if "VerifiablePresentation" not in _texts(document.get("type")):
        raise ValueError("it is no VerifiablePresentation")
    holder = claims.get("iss") if version == "1.1" else claims.get("holder", claims.get("iss"))
    holder = holder.get("id") if isinstance(holder, dict) else holder
    if not isinstance(holder, str):
        raise _unusable("a presentation names no holder")
    if (
        claims.get("iss", holder) != holder
        or claims.get("sub", holder) != holder
        or document.get("holder", holder) != holder
    ):
        raise ValueError("a presentation names two holders")
    found = document.get("verifiableCredential")
    entries = found if isinstance(found, list) else [found] if found else []
    if len(entries) > MAX_CREDENTIALS:
        raise ValueError(f"it holds more than {MAX_CREDENTIALS} credentials")
    credentials = tuple(credential_in(_enveloped(entry)) for entry in entries)
    if len({version, *(one.version for one in credentials)}) > 1:
        raise ValueError("it mixes versions of the data model")
    first, last = _claimed_times(claims)
    return Presentation(version, holder, _texts(claims.get("aud")), credentials, first, last, jws)


def credential_in(text: object) -> Credential:
    """The credential in a compact JWS. Raises ValueError with the reason."""
    if not isinstance(text, str):
        raise _unusable("a credential is no compact JWS")
    jws = _opened(text, limit=MAX_CREDENTIAL)
    claims = jws.claims
    vc = claims.get("vc")
    version = "1.1" if isinstance(vc, dict) else "2.0"
    credential = read_credential(vc if isinstance(vc, dict) else claims, version, jws, text)
    if claims.get("iss", credential.issuer) != credential.issuer:
        raise ValueError("a credential names two issuers")
    subject = claims.get("sub")
    # some issuers write the credential's own id there; another DID than the subject's would be a contradiction
    if str(subject).startswith("did:") and any(one.get("id", subject) != subject for one in credential.subjects):
        raise ValueError("a credential names two subjects")
    first, last = _claimed_times(claims)
    return Credential(
        credential.version,
        credential.issuer,
        credential.types,
        credential.subjects,
        max((at for at in (credential.valid_from, first) if at is not None), default=None),
        min((at for at in (credential.valid_until, last) if at is not None), default=None),
        credential.statuses,
        credential.schemas,
        credential.document,
        jws,
        text,
    )


def read_credential(document: Mapping[str, Any], version: str, jws: Jws, text: str = "") -> Credential:
    """A credential's document as a value. Raises ValueError with the reason."""
    issuer = document.get("issuer", jws.claims.get("iss"))
    issuer = issuer.get("id") if isinstance(issuer, dict) else issuer
    if not isinstance(issuer, str):
        raise _unusable("a credential names no issuer")
    subject = document.get("credentialSubject")
    subjects: list[Any] = subject if isinstance(subject, list) else [subject]
    if not subjects or not all(isinstance(one, dict) for one in subjects):
        raise ValueError("a credential has no subject")
    found: list[int | None] = []
    for names in (("validFrom", "issuanceDate"), ("validUntil", "expirationDate")):
        value = next((document[name] for name in names if document.get(name) is not None), None)
        found.append(_instant(value))
    return Credential(
        version,
        issuer,
        _texts(document.get("type")),
        tuple(subjects),
        found[0],
        found[1],
        tuple(_status(entry) for entry in _entries(document.get("credentialStatus"))),
        tuple((str(entry.get("type")), str(entry.get("id"))) for entry in _entries(document.get("credentialSchema"))),
        document,
        jws,
        text,
    )


def problems_of(credential: Credential, *, holder: str, at: int, leeway_s: int) -> list[str]:
    """What is wrong with a credential by itself at an instant: times, binding, what can't be checked."""
    found = []
    slack = leeway_s * NS
    if credential.valid_from is not None and credential.valid_from - slack > at:
        found.append("it is not valid yet")
    if credential.valid_until is not None and credential.valid_until <= at:
        found.append("it has expired")
    if any(subject.get("id") != holder for subject in credential.subjects):
        found.append("its subject is not the holder")
    if credential.jws.key_id.startswith("did:") and credential.jws.key_id.partition("#")[0] != credential.issuer:
        found.append("its key is not its issuer's")
    found += [
        f"its status {status.kind} is not understood" for status in credential.statuses if status.kind not in LIST_TYPES
    ]
    return found


def ends(status: Status) -> bool:
    """Whether a status that is set ends the credential."""
    return status.purpose not in _IGNORED_PURPOSES


def made_presentation(
    key: Any, key_id: str, holder: str, audience: str, texts: Sequence[str], version: str, *, at: int, jti: str
) -> str:
    """A presentation of credentials of one version to one verifier, good for five minutes."""
    now = at // NS
    claims: dict[str, Any] = {"iss": holder, "aud": audience, "jti": jti, "iat": now, "nbf": now, "exp": now + 300}
    if version == "1.1":
        document: dict[str, Any] = {
            "@context": [V1],
            "type": ["VerifiablePresentation"],
            "holder": holder,
            "verifiableCredential": list(texts),
        }
        return signed(key, key_id, {**claims, "sub": holder, "vp": document})
    document = {
        "@context": [V2],
        "type": ["VerifiablePresentation"],
        "holder": holder,
        "verifiableCredential": [
            {"@context": V2, "id": f"data:application/vc+jwt,{text}", "type": "EnvelopedVerifiableCredential"}
            for text in texts
        ],
    }
    return signed(key, key_id, {**claims, **document}, kind="vp+jwt")


def made_credential(
    key: Any,
    key_id: str,
    issuer: str,
    kind: str,
    subject: Mapping[str, Any],
    version: str,
    *,
    credential_id: str,
    first: str,
    last: str,
    status: Mapping[str, Any] | None = None,
) -> str:
    """A signed credential. ``first`` and ``last`` are the RFC 3339 instants between which it holds."""
    document: dict[str, Any] = {
        "@context": [V2 if version == "2.0" else V1],
        "id": credential_id,
        "type": ["VerifiableCredential", kind],
        "issuer": issuer,
        "credentialSubject": dict(subject),
    }
    if status:
        document["credentialStatus"] = dict(status)
    registered = {
        "iss": issuer,
        "jti": credential_id,
        "iat": parse_iso(first) // NS,
        "nbf": parse_iso(first) // NS,
        "exp": parse_iso(last) // NS,
    }
    if "id" in subject:
        registered["sub"] = subject["id"]
    if version == "1.1":
        dated = {**document, "issuanceDate": first, "expirationDate": last}
        return signed(key, key_id, {**registered, "vc": dated})
    return signed(key, key_id, {**registered, **document, "validFrom": first, "validUntil": last}, kind="vc+jwt")


def _unusable(reason: str) -> ValueError:
    return ValueError(reason)


def _opened(text: str, *, limit: int) -> Jws:
    jws = opened(text, limit=limit)
    if jws.head.get("alg") not in ALGORITHMS:
        raise ValueError("its algorithm is neither ES256 nor EdDSA")
    return jws


def _enveloped(entry: object) -> object:
    if isinstance(entry, dict) and "EnvelopedVerifiableCredential" in _texts(entry.get("type")):
        head, _, text = str(entry.get("id")).partition(",")
        if head.startswith("data:application/") and "jwt" in head:
            return text
    return entry


def _status(entry: Mapping[str, Any]) -> Status:
    index, size = entry.get("statusListIndex"), entry.get("statusSize", 1)
    if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) < 10:
        index = int(index)
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise ValueError("a credential's place in its status list is no index")
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 32:
        raise ValueError("a credential's status has no usable size")
    return Status(
        str(entry.get("type")), str(entry.get("statusPurpose")), index, str(entry.get("statusListCredential")), size
    )


def _entries(value: object) -> list[Mapping[str, Any]]:
    entries: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(entry, dict) for entry in entries) or len(entries) > 8:
        raise ValueError("a credential's status or schema is unreadable")
    return entries


def _texts(value: object) -> tuple[str, ...]:
    return tuple(one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))


def _instant(value: object) -> int | None:
    if value is None:
        return None
    try:
        return parse_iso(str(value))
    except (Skippable, ValueError) as error:
        raise ValueError("a credential's times are unreadable") from error


def _claimed_times(claims: Mapping[str, Any]) -> tuple[int | None, int | None]:
    found: list[int | None] = []
    for name in ("nbf", "iat", "exp"):
        value = claims.get(name)
        if value is None:
            found.append(None)
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**40:
            raise ValueError("its times are unreadable")
        else:
            found.append(int(value * NS))
    return max((at for at in found[:2] if at is not None), default=None), found[2]
