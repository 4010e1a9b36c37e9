"""Evidence log: entries per second from the step until a signed, durable checkpoint covers them; proofs and verification beside it.

Run: ``.venv/bin/python bench/prove.py [--entries N] [--runs N]``. Peer: the design measurement of facts (Python, SQLite WAL with full
sync, one thread, a signature per record): 1,813/s at one entry a commit, 8,168/s at 10, 12,449/s at 100, on another machine of 2 cores.
Ours signs once a checkpoint; the disk's own flush time is printed because it decides the first row.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from guantong.base.clock import SystemClock
from guantong.base.entry import Entry, EntryKind
from guantong.base.keys import Ed25519Key
from guantong.base.merkle import leaf_hash, verify_inclusion
from guantong.keep.blobs import FolderBlobs
from guantong.prove.model import ProveKeys
from guantong.prove.service import Prove
from guantong.records import METADATA, Records

KIND = EntryKind("bench.noted", "", "", {})
BODY = {f"field{number}": "x" * 24 for number in range(16)}  # a leaf of about 660 bytes, as a usage record has
PEER = {1: 1813, 10: 8168, 100: 12449}
DID = "did:web:bench.example"


def flush_ms(folder: Path) -> float:
    taken = []
    with (folder / "flush").open("wb") as file:
        for _ in range(50):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


async def run(per_commit: int, entries: int, folder: Path) -> tuple[float, float, float, int]:
    records = Records(f"sqlite:///{folder / 'records.db'}", SystemClock())
    records.open(METADATA.create_all)
    keys = ProveKeys(Ed25519Key.generate(), Ed25519Key.generate())
    prove = Prove(records, FolderBlobs(folder / "blobs"), SystemClock(), None, lambda _: keys)
    await prove.add(DID)
    await prove.start()
    start = time.perf_counter()
    for _ in range(entries // per_commit):
        async with records.step(DID) as step:
            for _ in range(per_commit):
                step.record(Entry(KIND, BODY))
    recorded = time.perf_counter() - start
    while True:
        head = await prove.catch_up(DID)
        if head is not None and head.size >= entries // per_commit * per_commit:
            break
    proven = time.perf_counter() - start
    checkpoints = len(await records.rows(_checkpoints()))
    start = time.perf_counter()
    for index in range(0, head.size, max(1, head.size // 200)):
        proof = await prove.inclusion(DID, index, head)
        leaf = await prove.leaf(DID, index)
        assert leaf is not None
        assert verify_inclusion(leaf_hash(leaf), index, head.size, proof.path, head.root)
    proof_ms = (time.perf_counter() - start) * 1000 / len(range(0, head.size, max(1, head.size // 200)))
    await prove.stop()
    records.close()
    return entries / recorded, entries / proven, proof_ms, checkpoints


def _checkpoints():
    from sqlalchemy import select

    from guantong.prove.tables import CHECKPOINTS

    return select(CHECKPOINTS.c.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print("evidence log, entries/s until a signed durable checkpoint covers them (min/median/max)")
    for per_commit in (1, 10, 100):
        rates, steps, proofs, flush, count = [], [], [], [], 0
        for _ in range(options.runs):
            with tempfile.TemporaryDirectory() as folder:
                flush.append(flush_ms(Path(folder)))
                recorded, proven, proof_ms, count = asyncio.run(run(per_commit, options.entries, Path(folder)))
            rates.append(proven)
            steps.append(recorded)
            proofs.append(proof_ms)
        middle = statistics.median(rates)
        print(
            f"  {per_commit:>4} a commit: {min(rates):>7,.0f}/{middle:>7,.0f}/{max(rates):>7,.0f}   "
            f"recording alone {statistics.median(steps):,.0f}/s   {count} checkpoints   proof {statistics.median(proofs):.2f} ms   "
            f"flush {statistics.median(flush):.2f} ms   {middle / PEER[per_commit]:.2f} x peer"
        )


if __name__ == "__main__":
    main()
