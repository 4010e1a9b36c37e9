"""NIST's raw recordings beside NIST's own repair of them, line by line with a verdict: ``python -m bench.raw_clean [--lines | --json] [--data DIR]``.

``tdp_mtc/Raw`` was copied off a terminal that broke each line at 80 columns; ``tdp_mtc/Clean`` is NIST's repair, made by a script that
begins a line at every ``2017``. The reference is read here by splitting its lines, by none of guantong's code; guantong reads the raw
file as it reads any recording. Verdicts:

- ``joined``: the raw file broke the line in pieces; put together it is the reference's line.
- ``indented``: the raw file has blanks before the line and no other difference.
- ``edge``: the line ended at the edge of the screen, so that no blanks and no break mark its end; it is the reference's line.
- ``reference broken``: the reference has broken the line at the digits of the year; the neighbours' numbers are given. guantong is better.
- ``lost`` / ``added``: a line of the reference that guantong doesn't give, or the other way round. There must be none.

It ends with 1 if a value of the reference is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guantong.base.batch import Batch
from guantong.base.clock import SystemClock, parse_iso
from guantong.connect.delivery import Delivery
from guantong.connect.model import ConnectSettings, Interface
from guantong.connect.shdr import typed
from guantong.connect.shdr_log import read_shdr_log
from guantong.connect.wrapped import Mender

DATA = Path(__file__).resolve().parents[2] / "shared/data/nist_smstestbed/tdp_mtc"
DAY = "1-31-2017"

Reading = tuple[int, str, str]


class Shelf:
    """A sink that keeps the batches."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    async def take(self, participant: str, batch: Batch) -> int:
        """Put it with the others."""
        self.batches.append(batch)
        return len(self.batches)


async def _read(path: Path) -> tuple[list[Reading], list[dict[str, Any]]]:
    shelf = Shelf()
    delivery = Delivery(
        "did:web:bench", Interface("log", "shdr-log", path.as_uri()), shelf, SystemClock(), ConnectSettings()
    )
    await read_shdr_log(path, delivery)
    await delivery.flush()
    found: list[Reading] = []
    refused: list[dict[str, Any]] = []
    for batch in shelf.batches:
        refused += batch.note.get("quarantined") or ()  # type: ignore[arg-type]
        rows = batch.rows
        columns = [rows.column(name).to_pylist() for name in ("value_f64", "value_i64", "value_text")]
        values = [next((value for value in row if value is not None), None) for row in zip(*columns, strict=True)]
        times = rows.column("source_time").cast("int64").to_pylist()
        found += zip(times, rows.column("signal").to_pylist(), map(str, values), strict=True)
    return found, refused


def readings_of(path: Path) -> tuple[list[Reading], list[dict[str, Any]]]:
    """What guantong reads in a recording, and what it quarantines."""
    return asyncio.run(_read(path))


def reference_of(lines: Sequence[str]) -> tuple[list[Reading], list[int]]:
    """What the reference's lines say, and the numbers (from 1) of those that are no whole line."""
    found: list[Reading] = []
    broken: list[int] = []
    for number, line in enumerate(lines, 1):
        time, *rest = line.split("|")
        if not rest or len(rest) % 2 or line[10:11] != "T":
            broken.append(number)
            continue
        found += [(parse_iso(time), key, str(typed(value))) for key, value in zip(rest[::2], rest[1::2], strict=True)]
    return found, broken


def compare(raw: Path, clean: Path) -> dict[str, Any]:
    """Each line of the reference that stands otherwise in the raw file, with its verdict, and the values that only one of both has."""
    physical = raw.read_text("ascii").split("\n")[:-1]
    reference = clean.read_text("ascii").split("\n")
    reference = reference[:-1] if reference[-1] == "" else reference
    starts, offset = [], 0
    for line in physical:
        starts.append(offset)
        offset += len(line) + 1
    mender = Mender()
    first, last = mender.feed(physical, starts), mender.rest()
    lines, offsets = first.lines + last.lines, first.offsets + last.offsets
    place = {start: number for number, start in enumerate(starts)}
    rows: list[dict[str, Any]] = []
    verdicts: Counter[str] = Counter()
    for number in range(max(len(lines), len(reference))):
        ours = lines[number] if number < len(lines) else None
        theirs = reference[number] if number < len(reference) else None
        begin = max((start for start in starts if ours is not None and start <= offsets[number]), default=0)
        at = place[begin]
        pieces = 1
        while ours is not None and sum(map(len, physical[at : at + pieces])) - (offsets[number] - begin) < len(ours):
            pieces += 1
        if ours != theirs:
            verdict = "lost" if ours is None else "added" if theirs is None else "differs"
        elif pieces > 1:
            verdict = "joined"
        elif physical[at] != ours:
            verdict = "indented"
        elif len(physical[at]) == 80:
            verdict = "edge"
        else:
            verdict = "same"
        if verdict == "joined" and len(physical[at + pieces - 1]) == 80:
            verdict = "edge"
        verdicts[verdict] += 1
        if verdict != "same":
            rows.append(
                {
                    "reference_line": number + 1,
                    "raw_lines": [at + 1, at + pieces],
                    "verdict": verdict,
                    "text": ours if ours is not None else theirs,
                }
            )
    found, refused = readings_of(raw)
    wanted, broken = reference_of(reference)
    lost, added = Counter(wanted) - Counter(found), Counter(found) - Counter(wanted)
    return {
        "raw": raw.name,
        "clean": clean.name,
        "raw_lines": len(physical),
        "reference_lines": len(reference),
        "reference_broken": broken,
        "quarantined": len(refused),
        "readings": {"reference": len(wanted), "guantong": len(found)},
        "verdicts": dict(sorted(verdicts.items())),
        "lost": sorted(map(list, lost.elements())),
        "added": sorted(map(list, added.elements())),
        "differing": rows,
    }


def better(path: Path) -> list[dict[str, Any]]:
    """The lines of a repaired file that the repair itself broke, with what guantong reads there and the neighbours' numbers."""
    lines = path.read_text("ascii").split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    _, broken = reference_of(lines)
    if not broken:
        return []
    found = {(time, key): value for time, key, value in readings_of(path)[0]}
    rows = []
    for number in broken:
        time, key, begun = lines[number - 2].split("|")
        value = found.get((parse_iso(time), key))
        rows.append(
            {
                "file": path.name,
                "lines": [number - 1, number],
                "reference": [lines[number - 2], lines[number - 1]],
                "verdict": "reference broken",
                "signal": key,
                "reference_value": begun,
                "guantong_value": value,
                "before": _neighbour(lines, number - 3, key, -1),
                "after": _neighbour(lines, number, key, 1),
            }
        )
    return rows


def _neighbour(lines: Sequence[str], index: int, key: str, step: int) -> str | None:
    while 0 <= index < len(lines):
        fields = lines[index].split("|")
        if len(fields) == 3 and fields[1] == key:
            return fields[2]
        index += step
    return None


def report(data: Path) -> dict[str, Any]:
    """Everything: the two pairs of 31 January 2017, and the files that have a repair only."""
    pairs = [
        compare(data / f"Raw/{DAY}-{machine}.txt", data / f"Clean/{DAY}-{machine}-Clean.txt")
        for machine in ("Hurco02", "Hurco04")
    ]
    others = [*sorted((data / "Clean").glob("2-*.txt")), *sorted((data / "PartData").glob("*.txt"))]
    return {"pairs": pairs, "better": [row for path in others for row in better(path)]}


def show(found: Mapping[str, Any], *, lines: bool) -> None:
    """The same for people."""
    for pair in found["pairs"]:
        print(f"\n{pair['raw']}: {pair['raw_lines']} lines, {pair['clean']}: {pair['reference_lines']} lines")
        for row in pair["differing"] if lines else ():
            first, last = row["raw_lines"]
            print(f"  {row['reference_line']:>4}  raw {first:>3}-{last:<3}  {row['verdict']:<9} {row['text'][:90]}")
        print(
            f"  {pair['readings']['guantong']} readings of {pair['readings']['reference']}, lost {len(pair['lost'])}, "
            f"added {len(pair['added'])}, quarantined {pair['quarantined']}; {pair['verdicts']}"
        )
    print("\nLines that the repair broke and guantong reads whole:")
    for row in found["better"]:
        print(
            f"  {row['file']} {row['lines'][0]}-{row['lines'][1]}: {row['signal']} {row['reference_value']!r} + "
            f"{row['reference'][1]!r} is {row['guantong_value']} (before {row['before']}, after {row['after']})"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = argparse.ArgumentParser(
        prog="python -m bench.raw_clean", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    options.add_argument("--lines", action="store_true", help="every line that differs")
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--data", type=Path, default=DATA, help="the folder tdp_mtc")
    given = options.parse_args(arguments)
    found = report(given.data)
    if given.json:
        print(json.dumps(found))
    else:
        show(found, lines=given.lines)
    return int(any(pair["lost"] for pair in found["pairs"]))


if __name__ == "__main__":
    sys.exit(main())
