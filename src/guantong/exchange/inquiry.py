"""Questions to a partner's connector: which versions it speaks, one dataset, and in which state it sees a process.

A partner's answer is its word and changes nothing here; it shows whether both sides see the same.
Source: Dataspace Protocol 2025-1, HTTPS bindings (version metadata; dataset request; GET of negotiations and transfers).
"""

from __future__ import annotations

from typing import Any

import orjson

from guantong.base.errors import Refused, Retryable
from guantong.base.wire import Response
from guantong.exchange.catalogue import read_catalogue
from guantong.exchange.dids import service_of
from guantong.exchange.hosting import Hosting, checked_address, in_path
from guantong.exchange.messages import VERSION
from guantong.exchange.model import Catalogue, Negotiation, Transfer

__all__ = ["Inquiry"]

WELL_KNOWN = "/.well-known/dspace-version"


class Inquiry:
    """What every hosted participant may ask."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting

    async def base(self, participant: str, partner: str, root: str = "") -> str:
        """The base address of a partner's endpoints of the version spoken here, found from its DID document or a root address.

        Raises Refused ``exchange.answer-unusable`` where it does not speak this version.
        """
        if not root:
            document = await self._hosting.resolver.document(partner)
            root = service_of(document, "DataService")
        root = checked_address(root).removesuffix(WELL_KNOWN)
        response = await self._hosting.http.request("GET", root + WELL_KNOWN, max_bytes=64 * 1024)
        body = _object(response, partner, "version list")
        for entry in body.get("protocolVersions") or ():
            if isinstance(entry, dict) and entry.get("version") == VERSION and isinstance(entry.get("path"), str):
                path = entry["path"].strip("/")
                return checked_address(f"{root}/{path}" if path else root)
        raise _unusable(partner, response.status, "version list", f"it does not speak {VERSION}")

    async def dataset(self, participant: str, address: str, partner: str, dataset_id: str) -> Catalogue | None:
        """One dataset with its offers, None where the partner shows none of that name."""
        url = f"{checked_address(address)}/catalog/datasets/{in_path(dataset_id)}"
        response = await self._hosting.request(participant, partner, "GET", url, max_bytes=1024 * 1024)
        if response.status == 404:
            return None
        return read_catalogue({"participantId": partner, "dataset": [_object(response, partner, "dataset")]})

    async def of(self, participant: str, process: Negotiation | Transfer) -> str:
        """The state in which the partner sees one of our processes, empty where it knows none."""
        if not process.partner_pid:
            return ""
        area = "transfers" if isinstance(process, Transfer) else "negotiations"
        url = f"{process.partner_address}/{area}/{in_path(process.partner_pid)}"
        return await self.state(participant, process.partner, url)

    async def state(self, participant: str, partner: str, url: str) -> str:
        """The state that the partner tells at the address of a process, empty where it knows none (404, and EDC's 400)."""
        response = await self._hosting.request(participant, partner, "GET", url, max_bytes=64 * 1024)
        if response.status in (400, 404):
            return ""
        state = _object(response, partner, "state").get("state")
        if not isinstance(state, str) or len(state) > 64:
            raise _unusable(partner, response.status, "state", "it names no state")
        return state.rpartition("/")[2].rpartition(":")[2]


def _object(response: Response, partner: str, message: str) -> dict[str, Any]:
    if response.status >= 500 or response.status == 429:
        raise Retryable("exchange.partner-busy", partner=partner, status=response.status, message=message)
    try:
        body = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        body = None
    if not 200 <= response.status < 300 or not isinstance(body, dict):
        raise _unusable(partner, response.status, message, response.body[:300].decode("utf-8", "replace"))
    return body


def _unusable(partner: str, status: int, message: str, reason: str) -> Refused:
    return Refused("exchange.answer-unusable", partner=partner, status=status, message=message, reason=reason)
