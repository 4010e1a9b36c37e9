"""How a command reaches a node: by the same requests as the pages, sent to the node that runs in the directory, or handed to one
that is started for this command alone and serves nobody.

Who may read the directory may sign in: a one-time link is written into its records and used up at once. The session is kept in the
directory, readable by the owner only, as the keys are; so that the next command is quick and the evidence log names one sign-in a
session, not one a command.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlencode, urlsplit

from guantong.base.errors import ConfigProblem, Retryable

if TYPE_CHECKING:
    from guantong.config import Config
    from guantong.node import Node

__all__ = ["Answered", "Desk", "Own", "Running", "open_desk", "running_place", "sign_in_link"]

CONNECT_S, ANSWER_S = 3.0, 900.0
"""How long a connection, and an answer (a large delivery), may take."""
MAX_ANSWER_BYTES = 1 << 30

Answer = tuple[int, Mapping[str, str], bytes]
"""Status, headers (names in lower case), body."""


class Answered(Exception):
    """The node answered with a problem (RFC 9457), in the language it was asked in."""

    def __init__(self, code: str, title: str, detail: str, status: int) -> None:
        super().__init__(code)
        self.code, self.title, self.detail, self.status = code, title, detail, status


class Desk:
    """Asks pages and sends actions, signed in."""

    def __init__(self, directory: Path, participant: str, language: str) -> None:
        self.directory = directory
        self.participant = participant
        self._language = language
        self._session = _stored(directory, participant)

    def ask(self, page: str, /, **query: Any) -> Any:
        """What a page shows, as JSON. ``page`` is its path, quoted; parameters that are None are left out."""
        given = {name: str(value) for name, value in query.items() if value is not None}
        return json.loads(self._signed_in("GET", f"/api{page}" + (f"?{urlencode(given)}" if given else ""), b""))

    def act(self, action: str, /, **fields: Any) -> Any:
        """The result of an action, as JSON."""
        return json.loads(self.act_for_bytes(action, **fields))

    def act_for_bytes(self, action: str, /, **fields: Any) -> bytes:
        """The result of an action that answers a file."""
        given = {name: value for name, value in fields.items() if value is not None}
        return self._signed_in("POST", f"/api{action}", json.dumps(given).encode())

    def fetch(self, path: str) -> bytes:
        """A file under ``/api``."""
        return self._signed_in("GET", f"/api{path}", b"")

    def close(self) -> None:
        """Leave."""

    def _signed_in(self, method: str, target: str, body: bytes) -> bytes:
        for attempt in (1, 2):
            if self._session is None or attempt == 2:
                self._session = self._sign_in()
            cookie, token = self._session
            headers = {"cookie": cookie, "accept-language": self._language, "accept": "application/json"}
            if method == "POST":
                headers |= {"x-csrf-token": token, "content-type": "application/json"}
            status, answered, content = self._send(method, target, headers, body)
            if status < 400:
                return content
            problem = _problem(status, answered, content)
            if attempt == 2 or problem.code not in ("web.not-signed-in", "web.forgery-suspected"):
                raise problem
        raise AssertionError

    def _sign_in(self) -> tuple[str, str]:
        status, headers, content = self._send("GET", f"/sign-in?token={self._link_token()}", {}, b"")
        if status >= 400:
            raise _problem(status, headers, content)
        cookie = headers.get("set-cookie", "").partition(";")[0]
        session = (cookie, self._csrf(cookie.partition("=")[2]))
        _store(self.directory, self.participant, session)
        return session

    def _link_token(self) -> str:
        raise NotImplementedError

    def _csrf(self, secret: str) -> str:
        raise NotImplementedError

    def _send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        raise NotImplementedError


class Running(Desk):
    """A node that runs in another process."""

    def __init__(self, directory: Path, place: Mapping[str, Any], config: Config, language: str) -> None:
        super().__init__(directory, str(place["participant"]), language)
        self._place = place
        self._config = config

    def _link_token(self) -> str:
        return sign_in_link(self._config, self.directory, self._place).rpartition("token=")[2]

    def _csrf(self, secret: str) -> str:
        return asyncio.run(_csrf_of(self._config, self.directory, self.participant, secret))

    def _send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        try:
            return _over_http(self._place, method, target, headers, body)
        except (OSError, HTTPException) as error:
            raise Retryable("web.unreachable", url=self._place["local"], reason=error) from error


class Own(Desk):
    """A node started for one command. It reads no source, sends nothing and serves nobody; requests go straight to its application."""

    def __init__(self, config: Config, directory: Path, language: str) -> None:
        import logging

        from guantong.node import Node

        if not os.environ.get("GUANTONG_DEBUG"):
            logging.getLogger().addHandler(logging.NullHandler())  # a command answers in its own words
        self._runner = asyncio.Runner()
        try:
            self._node: Node = self._runner.run(_made(Node, config))
        except BaseException:
            self._runner.close()
            raise
        super().__init__(directory, self._node.participant, language)

    def close(self) -> None:
        """Stop the node; what it took is durable."""
        try:
            self._runner.run(self._node.stop())
        finally:
            self._runner.close()

    def _link_token(self) -> str:
        return self._runner.run(self._node.sign_in_link()).rpartition("token=")[2]

    def _csrf(self, secret: str) -> str:
        assert self._node.app is not None
        session = self._runner.run(self._node.app.state.sign_in.session(self.participant, secret))
        return str(session.csrf)

    def _send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        return self._runner.run(_into(self._node.app, method, target, headers, body))


async def _made(make: Any, config: Config) -> Any:
    node = make(config)
    try:
        await node.start(alone=True)
    except BaseException:
        await node.stop()
        raise
    return node


def open_desk(config: Config, language: str, *, serving: bool, creates: bool) -> Desk:
    """The desk of the node in the configured directory.

    ``serving``: partners must be able to reach it · ``creates``: a directory without a node becomes one.
    Raises Retryable ``node.not-running``, ConfigProblem ``node.none-here``.
    """
    directory = Path(config["node.directory"]).expanduser().resolve()
    place = running_place(directory)
    if place is not None:
        return Running(directory, place, config, language)
    if serving:
        raise Retryable("node.not-running", directory=directory)
    if not creates and not (directory / "keys.json").exists():
        raise ConfigProblem("node.none-here", directory=directory)
    return Own(config, directory, language)


def running_place(directory: Path) -> dict[str, Any] | None:
    """Where the node of a directory is reached now, as it wrote it down itself; None when it does not answer."""
    try:
        place: dict[str, Any] = json.loads((directory / "address").read_text("utf-8"))
        status, _, _ = _over_http(place, "GET", "/healthz", {}, b"")
    except (OSError, ValueError, KeyError, HTTPException):
        return None
    return place if status == 200 else None


def sign_in_link(config: Config, directory: Path, place: Mapping[str, Any]) -> str:
    """A link that signs one person in, once, written into the records beside the running node."""
    return asyncio.run(_link(config, directory, place))


def _over_http(
    place: Mapping[str, Any], method: str, target: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, Mapping[str, str], bytes]:
    parts = urlsplit(str(place["local"]))
    connection: HTTPConnection
    if parts.scheme == "https":
        import ssl

        # the node's own certificate file is the trust: its name is the public one, not this loopback address
        context = ssl.create_default_context(cafile=str(place["certificate"]))
        context.check_hostname = False
        connection = HTTPSConnection(parts.hostname or "", parts.port, timeout=CONNECT_S, context=context)
    else:
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=CONNECT_S)
    try:
        connection.connect()
        if target != "/healthz":
            connection.sock.settimeout(ANSWER_S)
        connection.request(method, target, body or None, dict(headers))
        answer = connection.getresponse()
        return (
            answer.status,
            {name.lower(): value for name, value in answer.getheaders()},
            answer.read(MAX_ANSWER_BYTES),
        )
    finally:
        connection.close()


async def _into(app: Any, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """One request handed to an ASGI application. Source: ASGI 3.0, HTTP connection scope."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 0), "server": ("127.0.0.1", 0),
    }  # fmt: skip
    status, content = 500, bytearray()
    answered: dict[str, str] = {}

    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # this client never hangs up; a streamed answer listens for that
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            answered.update(
                (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in message["headers"]
            )
        else:
            content.extend(message.get("body", b""))

    await app(scope, receive, send)
    return status, answered, bytes(content)


def _problem(status: int, headers: Mapping[str, str], content: bytes) -> Answered:
    if "json" in headers.get("content-type", ""):
        found = json.loads(content)
        return Answered(str(found.get("code", "")), str(found.get("title", "")), str(found.get("detail", "")), status)
    return Answered("web.internal", content[:200].decode("utf-8", "replace"), "", status)


# ---- the session, and the records where another process runs the node


def _stored(directory: Path, participant: str) -> tuple[str, str] | None:
    try:
        found = json.loads((directory / "session.json").read_text("utf-8"))
        return (str(found["cookie"]), str(found["token"])) if found["participant"] == participant else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _store(directory: Path, participant: str, session: tuple[str, str]) -> None:
    fresh = directory / f"session.{os.getpid()}.new"
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(json.dumps({"participant": participant, "cookie": session[0], "token": session[1]}))
    fresh.replace(directory / "session.json")


def _records(config: Config, directory: Path) -> Any:
    from guantong.base.clock import SystemClock
    from guantong.records.schema import migrate
    from guantong.records.service import Records

    records = Records(config["node.records"] or f"sqlite:///{directory / 'records.db'}", SystemClock())
    records.open(migrate)
    return records


async def _link(config: Config, directory: Path, place: Mapping[str, Any]) -> str:
    from guantong.web.model import WebSettings
    from guantong.web.signin import SignIn

    records = _records(config, directory)
    try:
        settings = config.section("web", WebSettings)
        return await SignIn(records, settings).issue_link(str(place["participant"]), str(place["address"]))
    finally:
        records.close()


async def _csrf_of(config: Config, directory: Path, participant: str, secret: str) -> str:
    from guantong.web.model import WebSettings
    from guantong.web.signin import SignIn

    records = _records(config, directory)
    try:
        session = await SignIn(records, WebSettings()).session(participant, secret)
        assert session is not None
        return session.csrf
    finally:
        records.close()
