"""Recordings of SHDR: files of lines, read in large pieces at the speed of the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from guantong.base.errors import ConfigProblem
from guantong.connect.columns import Readings
from guantong.connect.delivery import Delivery
from guantong.connect.shdr import Item, ShdrParser
from guantong.connect.wrapped import Mender

__all__ = ["PIECE_BYTES", "read_shdr_log"]

PIECE_BYTES = 4 * 1024 * 1024
"""How much of the file is read at once."""

_NOTED = 1_000
"""Most mended lines that the note of one batch names."""


async def read_shdr_log(path: Path, delivery: Delivery, items: Mapping[str, Item] | None = None) -> dict[str, Any]:
    """Read a recording to its end. Every non-empty line gives readings or is quarantined with its byte offset; a line that a screen or a
    script broke is put together first and counts as one (``note['mended']``: offset, how, the line).

    Returns ``fields``, how many lines of so many fields gave readings (three for a value, seven for a condition, …), and ``mended``, how
    many lines were put together. Raises ConfigProblem ``connect.file-unreadable``.
    """
    import asyncio

    parser = ShdrParser(items, recording=True)
    mender = Mender()
    limit = delivery.settings.line_bytes
    pieces = _pieces(path, limit)
    held: tuple[list[str], list[int]] = ([], [])
    count_mended = 0
    while True:
        piece = await asyncio.to_thread(next, pieces, None)
        receive = delivery.clock.now()
        mended = mender.rest() if piece is None else mender.feed(*_lines(*piece, limit, delivery))
        lines, offsets = held[0] + mended.lines, held[1] + mended.offsets
        made = [{"offset": offset, "how": how, "text": text[:200]} for offset, how, text in mended.made]
        count_mended += len(made)
        # the last line is judged beside the next one
        end_all = len(lines) if piece is None else max(0, len(lines) - 1)
        held = lines[end_all:], offsets[end_all:]
        step = delivery.settings.file_batch_rows
        for begin in range(0, end_all, step):
            end = min(begin + step, end_all)
            window, places = lines[begin : end + 1], offsets[begin:end]
            rows = Readings()
            count, parsed = parser.feed(window, places, receive, rows, delivery.quarantine, upto=end - begin)
            delivery.lines(count, parsed)
            delivery.note(file=path.name, offset=places[0], readings=len(rows))
            if made:
                delivery.note(mended=made[:_NOTED])
                made = []
            await delivery.send(rows.batch(), {}, lag_s=rows.newest_lag_s())
            await asyncio.sleep(0)
        if piece is None:
            break
    fields = {str(width): count for width, count in sorted(parser.fields.items())}
    return {"fields": fields, "mended": count_mended}


def _lines(raw: bytes, offset: int, limit: int, delivery: Delivery) -> tuple[list[str], list[int]]:
    """The piece's lines as text with their offsets; what is too long or no text is quarantined."""
    lines, offsets = [], []
    bad = 0
    found: list[str | bytes] = []
    found.extend(raw.decode("ascii").split("\n") if raw.isascii() else raw.split(b"\n"))
    for number, line in enumerate(found):
        size = len(line)
        if size > limit:
            bad += 1
            text = line[:200] if isinstance(line, str) else line[:200].decode("utf-8", "replace")
            delivery.quarantine(offset, "too-long", text)
        elif isinstance(line, str):
            lines.append(line)
            offsets.append(offset)
        else:
            try:
                lines.append(line.decode("utf-8-sig" if offset == 0 and number == 0 else "utf-8"))
                offsets.append(offset)
            except UnicodeDecodeError:
                bad += 1
                delivery.quarantine(offset, "not-text", line[:200].decode("utf-8", "replace"))
        offset += size + 1
    delivery.lines(bad, 0)
    return lines, offsets


def _pieces(path: Path, limit: int) -> Iterator[tuple[bytes, int]]:
    """Whole lines and the offset of the first."""
    try:
        with path.open("rb") as file:
            offset, rest = 0, b""
            while True:
                data = file.read(PIECE_BYTES)
                if not data:
                    break
                data = rest + data
                end = data.rfind(b"\n")
                if end < 0:
                    if len(data) > max(limit * 2, PIECE_BYTES * 4):
                        raise ConfigProblem("connect.file-unreadable", path=path.name, reason="no lines in it")
                    rest = data
                    continue
                yield data[:end], offset
                rest = data[end + 1 :]
                offset += end + 1
            if rest:
                yield rest, offset
    except OSError as error:
        raise ConfigProblem("connect.file-unreadable", path=str(path), reason=error.strerror or str(error)) from error
