"""Evidence: entries per second until a signed, durable checkpoint covers them; proofs; verification of a package; proofs of a large log.

Run: ``.venv/bin/python bench/prove.py [--entries N] [--runs N] [--leaves N] [--receipts N]``. The peer of the first table is a plain hash
chain in SQLite (WAL, ``synchronous=FULL``, one row a record, each with the SHA-256 over the one before and the record), written in the
same run with as many records a commit: what most systems call tamper-evident, without signature, proof or witness. The disk's own flush
time is printed because it decides the first row. Published figures of others stand in facts, not here.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import importlib.util
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from guantong.base.canonical import canonical_bytes
from guantong.base.clock import SystemClock
from guantong.base.entry import Entry, EntryKind
from guantong.base.keys import Ed25519Key
from guantong.base.merkle import Frontier, Tile, inclusion_proof, leaf_hash, verify_inclusion
from guantong.keep.blobs import FolderBlobs
from guantong.prove.model import ProveKeys, ProveSettings
from guantong.prove.service import Prove
from guantong.prove.tree import Tree, blob_name
from guantong.records import METADATA, Records

KIND = EntryKind("bench.noted", "", "", {})
BODY = {f"field{number}": "x" * 24 for number in range(16)}  # a leaf of about 660 bytes, as a usage record has
DID = "did:web:bench.example"


def flush_ms(folder: Path) -> float:
    """Median time of one flush to this disk."""
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
    """Entries a second recorded, and until a checkpoint covers them; proofs a second; checkpoints."""
    from sqlalchemy import select

    from guantong.prove.tables import CHECKPOINTS

    records = Records(f"sqlite:///{folder / 'records.db'}", SystemClock())
    records.open(METADATA.create_all)
    keys = ProveKeys(Ed25519Key.generate(), Ed25519Key.generate())
    prove = Prove(
        records, FolderBlobs(folder / "blobs"), SystemClock(), None, lambda _: keys, ProveSettings(gather_s=0.02)
    )
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
    checkpoints = len(await records.rows(select(CHECKPOINTS.c.size)))
    chosen = random.Random(1).sample(range(head.size), min(500, head.size))
    start = time.perf_counter()
    proofs = [await prove.inclusion(DID, index, head) for index in chosen]
    taken = time.perf_counter() - start
    for index, proof in zip(chosen, proofs, strict=True):
        leaf = await prove.leaf(DID, index)
        assert leaf is not None
        assert verify_inclusion(leaf_hash(leaf), index, head.size, proof.path, head.root)
    await prove.stop()
    records.close()
    return entries / recorded, entries / proven, len(chosen) / taken, checkpoints


def chain(per_commit: int, entries: int, folder: Path) -> float:
    """Entries a second of a plain hash chain."""
    database = sqlite3.connect(folder / "chain.db", isolation_level=None)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    database.execute("create table chain (number integer primary key, record blob, hash blob)")
    before, number = bytes(32), 0
    start = time.perf_counter()
    for _ in range(entries // per_commit):
        database.execute("begin")
        for _ in range(per_commit):
            record = canonical_bytes({**BODY, "n": number})
            before = hashlib.sha256(before + record).digest()
            database.execute("insert into chain values (?, ?, ?)", (number, record, before))
            number += 1
        database.execute("commit")
    taken = time.perf_counter() - start
    database.close()
    return number / taken


def appends(entries: int, runs: int) -> None:
    """The first table."""
    print(
        "entries/s until a signed durable checkpoint covers them (min/median/max), beside a plain hash chain in SQLite"
    )
    for per_commit in (1, 10, 100, 1000):
        count = entries if per_commit > 1 else entries // 4
        rates, steps, proofs, flush, chains, checkpoints = [], [], [], [], [], 0
        for _ in range(runs):
            with tempfile.TemporaryDirectory() as folder:
                flush.append(flush_ms(Path(folder)))
                recorded, proven, cut, checkpoints = asyncio.run(run(per_commit, count, Path(folder)))
                chains.append(chain(per_commit, count, Path(folder)))
            rates.append(proven)
            steps.append(recorded)
            proofs.append(cut)
        middle, peer = statistics.median(rates), statistics.median(chains)
        print(
            f"  {per_commit:>4} a commit: {min(rates):>7,.0f}/{middle:>7,.0f}/{max(rates):>7,.0f}   recording alone {statistics.median(steps):,.0f}/s   "
            f"{checkpoints} checkpoints   proofs {statistics.median(proofs):,.0f}/s   flush {statistics.median(flush):.2f} ms   "
            f"chain {peer:,.0f}/s   {middle / peer:.2f} x chain"
        )


async def large(leaves: int, folder: Path) -> tuple[list[float], list[float]]:
    """Milliseconds, and of them on the processor, of each inclusion proof in a log of so many leaves whose tiles are files."""
    blobs, edge, frontier = FolderBlobs(folder), [[] for _ in range(8)], Frontier()
    for number in range(leaves):
        ended = frontier.append(leaf_hash(b"%d" % number))
        for level in range((len(ended) + 7) // 8):
            edge[level].append(ended[8 * level])
            if len(edge[level]) == 256:
                tile = Tile(level, (frontier.size >> (8 * level)) // 256 - 1)
                path = folder / blob_name(DID, tile)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"".join(edge[level]))
                edge[level] = []

    async def read(first: int, end: int) -> list[bytes]:
        return [b"%d" % number for number in range(first, min(end, leaves))]

    tree = Tree(DID, blobs, read)
    await tree.resume(leaves, frontier.to_bytes())
    root, taken, worked = frontier.root(), [], []
    for index in random.Random(2).sample(range(leaves), 300):
        start, work = time.perf_counter(), time.process_time()
        path = await tree.prove(lambda node, index=index: inclusion_proof(node, index, leaves))
        taken.append((time.perf_counter() - start) * 1000)
        worked.append((time.process_time() - work) * 1000)
        assert verify_inclusion(leaf_hash(b"%d" % index), index, leaves, path, root)
    return taken, worked


def verification(receipts: int, runs: int) -> tuple[list[float], list[float], int]:
    """Seconds to verify a package of so many receipts, of them on the processor, and its size."""
    from guantong.verify import verify_package

    spec = importlib.util.spec_from_file_location("bench_world", "tests/verify/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_world"] = module
    spec.loader.exec_module(module)
    world = module.World(rows=tuple(range(1, receipts + 1)))
    data, trust, taken, worked = world.pack(), world.trust(), [], []
    for _ in range(runs):
        start, work = time.perf_counter(), time.process_time()
        report = verify_package(data, trust)
        taken.append(time.perf_counter() - start)
        worked.append(time.process_time() - work)
        assert report.verdict == "ok", report.text()
        assert report.receipts == {"acknowledged": receipts}
    return taken, worked, len(data)


def three(values: list[float], digits: int = 2) -> str:
    """min/median/max."""
    return "/".join(f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--leaves", type=int, default=10_000_000)
    parser.add_argument("--receipts", type=int, default=1000)
    options = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}")
    appends(options.entries, options.runs)
    taken, worked, size = verification(options.receipts, options.runs)
    print(
        f"a package of {options.receipts:,} receipts ({size / 1e6:.1f} MB) verified in {three(taken)} s, {three(worked)} s of it on the processor"
    )
    with tempfile.TemporaryDirectory() as folder:
        taken, worked = asyncio.run(large(options.leaves, Path(folder)))
    print(
        f"an inclusion proof in a log of {options.leaves:,} leaves, tiles from files: {three(taken)} ms, {three(worked)} ms of it on the processor"
    )
    print(f"load after: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
