"""Sign-in: a link that works once, a cookie that scripts can't read, a token on everything that changes something.

There is no password to guess and none by default. Whoever may run commands on the node may make a link. Secrets are 256 random bits;
the records hold only their hashes, so a copied database opens no door.

Source: OWASP Session Management and Cross-Site Request Forgery Prevention Cheat Sheets.
"""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import SimpleCookie

from sqlalchemy import and_, select

from guantong.base.canonical import b64url
from guantong.base.clock import NS
from guantong.base.entry import Entry
from guantong.base.errors import Refused, Retryable
from guantong.records import Records
from guantong.web.model import SIGNED_IN, Session, WebSettings
from guantong.web.tables import LINKS, SESSIONS

__all__ = ["SignIn", "cookie_name"]

_CACHE_NS = 5 * NS
"""A session found is believed for so long without asking the records again; sign-out forgets it at once."""


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def cookie_name(participant: str, *, secure: bool) -> str:
    """Cookies know no ports: two nodes on one host need two names. ``__Host-`` pins a secure cookie to this very host."""
    return ("__Host-" if secure else "") + "guantong-" + hashlib.sha256(participant.encode()).hexdigest()[:12]


class SignIn:
    """Links and sessions of one node."""

    def __init__(self, records: Records, settings: WebSettings) -> None:
        self._records = records
        self._settings = settings
        self._known: dict[tuple[str, str], tuple[Session, int]] = {}

    async def issue_link(self, participant: str, base_url: str, *, role: str = "owner") -> str:
        """A link that signs one browser in, once, within ``link_minutes``; an ``auditor`` may only read."""
        token = b64url(self._records.random(32))
        async with self._records.step(participant) as step:
            step.insert(
                LINKS,
                token_hash=_hash(token),
                created_at=step.at,
                expires_at=step.at + self._settings.link_minutes * 60 * NS,
                used_at=None,
                role=role,
            )
        return f"{base_url.rstrip('/')}/sign-in?token={token}"

    async def redeem(self, participant: str, token: str, *, replaces: str | None = None) -> str:
        """Use a link's token up and open a session; returns the new session's secret. A session the browser had before ends.

        Raises Refused ``web.link-used``, also when two browsers come with the same link at the same moment.
        """
        now = self._records.clock.now()
        row = await self._records.row(
            select(LINKS).where(and_(LINKS.c.participant == participant, LINKS.c.token_hash == _hash(token)))
        )
        if row is None or row["used_at"] is not None or row["expires_at"] <= now:
            raise Refused("web.link-used")
        secret, csrf = b64url(self._records.random(32)), b64url(self._records.random(32))
        try:
            async with self._records.step(participant) as step:
                # the writer checks again that nobody used the link meanwhile
                step.update(LINKS, {"token_hash": _hash(token)}, {"used_at": step.at}, expect={"used_at": None})
                if replaces:
                    step.delete(SESSIONS, session_hash=_hash(replaces))
                step.insert(
                    SESSIONS,
                    session_hash=_hash(secret),
                    csrf=csrf,
                    created_at=step.at,
                    expires_at=step.at + self._settings.session_hours * 3600 * NS,
                    role=row["role"],
                )
                step.record(Entry(SIGNED_IN, {"session": _hash(secret)[:16]}))
                step.apply(lambda connection: _sweep(connection, now))
        except Retryable as error:
            raise Refused("web.link-used") from error
        if replaces:
            self._known.pop((participant, _hash(replaces)), None)
        return secret

    async def session(self, participant: str, secret: str | None) -> Session | None:
        """The session of a cookie's value, or None."""
        if not secret or len(secret) > 128:
            return None
        now = self._records.clock.now()
        key = (participant, _hash(secret))
        known = self._known.get(key)
        if known is not None and known[1] > now and known[0].expires_at > now:
            return known[0]
        row = await self._records.row(
            select(SESSIONS).where(and_(SESSIONS.c.participant == participant, SESSIONS.c.session_hash == key[1]))
        )
        if row is None or row["expires_at"] <= now:
            self._known.pop(key, None)
            return None
        found = Session(participant, str(row["csrf"]), int(row["expires_at"]), str(row["role"] or "owner"))
        if len(self._known) > 1000:
            self._known.clear()
        self._known[key] = (found, now + _CACHE_NS)
        return found

    async def sign_out(self, participant: str, secret: str) -> None:
        """End a session."""
        async with self._records.step(participant) as step:
            step.delete(SESSIONS, session_hash=_hash(secret))
        self._known.pop((participant, _hash(secret)), None)

    def check(self, session: Session, given: str | None, origin: str | None, host: str) -> None:
        """Whether an unsafe request was made by a page of ours: right token, and no foreign Origin.

        Raises Refused ``web.forgery-suspected``.
        """
        if origin is not None and origin.split("://", 1)[-1] != host:
            raise Refused("web.forgery-suspected")
        if not given or not hmac.compare_digest(given.encode(), session.csrf.encode()):
            raise Refused("web.forgery-suspected")

    def cookie(self, participant: str, secret: str, *, secure: bool) -> str:
        """The Set-Cookie value of a session; an empty secret deletes the cookie."""
        name = cookie_name(participant, secure=secure)
        jar: SimpleCookie = SimpleCookie()
        jar[name] = secret
        jar[name]["path"] = "/"
        jar[name]["httponly"] = True
        jar[name]["samesite"] = "Strict"
        jar[name]["max-age"] = self._settings.session_hours * 3600 if secret else 0
        if secure:
            jar[name]["secure"] = True
        return jar[name].OutputString()


def _sweep(connection: object, now: int) -> None:
    from sqlalchemy import Connection, delete, or_

    assert isinstance(connection, Connection)
    connection.execute(
        delete(LINKS).where(or_(LINKS.c.expires_at < now - 24 * 3600 * NS, LINKS.c.used_at < now - 24 * 3600 * NS))
    )
    connection.execute(delete(SESSIONS).where(SESSIONS.c.expires_at < now))
