"""Settings of the HTTP shell and the frozen values of sign-in."""

from __future__ import annotations

from dataclasses import dataclass

from guantong.base.entry import EntryKind

__all__ = ["ENTRY_KINDS", "LANGUAGES", "SIGNED_IN", "Session", "WebSettings"]

LANGUAGES: tuple[str, ...] = ("en", "zh-CN")
"""Languages of the pages, by their tags (RFC 5646)."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """How the node listens, whom it lets in and which addresses it may call."""

    host: str = "127.0.0.1"
    """Address to listen on; a name or an IP address. Loopback unless a person decides otherwise."""
    port: int = 0
    """TCP port to listen on; 0 takes a free one."""
    public_url: str = ""
    """The address others reach this node by, for example ``https://node.example``; empty derives it from host and port."""
    tls_certificate: str = ""
    """PEM file of the certificate chain; with ``tls_key`` it makes the node serve https."""
    tls_key: str = ""
    """PEM file of the certificate's private key."""
    language: str = "en"
    """Language of the pages where neither the address, the cookie nor the browser names one: ``en`` or ``zh-CN``."""
    link_minutes: int = 15
    """How long a sign-in link can be used, in minutes; each link works once."""
    session_hours: int = 12
    """How long a sign-in lasts, in hours."""
    max_form_bytes: int = 256 * 1024
    """Largest body of a page's form or of an ``/api`` request, in bytes."""
    max_body_bytes: int = 16 * 1024 * 1024
    """Largest body of any other request (protocol messages, pushed data, packages to verify), in bytes."""
    request_seconds: int = 30
    """How long a request's headers and body may take to arrive, in seconds."""
    keep_alive_seconds: int = 75
    """How long an idle connection of a client stays open, in seconds."""
    partner_loopback: bool = False
    """Allow partners on this machine's loopback addresses; always so on a node that itself listens on loopback only."""
    partner_networks: tuple[str, ...] = ()
    """Networks (CIDR) beside the public internet where partners live, for example a VPN's ``10.20.0.0/16``."""
    partner_plain_http: bool = False
    """Allow plain http to partners that are not on loopback."""
    plant_networks: tuple[str, ...] = ()
    """Networks (CIDR) of machines beside the private and loopback ranges."""
    plant_plain_http: bool = True
    """Allow plain http to machines: agents on a shop floor rarely speak TLS."""
    ca_file: str = ""
    """PEM file of certificate authorities trusted for outgoing https beside the system's."""
    connections_per_partner: int = 32
    """Most connections held open to one host."""


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in browser."""

    participant: str
    """DID of the participant whose pages it sees."""
    csrf: str
    """What each unsafe request must carry."""
    expires_at: int
    """Nanoseconds since the epoch."""
    role: str = "owner"
    """``owner``, or ``auditor``: may read and take packages away, and change nothing."""


SIGNED_IN = EntryKind(
    "web.signed-in",
    "Somebody signed in to the pages with a one-time link.",
    "有人用一次性链接登录了页面。",
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["session"],
        "properties": {"session": {"type": "string", "pattern": "^[0-9a-f]{16}$"}},
    },
)
"""``session``: the first 16 hex digits of the SHA-256 of the session's secret."""

ENTRY_KINDS: tuple[EntryKind, ...] = (SIGNED_IN,)
