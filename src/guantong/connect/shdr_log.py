"""Recordings of SHDR: files of lines, read in large pieces at the speed of the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from guantong.base.errors import ConfigProblem
from guantong.connect.columns import Readings
from guantong.connect.delivery import Delivery
from guantong.connect.shdr import Item, ShdrParser

__all__ = ["PIECE_BYTES", "read_shdr_log"]

PIECE_BYTES = 4 * 1024 * 1024
"""How much of the file is read at once."""


async def read_shdr_log(path: Path, delivery: Delivery, items: Mapping[str, Item] | None = None) -> dict[str, int]:
    """Read a recording to its end. Every non-empty line gives readings or is quarantined with its byte offset.

    Returns how many lines of so many fields gave readings: three for a value, seven for a condition, … . Raises ConfigProblem ``connect.file-unreadable``.
    """
    import asyncio

    parser = ShdrParser(items, recording=True)
    limit = delivery.settings.line_bytes
    pieces = _pieces(path, limit)
    while True:
        piece = await asyncio.to_thread(next, pieces, None)
        if piece is None:
            break
        raw, offset, ahead = piece
        receive = delivery.clock.now()
        lines, offsets = [], []
        bad: list[tuple[int, str, str]] = []
        found: list[str | bytes] = []
        found.extend(raw.decode("ascii").split("\n") if raw.isascii() else raw.split(b"\n"))
        for number, line in enumerate(found):
            size = len(line)
            if size > limit:
                bad.append(
                    (offset, "too-long", line[:200] if isinstance(line, str) else line[:200].decode("utf-8", "replace"))
                )
            elif isinstance(line, str):
                lines.append(line)
                offsets.append(offset)
            else:
                try:
                    lines.append(line.decode("utf-8-sig" if offset == 0 and number == 0 else "utf-8"))
                    offsets.append(offset)
                except UnicodeDecodeError:
                    bad.append((offset, "not-text", line[:200].decode("utf-8", "replace")))
            offset += size + 1
        for place, reason, text in bad:
            delivery.quarantine(place, reason, text)
        delivery.lines(len(bad), 0)
        wanted = len(lines)
        if ahead:
            lines.append(ahead)
        step = delivery.settings.file_batch_rows
        for begin in range(0, wanted, step):
            end = min(begin + step, wanted)
            window, places = lines[begin : end + 1], offsets[begin:end]
            rows = Readings()
            count, parsed = parser.feed(window, places, receive, rows, delivery.quarantine, upto=end - begin)
            delivery.lines(count, parsed)
            delivery.note(file=path.name, offset=places[0], readings=len(rows))
            await delivery.send(rows.batch(), {}, lag_s=rows.newest_lag_s())
            await asyncio.sleep(0)
    return {str(width): count for width, count in sorted(parser.fields.items())}


def _pieces(path: Path, limit: int) -> Iterator[tuple[bytes, int, str]]:
    """Whole lines, the offset of the first, and the line that follows them (only to be looked at)."""
    try:
        with path.open("rb") as file:
            offset, rest = 0, b""
            while True:
                data = file.read(PIECE_BYTES)
                if not data:
                    break
                data = rest + data
                # one complete line is held back, because a line can be judged only beside the next
                end = data.rfind(b"\n")
                cut = data.rfind(b"\n", 0, end) if end > 0 else -1
                if cut < 0:
                    if len(data) > max(limit * 2, PIECE_BYTES * 4):
                        raise ConfigProblem("connect.file-unreadable", path=path.name, reason="no lines in it")
                    rest = data
                    continue
                yield data[:cut], offset, data[cut + 1 : end][: limit + 1].decode("utf-8", "replace")
                rest = data[cut + 1 :]
                offset += cut + 1
            if rest:
                yield rest, offset, ""
    except OSError as error:
        raise ConfigProblem("connect.file-unreadable", path=str(path), reason=error.strerror or str(error)) from error
