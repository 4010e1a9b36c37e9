"""A dataset of readings served as an MTConnect agent does it: ``probe``, ``current`` and ``sample`` below the address of a pull.

Each answer is a delivery: token, terms, decision, durable intent and usage record before it leaves; it counts the observations that are
in it. Observations are numbered in the order of their source time. A reading that comes late would move the numbers behind it: then, as
after a restart, the ``instanceId`` is a new one, which tells every MTConnect client to begin anew.

Source: MTConnect Standard 2.0, Part 1 (protocol, error codes, header), Part 2 (devices), Part 3 (observations).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from guantong.base.clock import NS, iso
from guantong.base.errors import Refused
from guantong.exchange.dataplane import DataPlane, Outgoing
from guantong.exchange.hosting import Hosting
from guantong.exchange.stream import row_digest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["VERBS", "MtconnectFault", "MtconnectServer"]

VERBS = ("probe", "current", "sample")
_XML = "text/xml"
_VERSION = "2.0"
_BUFFER = 131_072
"""Newest observations that can be asked for, as an agent's ring has them."""
_MAX_ROWS = 1_000_000
_MAX_COUNT = 10_000
_BAD = 0x80000000


class MtconnectFault(Exception):
    """What an agent answers with an error document."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Item:
    id: str
    source: str
    name: str
    unit: str
    sample: bool


class _Choice:
    """The observations that an answer holds, chosen from the dataset's rows."""

    def __init__(self, verb: str, since: int | None, count: int, marked: tuple[int, str]) -> None:
        self.again = verb == "probe"
        self.verb, self.since, self.count = verb, since, count
        self.marked = marked
        self.first = self.next = 1
        self.following = 1
        self.items: dict[int, _Item] = {}
        self.sequences: list[int] = []
        self.moved = False
        """The row that was marked has another number now."""
        self.mark = marked

    async def ready(self) -> None:
        """See :class:`guantong.exchange.dataplane.Passing`; everything is looked at where it is read."""

    async def rows(self, batches: AsyncIterator[pa.RecordBatch]) -> AsyncIterator[pa.RecordBatch]:
        """See :class:`guantong.exchange.dataplane.Passing`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        kept, size = [], 0
        async for batch in batches:
            if not {"signal_id", "source", "source_time", "status"} <= set(batch.schema.names):
                raise _invalid("only a dataset of readings has observations")
            kept.append(batch)
            size += batch.num_rows
            if size > _MAX_ROWS:
                raise _invalid(f"the dataset has more than {_MAX_ROWS} rows: take it as a pull or a stream")
        if not kept:
            return
        table = pa.Table.from_batches(kept).combine_chunks()
        order = pc.sort_indices(table, [("source_time", "ascending"), ("signal_id", "ascending")])
        table = table.take(order).combine_chunks()
        self._name(table)
        self.first, self.next = max(1, size - _BUFFER + 1), size + 1
        number, digest = self.marked
        if number:
            self.moved = number > size or row_digest(_one(table, number - 1)) != digest
        if size:
            self.mark = (size, row_digest(_one(table, size - 1)))
        places = self._places(table)
        self.following = self.since + len(places) if self.verb == "sample" and self.since is not None else self.next
        self.sequences = [place + 1 for place in places]
        if places:
            for batch in table.take(pa.array(places, pa.int64())).combine_chunks().to_batches():
                yield batch

    def _places(self, table: pa.Table) -> list[int]:
        if self.verb == "probe":
            return []
        if self.verb == "current":
            newest = {signal: place for place, signal in enumerate(table.column("signal_id").to_pylist())}
            return sorted(newest.values())
        if self.since is None or self.moved:
            self.since = self.first
        if not self.first <= self.since <= self.next:
            raise MtconnectFault("OUT_OF_RANGE", f"'from' must be between {self.first} and {self.next}")
        return list(range(self.since - 1, min(self.since - 1 + self.count, table.num_rows)))

    def _name(self, table: pa.Table) -> None:
        import pyarrow.compute as pc

        numbers = table.column("signal_id")
        for signal in sorted(pc.unique(numbers).to_pylist()):
            mine = table.filter(pc.equal(numbers, signal))
            row = {name: mine.column(name)[0].as_py() for name in ("source", "signal", "unit")}
            numeric = mine.column("value_f64").null_count + mine.column("value_i64").null_count < 2 * mine.num_rows
            self.items[signal] = _Item(
                f"s{signal}", row["source"], row["signal"], row["unit"] or "", numeric and bool(row["unit"])
            )


class _Document:
    """Writes the answer once its observations are chosen."""

    form = _XML

    def __init__(self, choice: _Choice, sender: str, instance: int, at: str) -> None:
        self._choice = choice
        self._sender, self._at = sender, at
        self.instance = instance
        self._batches: list[pa.RecordBatch] = []

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """Nothing yet: the header tells what is known only at the end."""
        self._batches.append(batch)
        return b""

    def end(self) -> bytes:
        """The document."""
        choice = self._choice
        if choice.moved:
            self.instance += 1
        body = self._devices() if choice.verb == "probe" else self._streams()
        kind = "Devices" if choice.verb == "probe" else "Streams"
        place = (
            f' assetBufferSize="0" assetCount="0" bufferSize="{_BUFFER}"'
            if choice.verb == "probe"
            else f' bufferSize="{_BUFFER}" firstSequence="{choice.first}" lastSequence="{choice.next - 1}"'
            f' nextSequence="{choice.following}"'
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<MTConnect{kind} xmlns="urn:mtconnect.org:MTConnect{kind}:{_VERSION}" xmlns:x="urn:guantong:mtconnect:1">'
            f'<Header creationTime="{self._at}" sender={quoteattr(self._sender)} instanceId="{self.instance}"'
            f' version="{_VERSION}"{place}/>{body}</MTConnect{kind}>'
        ).encode()

    def _devices(self) -> str:
        made = []
        for source, items in self._by_source().items():
            rows = "".join(
                f'<DataItem id="{item.id}" name={quoteattr(item.name)} type="x:READING"'
                + (
                    f' category="SAMPLE" units={quoteattr(item.unit)} nativeUnits={quoteattr(item.unit)}/>'
                    if item.sample
                    else ' category="EVENT"/>'
                )
                for item in items
            )
            name = quoteattr(source)
            made.append(f"<Device id={_id(source)} name={name} uuid={name}><DataItems>{rows}</DataItems></Device>")
        return f"<Devices>{''.join(made)}</Devices>"

    def _streams(self) -> str:
        told: dict[str, dict[bool, list[str]]] = {}
        at = 0
        for batch in self._batches:
            columns = {name: batch.column(name).to_pylist() for name in _COLUMNS}
            times = batch.column("source_time").cast("int64").to_pylist()
            for row in range(batch.num_rows):
                item = self._choice.items[columns["signal_id"][row]]
                value = None if columns["status"][row] & _BAD else _value(columns, row)
                told.setdefault(item.source, {True: [], False: []})[item.sample].append(
                    f'<x:Reading dataItemId="{item.id}" name={quoteattr(item.name)} timestamp="{iso(times[row], digits=9)}"'
                    f' sequence="{self._choice.sequences[at]}">'
                    f"{'UNAVAILABLE' if value is None else escape(value)}</x:Reading>"
                )
                at += 1
        made = []
        for source, groups in told.items():
            parts = "".join(
                f"<{name}>{''.join(groups[sample])}</{name}>"
                for sample, name in ((True, "Samples"), (False, "Events"))
                if groups[sample]
            )
            name = quoteattr(source)
            made.append(
                f'<DeviceStream name={name} uuid={name}><ComponentStream component="Device" componentId={_id(source)}'
                f" name={name}>{parts}</ComponentStream></DeviceStream>"
            )
        return f"<Streams>{''.join(made)}</Streams>"

    def _by_source(self) -> dict[str, list[_Item]]:
        found: dict[str, list[_Item]] = {}
        for item in self._choice.items.values():
            found.setdefault(item.source, []).append(item)
        return found


class MtconnectServer:
    """Answers as an agent for every hosted participant."""

    def __init__(self, hosting: Hosting, plane: DataPlane) -> None:
        self._hosting = hosting
        self._plane = plane
        self._known: dict[tuple[str, str], tuple[int, tuple[int, str]]] = {}
        """Instance and the newest row that was told, of each transfer: as an agent, begun anew after a restart."""

    async def open(
        self, participant: str, pid: str, authorization: str, verb: str, query: Mapping[str, str]
    ) -> Outgoing:
        """One answer. Raises Refused with 401 or 403, MtconnectFault for what an agent answers with an error document."""
        transfer = await self._plane.admitted(participant, pid, _token(authorization))
        since = _number(query, "from", 1, 2**53)
        count = _number(query, "count", 1, _MAX_COUNT) or 100
        now = self._hosting.clock.now()
        instance, marked = self._known.get((participant, pid), (now // NS, (0, "")))
        choice = _Choice(verb, since, count, marked)
        document = _Document(choice, participant, instance, iso(now, digits=3))
        outgoing = await self._plane.stream(participant, transfer, choice, query, writer=document, whole=True)
        if len(self._known) >= self._hosting.settings.process_cache:
            self._known.pop(next(iter(self._known)))
        self._known[(participant, pid)] = (document.instance, choice.mark)
        return replace(outgoing, headers={**outgoing.headers, "content-type": _XML})

    def fault(self, participant: str, fault: MtconnectFault) -> bytes:
        """The error document of an agent."""
        at = iso(self._hosting.clock.now(), digits=3)
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<MTConnectError xmlns="urn:mtconnect.org:MTConnectError:{_VERSION}"><Header creationTime="{at}"'
            f' sender={quoteattr(participant)} instanceId="0" version="{_VERSION}" bufferSize="{_BUFFER}"/>'
            f'<Errors><Error errorCode="{fault.code}">{escape(str(fault))}</Error></Errors></MTConnectError>'
        ).encode()


_COLUMNS = ("signal_id", "status", "value_f64", "value_i64", "value_text", "value_bool")


def _value(columns: Mapping[str, list[Any]], row: int) -> str | None:
    for name in _COLUMNS[2:]:
        value = columns[name][row]
        if value is not None:
            return ("true" if value else "false") if isinstance(value, bool) else _plain(str(value))
    return None


def _plain(text: str) -> str:
    # what XML 1.0 can't hold
    return "".join(char if char >= " " or char in "\t\n\r" else "\ufffd" for char in text)


def _one(table: pa.Table, place: int) -> pa.RecordBatch:
    batch: pa.RecordBatch = table.slice(place, 1).combine_chunks().to_batches()[0]
    return batch


def _id(source: str) -> str:
    return quoteattr("d" + source.encode().hex()[:60])


def _token(authorization: str) -> str:
    """The transfer's token; MTConnect clients that know only HTTP's own sign-in send it as the password."""
    if not authorization.startswith("Basic "):
        return authorization
    try:
        return base64.b64decode(authorization[6:], validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def _number(query: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 17 and low <= int(text) <= high):
        raise MtconnectFault(
            "INVALID_REQUEST" if not text.isdigit() else "OUT_OF_RANGE", f"'{name}' must be {low} to {high}"
        )
    return int(text)


def _invalid(reason: str) -> Refused:
    return Refused("exchange.message-invalid", message="MTConnect request", reason=reason)
