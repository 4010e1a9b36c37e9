"""Bodies of deliveries: record batches as Arrow IPC stream, CSV or JSON on the way out, and the Arrow stream read piece by piece."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import orjson

from guantong.base.errors import Skippable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ARROW", "CSV", "JSON", "ArrowReader", "Encoder", "Writer", "negotiated"]

ARROW = "application/vnd.apache.arrow.stream"
CSV = "text/csv"
JSON = "application/json"

_CONTINUATION = b"\xff\xff\xff\xff"
_MAX_MESSAGE = 256 * 1024 * 1024


def negotiated(accept: str) -> str:
    """The form a caller wants: Arrow unless it asks for CSV or JSON first."""
    for part in accept.split(","):
        kind = part.split(";")[0].strip().lower()
        if kind in (ARROW, CSV, JSON):
            return kind
    return ARROW


class Writer(Protocol):
    """Turns record batches of one schema into the pieces of a body."""

    form: str
    """Media type of the body."""

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """The next piece."""
        ...

    def end(self) -> bytes:
        """What stands at the end."""
        ...


class Encoder:
    """Turns record batches of one schema into the pieces of a body."""

    def __init__(self, form: str) -> None:
        self.form = form
        self._sink: _Sink | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._begun = False

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """The next piece; the first one also carries what stands at the beginning."""
        if self.form == ARROW:
            import pyarrow as pa

            if self._writer is None:
                self._sink = _Sink()
                self._writer = pa.ipc.new_stream(self._sink, batch.schema)
            self._writer.write_batch(batch)
            assert self._sink is not None
            return self._sink.take()
        if self.form == CSV:
            import pyarrow as pa
            from pyarrow import csv

            out = pa.BufferOutputStream()
            csv.write_csv(batch, out, csv.WriteOptions(include_header=not self._begun))
            self._begun = True
            return bytes(out.getvalue())
        rows = b",".join(orjson.dumps(row, default=str) for row in batch.to_pylist())
        if not rows:
            return b""
        lead = b"," if self._begun else b"["
        self._begun = True
        return lead + rows

    def end(self) -> bytes:
        """What stands at the end; an empty delivery is a valid empty body."""
        if self.form == ARROW:
            if self._writer is None or self._sink is None:
                return b""
            self._writer.close()
            return self._sink.take()
        if self.form == JSON:
            return b"]" if self._begun else b"[]"
        return b""


class _Sink:
    """A file that pyarrow writes to and we take from."""

    closed = False
    mode = "wb"

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


class ArrowReader:
    """Reads an Arrow IPC stream from pieces of any size. Source: Arrow columnar format, Encapsulated message format."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head = b""
        self._schema: pa.Schema | None = None
        self._dictionaries = b""
        self._ended = False

    def feed(self, data: bytes) -> Iterator[pa.RecordBatch]:
        """The record batches that are complete with this piece. Raises Skippable ``exchange.body-unreadable``."""
        import pyarrow as pa

        self._buffer += data
        try:
            while not self._ended:
                size = self._complete()
                if size == 0:
                    return
                message = bytes(self._buffer[:size])
                del self._buffer[:size]
                if size == 8 and message[4:] == b"\0\0\0\0":
                    self._ended = True
                elif self._schema is None:
                    self._schema = pa.ipc.read_schema(pa.py_buffer(message))
                    self._head = message
                elif _kind(message) == 2:
                    self._dictionaries += message
                elif self._dictionaries:
                    stream = self._head + self._dictionaries + message + _CONTINUATION + b"\0\0\0\0"
                    for batch in pa.ipc.open_stream(pa.py_buffer(stream)):
                        batch.validate(full=True)
                        yield batch
                else:
                    batch = pa.ipc.read_record_batch(pa.ipc.read_message(pa.py_buffer(message)), self._schema)
                    batch.validate(full=True)
                    yield batch
        except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, struct.error, MemoryError) as error:
            # pyarrow answers hostile bytes with exceptions of many classes
            raise Skippable("exchange.body-unreadable", reason=str(error)[:200]) from error

    @property
    def complete(self) -> bool:
        """Whether the stream came to its end marker (or held nothing at all)."""
        return self._ended or (self._schema is None and not self._buffer)

    def _complete(self) -> int:
        """Bytes of the first message in the buffer, 0 while it is not all there."""
        buffer = self._buffer
        if len(buffer) < 8:
            return 0
        if buffer[:4] != _CONTINUATION:
            raise Skippable("exchange.body-unreadable", reason="it is no Arrow IPC stream")
        (metadata,) = struct.unpack_from("<i", buffer, 4)
        if metadata == 0:
            return 8
        if not 0 < metadata <= _MAX_MESSAGE:
            raise Skippable("exchange.body-unreadable", reason="a message is too large")
        if len(buffer) < 8 + metadata:
            return 0
        body = _body_length(buffer)
        if not 0 <= body <= _MAX_MESSAGE:
            raise Skippable("exchange.body-unreadable", reason="a message is too large")
        size = 8 + metadata + body
        return size if len(buffer) >= size else 0


def _field(buffer: bytes | bytearray, slot: int) -> int:
    """Position of a field of the flatbuffer table ``Message`` that begins at 8, 0 where it is absent."""
    table = 8 + int(struct.unpack_from("<I", buffer, 8)[0])
    vtable = table - int(struct.unpack_from("<i", buffer, table)[0])
    if slot * 2 + 4 >= int(struct.unpack_from("<H", buffer, vtable)[0]):
        return 0
    offset = int(struct.unpack_from("<H", buffer, vtable + 4 + slot * 2)[0])
    return table + offset if offset else 0


def _body_length(buffer: bytes | bytearray) -> int:
    at = _field(buffer, 3)
    return int(struct.unpack_from("<q", buffer, at)[0]) if at else 0


def _kind(buffer: bytes | bytearray) -> int:
    # MessageHeader: 1 Schema, 2 DictionaryBatch, 3 RecordBatch
    at = _field(buffer, 1)
    return int(buffer[at]) if at else 0
