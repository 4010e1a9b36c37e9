"""Crashes: at every single write in one process, and kill -9 of a whole process at seeded moments."""

from __future__ import annotations

import asyncio
import base64
import random
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import select

from guantong.base import merkle
from guantong.base.clock import SystemClock
from guantong.base.keys import Ed25519Key
from guantong.base.merkle import leaf_hash, verify_consistency
from guantong.base.note import open_note, parse_checkpoint
from guantong.keep.blobs import FolderBlobs
from guantong.prove.model import ProveKeys
from guantong.prove.service import Prove
from guantong.prove.tables import CHECKPOINTS
from guantong.records import METADATA, Records
from guantong.records.tables import LEAVES

DID = "did:web:supplier.example"


class Crash(BaseException):
    """The process is gone; no handler may run."""


async def test_a_crash_at_any_write_leaves_a_log_that_goes_on(build) -> None:
    async def journey(crash_at: int) -> int:
        house = await build(DID, batch_leaves=64)
        operations = 0

        def tick() -> None:
            nonlocal operations
            operations += 1
            if operations == crash_at:
                raise Crash

        put, write = house.blobs.put, house.records.write

        async def put_or_crash(name: str, data: bytes) -> bool:
            tick()
            stored = await put(name, data)
            tick()
            return stored

        async def write_or_crash(*arguments) -> None:
            tick()
            await write(*arguments)
            tick()

        await house.note(240)
        house.blobs.put, house.records.write = put_or_crash, write_or_crash
        try:
            await house.prove.catch_up(house.did)
            house.records.write = write
            await house.note(30)
            house.records.write = write_or_crash
            await house.prove.catch_up(house.did)
        except Crash:
            house.blobs.put, house.records.write = put, write
            await house.again()
            await house.note(5)
        house.blobs.put, house.records.write = put, write
        head = await house.prove.catch_up(house.did)
        rows = await house.records.rows(select(LEAVES.c.leaf).order_by(LEAVES.c.number))
        hashes = [leaf_hash(row["leaf"]) for row in rows]
        assert head.size == len(hashes)
        assert head.root == merkle.root(hashes)
        for row in await house.records.rows(select(CHECKPOINTS.c.size, CHECKPOINTS.c.root)):
            assert row["root"] == merkle.root(hashes[: row["size"]])
        return operations

    whole = await journey(0)
    assert whole >= 14
    for crash_at in range(1, whole + 1):
        await journey(crash_at)


CHILD = """
import asyncio, base64, sys
from pathlib import Path
from guantong.base.clock import SystemClock
from guantong.base.entry import Entry, EntryKind
from guantong.base.keys import Ed25519Key
from guantong.keep.blobs import FolderBlobs
from guantong.prove.model import ProveKeys
from guantong.prove.service import Prove
from guantong.records import METADATA, Records

KIND = EntryKind("test.noted", "", "", {})
did, folder = sys.argv[1], Path(sys.argv[2])

async def main():
    records = Records(f"sqlite:///{folder / 'records.db'}", SystemClock())
    records.open(METADATA.create_all)
    keys = ProveKeys(Ed25519Key(bytes(32)), Ed25519Key(bytes(range(32))))
    prove = Prove(records, FolderBlobs(folder / "blobs"), SystemClock(), None, lambda _: keys)
    await prove.add(did)
    await prove.start()
    said = 0
    while True:
        for _ in range(20):
            async with records.step(did) as step:
                for number in range(9):
                    step.record(Entry(KIND, {"n": number}))
        head = await prove.checkpoint(did)
        if head is not None and head.size != said:
            said = head.size
            print(base64.b64encode(head.note).decode(), flush=True)

asyncio.run(main())
"""


def test_kill_9_never_makes_a_published_checkpoint_untrue(tmp_path: Path) -> None:
    chance = random.Random(20261124)
    key = Ed25519Key(bytes(32))
    published: list[bytes] = []
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", CHILD, DID, str(tmp_path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(chance.randrange(1, 5)):
            published.append(child.stdout.readline())
        time.sleep(chance.random() * 0.05)
        child.kill()
        published += child.stdout.readlines()
        child.wait()
        child.stdout.close()

    async def afterwards() -> None:
        records = Records(f"sqlite:///{tmp_path / 'records.db'}", SystemClock())
        records.open(METADATA.create_all)
        keys = ProveKeys(key, Ed25519Key(bytes(range(32))))
        prove = Prove(records, FolderBlobs(tmp_path / "blobs"), SystemClock(), None, lambda _: keys)
        await prove.add(DID)
        head = await prove.catch_up(DID)
        seen = [
            parse_checkpoint(open_note(base64.b64decode(line), [prove.keys_of(DID)[0]]).note.text)
            for line in published
            if line.endswith(b"\n")
        ]
        assert await prove.audit(DID) == head.size >= 256
        assert len(seen) >= 5
        assert [item.size for item in seen] == sorted(item.size for item in seen)
        for item in seen:
            proof = await prove.consistency(DID, item.size, head.size)
            assert verify_consistency(item.size, item.root, head.size, head.root, proof)
        records.close()

    asyncio.run(afterwards())
