"""HTTP polled: JSON that a machine or system answers with becomes readings. Only GET, or POST where the interface says so; nothing else.

Each property's form is an address below the base; properties with the same address share one request. Source: AID 1.1, ``htv_`` terms.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import urljoin, urlsplit

from guantong.base.errors import ConfigProblem, GuantongError, Retryable
from guantong.base.wire import Http
from guantong.connect.delivery import Delivery
from guantong.connect.model import Interface, Property
from guantong.connect.rules import address_parts, names_of, units_of
from guantong.connect.secrets import Lookup
from guantong.connect.values import Shape, at_path, instant_of, read_json

__all__ = ["HttpReader"]

_LOST_AFTER = 3


class HttpReader:
    """Asks the addresses of an interface again and again."""

    def __init__(self, interface: Interface, http: Http, secrets: Lookup) -> None:
        if urlsplit(interface.base).scheme not in ("http", "https"):
            raise ConfigProblem("connect.address-unusable", base=interface.base, reason="http://host/ is expected")
        self._interface = interface
        self._http = http
        self._secrets = secrets
        self._shape = Shape(time=interface.term("time"))
        self._last = 0
        self._requests: dict[tuple[str, str], list[Property]] = {}
        for item in interface.properties:
            form = item.form
            href = form.href if form is not None else ""
            address_parts(href)
            url = urljoin(interface.base, href)
            method = (dict(form.terms).get("htv_methodName") if form is not None else None) or interface.term("method")
            self._ask(url, method or "GET").append(item)
        if not interface.properties:
            self._ask(interface.base, interface.term("method") or "GET")

    def _ask(self, url: str, method: str) -> list[Property]:
        method = method.upper()
        base = urlsplit(self._interface.base)
        if method not in ("GET", "POST"):
            raise ConfigProblem("connect.address-unusable", base=url, reason=f"{method} is not for reading")
        if urlsplit(url)[:2] != base[:2]:  # credentials of one host are never sent to another
            raise ConfigProblem("connect.address-unusable", base=url, reason="it is on another host than the base")
        return self._requests.setdefault((url, method), [])

    async def run(self, delivery: Delivery) -> None:
        """Ask until lost. Raises Retryable ``connect.lost`` and the network's own, ConfigProblem ``connect.refused``."""
        every_s = float(self._interface.term("interval_ms") or delivery.settings.poll_s * 1000) / 1000
        properties = self._interface.properties
        connected, failures, due = False, 0, delivery.clock.monotonic()
        while True:
            try:
                began = delivery.clock.now()
                for (url, method), items in self._requests.items():
                    await self._read(url, method, items, delivery)
                if failures or delivery.lost_at is not None:
                    delivery.unasked(self._last, began)
                failures, self._last = 0, delivery.clock.now()
                if not connected:
                    connected = True
                    await delivery.connected(names=names_of(properties), units=units_of(properties))
            except ConfigProblem:
                raise
            except GuantongError as error:
                failures += 1
                delivery.failed(error)
                if failures >= _LOST_AFTER or not connected:
                    raise
            await delivery.settle()
            due = max(due + every_s, delivery.clock.monotonic())
            await delivery.clock.sleep(max(0.0, due - delivery.clock.monotonic()))

    async def _read(self, url: str, method: str, items: list[Property], delivery: Delivery) -> None:
        body = self._interface.term("body")
        answer = await self._http.request(
            method,
            url,
            body=body.encode() if body and method == "POST" else None,
            headers=self._headers(),
            timeout_s=delivery.settings.poll_timeout_s,
            max_bytes=delivery.settings.message_bytes,
            zone="plant",
        )
        if answer.status in (401, 403):
            raise ConfigProblem("connect.refused", base=url, reason=f"HTTP {answer.status}")
        if answer.status != 200:
            raise Retryable("connect.agent-error", base=url, error=f"HTTP {answer.status}")
        received = delivery.clock.now()
        before = len(delivery.rows)
        value: Any = at_path(read_json(answer.body), self._interface.term("rows"))
        if value is None and answer.body.strip() != b"null":
            delivery.quarantine(0, "unreadable", f"{url}: {answer.body[:100].decode('utf-8', 'replace')}")
        else:
            when = instant_of(value, self._shape) or received
            if items:
                for item in items:
                    self._item(item, value, when, received, delivery, alone=len(items) == 1)
            else:
                name = self._interface.name
                self._shape.take(name, value, None, when, received, delivery)
        delivery.lines(1, 1 if len(delivery.rows) > before else 0)

    def _item(self, item: Property, value: Any, when: int, received: int, delivery: Delivery, *, alone: bool) -> None:
        """The part of an answer that belongs to a property: its member of that name, else the whole answer if it is asked for alone."""
        found = value
        if isinstance(value, dict):
            name = next((one for one in (item.key, item.title or "") if one in value), None)
            if name is not None:
                found = value[name]
            elif not alone:
                delivery.quarantine(0, "unreadable", f"{item.key}: not in the answer")
                return
        self._shape.take(item.key, found, item, instant_of(found, self._shape) or when, received, delivery)

    def _headers(self) -> dict[str, str]:
        found = self._secrets(self._interface.base)
        headers = {"Accept": "application/json"}
        if found.get("token"):
            headers["Authorization"] = f"Bearer {found['token']}"
        elif found.get("user"):
            pair = b64encode(f"{found['user']}:{found.get('password', '')}".encode()).decode("ascii")
            headers["Authorization"] = f"Basic {pair}"
        if self._interface.term("body"):
            headers["Content-Type"] = "application/json"
        return headers
