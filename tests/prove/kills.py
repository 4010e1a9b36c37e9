"""Kill -9 at random points of append, witness and receipt exchange: ``python -m tests.prove.kills --kills 100 [--seed N]``.

A process holds two companies' evidence rooms on disk: both append in bursts, each witnesses the other's log, and receipts are exchanged
(usage record, countersignature, each recorded by both). What it has acknowledged goes to its parent line by line. The parent kills it,
and starts it again; before it goes on, the process checks everything ever acknowledged: each log verifies leaf by leaf, no acknowledged
record is missing, every checkpoint ever shown is the beginning of today's, no size was signed with two roots, no witness forgot what it
cosigned, and no receipt that one side holds as answered is unknown to the other.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
A, B = "did:web:supplier.example", "did:web:customer.example"


class Wrong(AssertionError):
    """Something acknowledged is gone or contradicted."""


# ---- the process that is killed


def say(*words: object) -> None:
    """One acknowledgement, to the parent's ledger, whole."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def child(folder: Path, ledger: list[list[str]], seed: int) -> None:
    from starlette.applications import Starlette
    from tests.prove.conftest import Wire

    from guantong.base.canonical import b64, canonical_bytes, digest, sha256
    from guantong.base.clock import SystemClock
    from guantong.base.entry import Entry, EntryKind
    from guantong.base.errors import GuantongError
    from guantong.base.keys import Ed25519Key
    from guantong.exchange.rules import statement_of
    from guantong.keep.blobs import FolderBlobs
    from guantong.prove.model import ProveKeys, ProveSettings
    from guantong.prove.routes import routes
    from guantong.prove.service import Prove
    from guantong.records import METADATA, Records

    kinds = {name: EntryKind(f"test.{name}", "", "", {}) for name in ("noted", "usage", "answer")}
    wire, clock = Wire(), SystemClock()
    settings = ProveSettings(
        gather_s=0.005, batch_leaves=64, retry_min_s=0.02, audit_every_s=0, monitor_every_s=0, anchor_every_s=0
    )
    rooms: dict[str, tuple[Any, Any, Any]] = {}
    for did in (A, B):
        name = hashlib.sha256(did.encode()).hexdigest()[:8]
        records = Records(f"sqlite:///{folder / name}.db", clock)
        records.open(METADATA.create_all)
        keys = ProveKeys(Ed25519Key(sha256(did.encode())), Ed25519Key(sha256(b"witness" + did.encode())))
        prove = Prove(records, FolderBlobs(folder / name), clock, wire, lambda _, keys=keys: keys, settings)
        await prove.add(did)
        wire.apps[did.rpartition(":")[2]] = Starlette(routes=routes(prove, lambda _, did=did: did))
        rooms[did] = (records, prove, keys)
    for one, other in ((A, B), (B, A)):
        await rooms[one][1].add_peer(one, other, rooms[other][2].log.public, f"http://{other.rpartition(':')[2]}")
    await check(rooms, ledger)
    say("ready")
    for _, prove, _ in rooms.values():
        await prove.start()
    chance = random.Random(seed)

    async def record(did: str, kind: str, body: dict[str, Any]) -> None:
        async with rooms[did][0].step(did) as step:
            step.record(Entry(kinds[kind], body))
        say("leaf", did, step.leaves[0], digest(body))

    async def append(did: str) -> None:
        for number in itertools.count():
            async with rooms[did][0].step(did) as step:
                bodies = [{"n": number, "at": at, "by": os.getpid()} for at in range(chance.choice((1, 1, 9, 70)))]
                for body in bodies:
                    step.record(Entry(kinds["noted"], body))
            for leaf, body in zip(step.leaves, bodies, strict=True):
                say("leaf", did, leaf, digest(body))
            await asyncio.sleep(chance.random() * 0.01)

    async def receipts() -> None:
        for number in itertools.count():
            # the provider's record is durable before it leaves; the consumer's answer is durable before it is given
            usage = {
                "recordId": f"{os.getpid()}-{number}",
                "rows": number,
                "bytes": 8 * number,
                "contentRoot": digest(number),
            }
            signature = b64(rooms[A][2].log.sign(canonical_bytes(usage)))
            await record(A, "usage", {"record": usage, "signature": signature})
            counted = {name: usage[name] for name in ("rows", "bytes", "contentRoot")}
            statement = statement_of(usage, signature, counted, consumer=B, at="2026-11-24T08:00:00Z")
            answer = {"statement": statement, "signature": b64(rooms[B][2].log.sign(canonical_bytes(statement)))}
            await record(B, "answer", {"recordId": usage["recordId"], **answer})
            await record(A, "answer", {"recordId": usage["recordId"], **answer})
            say("receipt", usage["recordId"], digest(answer["statement"]))
            await asyncio.sleep(chance.random() * 0.01)

    async def shown(did: str) -> None:
        seen: set[tuple[int, int]] = set()
        while True:
            try:
                view = await rooms[did][1].checkpoint(did)
            except GuantongError:
                view = None
            if view is not None and (view.size, len(view.cosigners)) not in seen:
                seen.add((view.size, len(view.cosigners)))
                say("checkpoint", did, view.size, view.root.hex())
                if view.cosigners:
                    say("cosigned", did, view.size, view.root.hex())
            await asyncio.sleep(0.002)

    await asyncio.gather(append(A), append(B), receipts(), shown(A), shown(B))


async def check(rooms: dict[str, tuple[Any, Any, Any]], ledger: list[list[str]]) -> None:
    """Compare what is on disk with everything that was ever acknowledged."""
    import json

    from sqlalchemy import select

    from guantong.base.canonical import digest
    from guantong.base.merkle import Frontier, leaf_hash
    from guantong.prove.tables import CHECKPOINTS, WITNESSED
    from guantong.records.tables import LEAVES

    held: dict[str, list[dict[str, Any]]] = {}
    for did, (records, prove, _) in rooms.items():
        if prove.failure(did):
            raise Wrong(f"{did} does not start: {prove.failure(did)}")
        head = await prove.catch_up(did)
        await prove.audit(did)
        rows = await records.rows(select(LEAVES.c.leaf).where(LEAVES.c.participant == did).order_by(LEAVES.c.number))
        held[did] = [json.loads(row["leaf"]) for row in rows]
        frontier, roots = Frontier(), {}
        for row in rows:
            frontier.append(leaf_hash(row["leaf"]))
            roots[frontier.size] = frontier.root()
        for row in await records.rows(select(CHECKPOINTS.c.size, CHECKPOINTS.c.root)):
            if roots[row["size"]] != row["root"]:
                raise Wrong(f"{did}: the checkpoint of {row['size']} is not of this history")
        for words in ledger:
            if (
                words[0] in ("checkpoint", "cosigned")
                and words[1] == did
                and roots.get(int(words[2]), b"").hex() != words[3]
            ):
                raise Wrong(f"{did}: the {words[0]} checkpoint of {words[2]} that was shown is contradicted")
            if words[0] == "leaf" and words[1] == did:
                number = int(words[2])
                if number >= len(held[did]) or digest(held[did][number]["body"]) != words[3]:
                    raise Wrong(f"{did}: the acknowledged leaf {number} is gone")
        assert head is None or head.size == len(rows)
    for did, (records, _, _) in rooms.items():
        other = B if did == A else A
        row = await records.row(select(WITNESSED).where(WITNESSED.c.participant == did))
        cosigned = [int(words[2]) for words in ledger if words[0] == "cosigned" and words[1] == other]
        if (int(row["size"]) if row else 0) < max(cosigned, default=0):
            raise Wrong(f"{did} forgot what it cosigned of {other}")
    answers = {
        did: {
            one["body"]["recordId"]: digest(one["body"]["statement"])
            for one in held[did]
            if one["kind"] == "test.answer"
        }
        for did in held
    }
    if not answers[A].items() <= answers[B].items():
        raise Wrong("a receipt that the provider holds as answered is unknown to the consumer")
    for words in ledger:
        if words[0] == "receipt" and answers[A].get(words[1]) != words[2]:
            raise Wrong(f"the receipt {words[1]} is gone")


# ---- the process that kills


def run(kills: int, seed: int, folder: Path) -> Counter[str]:
    """Kill so many times; raises Wrong with the seed. Returns what was acknowledged, by kind."""
    chance = random.Random(seed)
    ledger = folder / "ledger"
    ledger.touch()
    for number in range(kills + 1):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.prove.kills", "--child", str(folder), "--seed", str(seed + number)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline()]
        if lines[0] != b"ready\n":
            raise Wrong(f"seed {seed}, after kill {number}: {process.stderr.read().decode()[-2000:]}")
        if number < kills:
            lines += [process.stdout.readline() for _ in range(chance.randrange(400))]
            time.sleep(chance.random() * 0.03)
        process.kill()
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        with ledger.open("ab") as file:  # a line that the kill cut was not acknowledged
            file.writelines(line for line in lines if line.endswith(b"\n"))
    return Counter(line.split()[0] for line in ledger.read_text(encoding="utf-8").splitlines())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20261124)
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child is not None:
        lines = (options.child / "ledger").read_text(encoding="utf-8").splitlines()
        asyncio.run(child(options.child, [line.split() for line in lines], options.seed))
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        told = run(options.kills, options.seed, Path(folder))
    print(
        f"kills: {options.kills} survived in {time.monotonic() - start:.0f} s; acknowledged and found again: {told['leaf']} records, "
        f"{told['checkpoint']} checkpoints, {told['cosigned']} cosigned, {told['receipt']} receipts"
    )
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
