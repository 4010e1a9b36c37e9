"""How a node and its query process speak: length-prefixed frames of one JSON header and Arrow streams, over the process's pipes.

A frame: 4 bytes length of the header, 8 bytes length of the body (both big-endian), header, body. The header's ``parts`` are the lengths
of the Arrow IPC streams in the body. Both ends are of one installation, so there is no version.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["opened", "read", "write"]

_LENGTHS = struct.Struct(">IQ")


def write(out: IO[bytes], header: Mapping[str, Any], tables: Sequence[pa.Table] = ()) -> None:
    """Write one frame."""
    import pyarrow as pa

    bodies: list[Any] = []
    for table in tables:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        bodies.append(sink.getvalue())
    head = orjson.dumps({**header, "parts": [body.size for body in bodies]})
    for piece in (_LENGTHS.pack(len(head), sum(body.size for body in bodies)) + head, *bodies):
        left = memoryview(piece)
        while left:
            left = left[out.write(left) :]
    out.flush()


def read(source: IO[bytes]) -> tuple[dict[str, Any], memoryview] | None:
    """The next frame, or None at the end of the stream, be it in the middle of a frame."""
    lengths = _exactly(source, _LENGTHS.size)
    if lengths is None:
        return None
    head_size, body_size = _LENGTHS.unpack(lengths)
    head, body = _exactly(source, head_size), _exactly(source, body_size)
    return None if head is None or body is None else (orjson.loads(head), body)


def opened(header: Mapping[str, Any], body: memoryview) -> list[pa.Table]:
    """The tables of a frame, without a copy."""
    import pyarrow as pa

    found, at = [], 0
    for size in header["parts"]:
        with pa.ipc.open_stream(pa.py_buffer(body[at : at + size])) as reader:
            found.append(reader.read_all())
        at += size
    return found


def _exactly(source: IO[bytes], size: int) -> memoryview | None:
    whole = memoryview(bytearray(size))
    left = whole
    while left:
        count = source.readinto(left)  # type: ignore[attr-defined]
        if not count:
            return None
        left = left[count:]
    return whole
