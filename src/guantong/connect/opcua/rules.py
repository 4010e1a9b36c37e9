"""Pure decisions of the OPC UA reader: server profiles, sequence numbers, holes, security as an interface asks for it.

Source: OPC 10000-4, 5.14 (subscriptions), 7.39.1 (StatusCode, overflow bit); OPC 10000-7 (security policies); the limits by product are
field experience, because what servers say of their own limits can't be relied on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from guantong.base.errors import ConfigProblem
from guantong.connect.model import Interface, SecurityScheme

__all__ = [
    "COMPANIONS",
    "OVERFLOW",
    "POLICIES",
    "PROFILES",
    "UNKNOWN",
    "Hole",
    "Profile",
    "Security",
    "after",
    "channel_of",
    "companions",
    "following",
    "grouped",
    "join_path",
    "overflowed",
    "profile_of",
    "remaining",
    "security_of",
    "split_path",
    "unece_code",
]

OVERFLOW = 0x480
"""InfoType DataValue (0x400) and the Overflow bit (0x80): the server's queue ran over before this value."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a product bears."""

    name: str
    marks: tuple[str, ...]
    """Found in ManufacturerName or ProductName, small letters."""
    items_per_call: int
    """Monitored items created, or nodes asked about, in one request."""
    browse_at_once: int
    """Browse requests at the same time."""
    items_max: int | None = None
    """Most monitored items in all."""


UNKNOWN = Profile("unknown", (), 50, 5)
PROFILES: tuple[Profile, ...] = (
    Profile("Ignition", ("ignition", "inductive automation", "milo"), 100, 20),
    Profile("Kepware", ("kepserver", "kepware", "thingworx"), 1000, 40),
    # it reports 1,000; above 200 it is about fifty times slower (Siemens 109755846)
    Profile("S7-1200", ("s7-1200",), 100, 10, 1000),
    Profile("S7-1500", ("s7-1500", "siemens"), 500, 20, 10_000),
    Profile("Prosys", ("prosys",), 800, 60),
    Profile("node-opcua", ("nodeopcua", "node-opcua"), 1000, 20),
    Profile("asyncua", ("freeopcua", "asyncua"), 1000, 20),
)
"""The first whose mark is found holds."""


def profile_of(manufacturer: str | None, product: str | None, *more: str | None) -> Profile:
    """The profile by what ServerStatus/BuildInfo says."""
    said = " ".join(text for text in (manufacturer, product, *more) if text).lower()
    return next((profile for profile in PROFILES if any(mark in said for mark in profile.marks)), UNKNOWN)


COMPANIONS: tuple[tuple[str, str], ...] = (
    ("http://opcfoundation.org/UA/Machinery/", "Machinery"),
    ("http://opcfoundation.org/UA/CNC", "CNC"),
    ("http://opcfoundation.org/UA/PackML/", "PackML"),
    ("http://opcfoundation.org/UA/MTConnect/v2/", "MTConnect"),
    ("http://opcfoundation.org/UA/MachineTool/", "MachineTool"),
    ("http://opcfoundation.org/UA/Robotics/", "Robotics"),
    ("http://opcfoundation.org/UA/PlasticsRubber/", "Plastics and Rubber"),
    ("http://opcfoundation.org/UA/DI/", "Device Integration"),
    ("http://opcfoundation.org/UA/IA/", "Industrial Automation"),
    ("http://opcfoundation.org/UA/I4AAS/", "Asset Administration Shell"),
    ("http://opcfoundation.org/UA/ISA95-JOBCONTROL", "ISA-95 Job Control"),
)
"""Companion specifications by the beginning of their namespace URI."""


def companions(uris: Iterable[str]) -> list[str]:
    """The companion specifications a server's namespaces name."""
    present = tuple(uris)
    return [name for begin, name in COMPANIONS if any(uri.startswith(begin) for uri in present)]


def following(number: int) -> int:
    """The sequence number after this one: they run from 1 to 4,294,967,295 and begin again at 1 (OPC 10000-4, 7.38)."""
    return 1 if number >= 0xFFFFFFFF else number + 1


def after(number: int, other: int) -> bool:
    """Whether ``number`` was given out after ``other``, across the wrap."""
    return 0 < (number - other) % 0xFFFFFFFF < 0x80000000


def overflowed(status: int) -> bool:
    """Whether the server's queue dropped values before this one."""
    return status & OVERFLOW == OVERFLOW


@dataclass(frozen=True, slots=True)
class Hole:
    """Values of a signal that may be missing between two that are known: both instants (ns) are known ones, not missing."""

    signal: str
    last: int
    next: int
    reason: str


def remaining(hole: Hole, history: Sequence[int]) -> tuple[int, int] | None:
    """What of a hole a history of source times (ascending, both ends included where it has them) leaves open: first and last instant.

    A history that holds both known values was kept through the hole, so it holds all between them. One that holds neither proves
    nothing; one that begins late or ends early leaves that part open.
    """
    first, last = hole.last + 1, hole.next - 1
    inside = [instant for instant in history if hole.last <= instant <= hole.next]
    if not inside:
        return (first, last) if first <= last else None
    begins, ends = inside[0] == hole.last, inside[-1] == hole.next
    if begins and ends:
        return None
    if begins:
        first = inside[-1] + 1
    elif ends:
        last = inside[0] - 1
    return (first, last) if first <= last else None


def grouped(holes: Sequence[tuple[str, int, int, str]], watched: int) -> list[tuple[str | None, int, int, str]]:
    """Records of open stretches (signal, first, last, reason): one without a signal where every signal watched misses the same."""
    if len(holes) == watched and len(holes) > 1 and len({hole[1:] for hole in holes}) == 1:
        return [(None, *holes[0][1:])]
    return list(holes)


# paths ---------------------------------------------------------------------------------------------------------------------------

_RESERVED = re.compile(r"[/&]")


def join_path(elements: Iterable[tuple[str, str]], own: str) -> str:
    """A browse path below Objects as text: ``/Objects/Machine/Speed``. Elements of another namespace than ``own`` carry ``nsu=uri;``.

    ``/`` and ``&`` inside an element are written ``&/`` and ``&&`` (OPC 10000-4, A.2: & escapes what a path reserves).
    """
    names = (name if uri == own else f"nsu={uri};{name}" for uri, name in elements)
    return "/Objects" + "".join("/" + _RESERVED.sub(r"&\g<0>", name) for name in names)


def split_path(path: str, own: str) -> list[tuple[str, str]]:
    """The inverse of :func:`join_path`: (namespace URI, name) of each element below Objects."""
    parts: list[str] = []
    text, escaped = "", False
    for char in path:
        if escaped:
            text, escaped = text + char, False
        elif char == "&":
            escaped = True
        elif char == "/":
            parts.append(text)
            text = ""
        else:
            text += char
    parts.append(text)
    if parts and not parts[0]:
        parts = parts[1:]
    if parts and parts[0].rpartition(":")[2] == "Objects":
        parts = parts[1:]
    found = []
    for part in parts:
        if part.startswith("nsu="):
            uri, _, name = part[4:].partition(";")
            found.append((uri, name))
        else:
            found.append((own, part))
    return found


# security ------------------------------------------------------------------------------------------------------------------------

POLICIES: dict[str, str] = {
    "basic256sha256": "Basic256Sha256",
    "aes128sha256rsaoaep": "Aes128Sha256RsaOaep",
    "aes256sha256rsapss": "Aes256Sha256RsaPss",
}
"""Security policies that are kept. Basic128Rsa15 and Basic256 rest on SHA-1 and are refused (OPC 10000-7: deprecated)."""

_MODES = {"sign": "Sign", "signandencrypt": "SignAndEncrypt", "signencrypt": "SignAndEncrypt"}
_IDENTITIES = {
    "anonymous": "anonymous",
    "username": "user",
    "user": "user",
    "certificate": "certificate",
    "x509": "certificate",
}


@dataclass(frozen=True, slots=True)
class Security:
    """What an interface asks of the channel and of the session."""

    policy: str | None = None
    """Name of asyncua's class after ``SecurityPolicy``; None: no security, and only where the interface asks for none."""
    mode: str = "None"
    identity: str = "anonymous"
    """anonymous, user or certificate."""
    thumbprint: str | None = None
    """SHA-256 of the server's certificate, hexadecimal, as accepted by a person."""


def _bare(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.rpartition("#")[2].lower())


def security_of(interface: Interface) -> Security:
    """What the interface's schemes ask for. What can't be kept is refused, never lowered.

    Raises ConfigProblem ``connect.security-unsupported``. Source: AID 1.1, OPC UA security schemes (uav_channelsec with
    uav_securityMode and uav_securityPolicy, uav_authentication with uav_userIdentityToken).
    """
    schemes = {scheme.name: scheme for scheme in interface.schemes}
    policy, mode, identity, thumbprint = None, "None", "anonymous", None
    for name in interface.security:
        scheme = schemes.get(name)
        terms = {key.removeprefix("uav_"): value for key, value in scheme.terms} if scheme is not None else {}
        kind = scheme.scheme if scheme is not None else name
        if kind == "nosec":
            continue
        if kind == "uav_channelsec":
            mode = _MODES.get(_bare(terms.get("securityMode", "signAndEncrypt")), "")
            policy = POLICIES.get(_bare(terms.get("securityPolicy", "Basic256Sha256")))
            thumbprint = terms.get("thumbprint", "").replace(":", "").replace(" ", "").lower() or None
            if not mode or policy is None:
                asked = f"{terms.get('securityMode', '')} {terms.get('securityPolicy', '')}".strip()
                raise ConfigProblem("connect.security-unsupported", name=interface.name, scheme=asked)
        elif kind == "uav_authentication":
            identity = _IDENTITIES.get(_bare(terms.get("userIdentityToken", "userName")), "")
            if not identity:
                raise ConfigProblem(
                    "connect.security-unsupported", name=interface.name, scheme=terms.get("userIdentityToken", "")
                )
        elif kind == "basic":
            identity = "user"
        else:
            raise ConfigProblem("connect.security-unsupported", name=interface.name, scheme=kind)
    return Security(policy, mode, identity, thumbprint)


def channel_of(offered: Iterable[str], thumbprint: str) -> SecurityScheme | None:
    """The scheme to propose for what a server offers (``Sign Basic256Sha256``, …); None where it takes an open channel, or none we keep."""
    kept = set(offered)
    if "None_ None" in kept:
        return None
    for mode in ("SignAndEncrypt", "Sign"):
        for policy in ("Aes256_Sha256_RsaPss", "Basic256Sha256", "Aes128_Sha256_RsaOaep"):
            if f"{mode} {policy}" in kept:
                terms = (("thumbprint", thumbprint), ("uav_securityMode", mode), ("uav_securityPolicy", policy))
                return SecurityScheme("opcua_channel_sc", "uav_channelsec", terms)
    return None


def unece_code(unit_id: int) -> str | None:
    """The UNECE common code of a unitId: up to three characters, the first in the highest byte. -1 or other: none.

    Source: OPC 10000-8, 5.6.4.
    """
    if not 0 < unit_id < 1 << 24:
        return None
    text = unit_id.to_bytes(3, "big").lstrip(b"\0").decode("ascii", "replace")
    return text if text.isalnum() else None
