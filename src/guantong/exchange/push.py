"""Pushes: HttpData-PUSH and AmazonS3-PUSH, the provider's side, and the inbox to which partners push, the consumer's.

A push is a message of the outbox: queued in the step that starts its transfer, tried again with back-off, given up into a state that a
person sees, and begun anew after a restart. The target is the partner's word, so it is reached through the guarded client only.

Source: CX-0018, 2.3 (data plane profiles); Dataspace Protocol 2025-1, Transfer Process Protocol, push transfers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guantong.base.clock import NS
from guantong.base.errors import GuantongError, Refused, Retryable
from guantong.exchange.dataplane import BLOCK_HEADER, RECORD_HEADER, DataPlane, block_bytes
from guantong.exchange.encoding import ARROW
from guantong.exchange.hosting import Hosting, checked_address
from guantong.exchange.identity import same_token
from guantong.exchange.messages import properties_of
from guantong.exchange.mqtt_out import SPARKPLUG_PUSH, SparkplugWriter, UnsWriter, broker_target, publish
from guantong.exchange.receipts import Counting, Receipts
from guantong.exchange.s3 import Bucket, put_object
from guantong.exchange.transfers import BROKER_FORMATS, PUSH, S3_PUSH, Transfers, token_hash
from guantong.records.model import Message
from guantong.records.outbox import Note

if TYPE_CHECKING:
    from guantong.exchange.model import Transfer
    from guantong.exchange.ports import Inbox
    from guantong.exchange.signaling import Flows

__all__ = ["HttpTarget", "Pushes", "S3Target", "check_target", "target_of"]


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """An address to send the data to."""

    url: str
    method: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class S3Target:
    """An object to write."""

    bucket: Bucket
    key: str
    """Empty: the transfer names it."""
    folder: str = ""


def target_of(form: str, address: Mapping[str, object]) -> HttpTarget | S3Target:
    """Where a push goes, from the data address of its request. Raises Refused ``exchange.message-invalid``."""
    given = properties_of(address)
    if form == PUSH:
        base = given.get("endpoint") or given.get("baseUrl", "")
        path = given.get("path", "")
        url = checked_address(base.partition("?")[0]) + (f"?{base.partition('?')[2]}" if "?" in base else "")
        if path:
            url = f"{url.rstrip('/')}/{path.lstrip('/')}"
        method = given.get("method", "POST").upper()
        if method not in ("POST", "PUT"):
            raise _invalid(f"its method {method[:20]} is neither POST nor PUT")
        headers = {}
        if given.get("authorization"):
            scheme = (
                "Bearer " if given.get("authType", "").lower() == "bearer" and " " not in given["authorization"] else ""
            )
            headers["authorization"] = scheme + given["authorization"]
        elif given.get("authKey") and given.get("authCode"):
            headers[given["authKey"].lower()] = given["authCode"]
        if any(not _plain(name) or not _plain(value) for name, value in headers.items()):
            raise _invalid("its authorization can't be a header")
        return HttpTarget(url, method, headers)
    if form == S3_PUSH:
        missing = [name for name in ("bucketName", "region", "accessKeyId", "secretAccessKey") if not given.get(name)]
        if missing:
            raise _invalid(f"{', '.join(missing)}: missing")
        endpoint = checked_address(given.get("endpointOverride") or f"https://s3.{given['region']}.amazonaws.com")
        bucket = Bucket(
            endpoint,
            given["bucketName"],
            given["region"],
            given["accessKeyId"],
            given["secretAccessKey"],
            given.get("sessionToken", ""),
        )
        return S3Target(bucket, given.get("objectName", "").lstrip("/"), given.get("folderName", "").strip("/"))
    raise _invalid(f"the format {form[:60]} is not pushed")


def check_target(form: str, address: Mapping[str, object], brokers: tuple[str, ...]) -> None:
    """Whether a push can go where its request says. Raises Refused ``exchange.message-invalid``."""
    if form in BROKER_FORMATS:
        broker_target(form, address, brokers)
    else:
        target_of(form, address)


class Pushes:
    """Pushes of every hosted participant."""

    def __init__(self, hosting: Hosting, transfers: Transfers, plane: DataPlane, receipts: Receipts) -> None:
        self.hosting = hosting
        self.inbox: Inbox | None = None
        """Keeps what partners push to us; None: pushes are refused."""
        self.flows: Flows | None = None
        """The data flows of other control planes, which hear of the end of their pushes."""
        self._transfers = transfers
        self._plane = plane
        self._receipts = receipts
        plane.end = self._end

    # -- provider

    async def carry(self, participant: str, message: Message, attempt: int) -> Note | None:
        """Sender of the outbox: bring the data of a started transfer to its target, then complete the transfer."""
        pid = str(message.payload["pid"])
        transfer = await self._transfers.processes.get(participant, pid)
        if transfer.state != "STARTED":
            return None  # suspended or ended meanwhile; a new start queues a new push
        try:
            if transfer.format in BROKER_FORMATS:
                await self._publish(participant, transfer)
            else:
                await self._deliver(participant, transfer, target_of(transfer.format, transfer.data_address))
        except Retryable:
            raise
        except GuantongError as error:
            await self._end(participant, pid, "terminate", error.message("en")[:500])
            raise
        await self._end(participant, pid, "complete")
        return None

    async def _deliver(self, participant: str, transfer: Transfer, target: HttpTarget | S3Target) -> None:
        headers, pieces = await self._plane.begin(participant, transfer, accept=ARROW, query={})
        media_type = headers["content-type"]
        http, clock = self.hosting.http, self.hosting.clock
        async with aclosing(pieces) as body:  # type: ignore[type-var]
            if isinstance(target, S3Target):
                key = target.key or f"{transfer.pid}.arrow"
                await put_object(
                    http, clock, target.bucket, f"{target.folder}/{key}" if target.folder else key, media_type, body
                )
                return
            response = await http.request(
                target.method,
                target.url,
                body=body,
                headers={
                    **target.headers,
                    "content-type": media_type,
                    RECORD_HEADER: headers[RECORD_HEADER],
                    BLOCK_HEADER: headers[BLOCK_HEADER],
                },
                timeout_s=3600.0,
                max_bytes=64 * 1024,
            )
        if response.status >= 500 or response.status in (408, 425, 429):
            raise Retryable("exchange.push-failed", address=target.url[:200], reason=f"it answered {response.status}")
        if not 200 <= response.status < 300:
            raise Refused("exchange.push-refused", address=target.url[:200], reason=f"it answered {response.status}")

    async def _publish(self, participant: str, transfer: Transfer) -> None:
        settings = self.hosting.settings
        target = broker_target(transfer.format, transfer.data_address, settings.brokers)
        edge = SparkplugWriter(target, bdseq=self.hosting.clock.now() // NS % 256)
        sparkplug = transfer.format == SPARKPLUG_PUSH
        writer = edge if sparkplug else UnsWriter(target)
        _, pieces = await self._plane.begin(participant, transfer, accept=ARROW, query={}, writer=writer)
        async with aclosing(pieces) as body:  # type: ignore[type-var]
            await publish(target, body, will=edge.death if sparkplug else None)

    async def _end(self, participant: str, pid: str, verb: str, reason: str = "") -> None:
        try:
            if self.flows is not None and await self.flows.ended(participant, pid, verb, reason):
                return
            await self._transfers.decide(participant, pid, verb, reason=reason)
        except Refused as error:
            if error.code != "exchange.transition-refused":
                raise  # the partner ended it first: nothing is left to do

    # -- consumer

    async def take(
        self, participant: str, pid: str, authorization: str, headers: Mapping[str, str], chunks: AsyncIterator[bytes]
    ) -> str:
        """A partner pushes the data of a transfer to our inbox; the record it named, as counted by us too.

        Raises Refused ``exchange.token-refused`` or ``exchange.push-refused``.
        """
        hosting = self.hosting
        try:
            transfer = await self._transfers.processes.get(participant, pid)
        except Refused as error:
            raise Refused("exchange.token-refused", reason="it belongs to no transfer") from error
        token = authorization.removeprefix("Bearer ").strip()
        if (
            transfer.role != "consumer"
            or not token
            or not transfer.token_hash
            or not same_token(token_hash(token), transfer.token_hash)
        ):
            raise Refused("exchange.token-refused", reason="it is not that of the transfer")
        if transfer.state not in ("REQUESTED", "STARTED") or self.inbox is None:
            raise Refused(
                "exchange.push-refused", address=f"/inbox/{pid[:100]}", reason=f"the transfer is {transfer.state}"
            )
        record_id = headers.get(RECORD_HEADER, "")[:128]
        counting = Counting(block_bytes(headers.get(BLOCK_HEADER, ""), hosting.settings.block_bytes))
        if record_id:
            self._receipts.begin(participant, record_id)

        async def counted() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                if chunk:
                    counting.add(chunk)
                    yield chunk

        async with aclosing(counted()) as passing:  # type: ignore[type-var]
            counting.rows = await self.inbox(participant, transfer, headers.get("content-type", ""), passing)
        if record_id:
            await self._receipts.received(participant, transfer, record_id, counting)
        return record_id


def _plain(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and len(text) <= 8192


def _invalid(reason: str) -> Refused:
    return Refused("exchange.message-invalid", message="DataAddress", reason=reason)
