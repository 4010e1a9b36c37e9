"""The log as the code of Go's checksum database sees it (golang.org/x/mod/sumdb: note, tlog; BSD-3-Clause)."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from guantong.base.canonical import b64
from guantong.base.entry import Entry, EntryKind
from guantong.base.keys import Ed25519Key
from guantong.base.merkle import tile_path, tiles_of
from guantong.keep.blobs import FolderBlobs
from guantong.prove.model import ProveKeys
from guantong.prove.service import Prove
from guantong.records import METADATA, Records
from guantong.records.tables import LEAVES

DID = "did:web:supplier.example%3A8443"
HERE = Path(__file__).parent / "go"


@pytest.fixture(scope="module")
def checker(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built once; skips where Go or its module is not at hand."""
    go = tool("go")
    binary = tmp_path_factory.mktemp("go") / "sumdbcheck"
    built = subprocess.run(
        [go, "build", "-o", str(binary), "."],
        cwd=HERE, capture_output=True, text=True, check=False, env={**os.environ, "GOFLAGS": "-mod=readonly"},
    )  # fmt: skip
    if built.returncode:
        if "go" in os.environ.get("GUANTONG_REQUIRE", "").split(","):
            pytest.fail(built.stderr)
        pytest.skip(f"go: golang.org/x/mod can't be had here: {built.stderr.strip()[-200:]}")
    return binary


@pytest.fixture
def log(tmp_path: Path, clock) -> Path:
    """A log of 700 leaves with a checkpoint at 300, written to a folder in the form that tools read."""
    kind = EntryKind("test.noted", "", "", {})

    async def write() -> None:
        records = Records("sqlite://", clock, inline=True)
        records.open(METADATA.create_all)
        keys = ProveKeys(Ed25519Key(bytes(range(32))), Ed25519Key(bytes(range(1, 33))))
        prove = Prove(records, FolderBlobs(tmp_path / "blobs"), clock, None, lambda _: keys)  # type: ignore[arg-type]
        await prove.add(DID)
        notes = []
        for count in (300, 400):
            async with records.step(DID) as step:
                for number in range(count):
                    step.record(Entry(kind, {"n": number}))
            notes.append(await prove.catch_up(DID))
        (tmp_path / "vkey").write_text(str(prove.keys_of(DID)[0]), encoding="utf-8")
        (tmp_path / "old.note").write_bytes(notes[0].note)
        (tmp_path / "new.note").write_bytes(notes[1].note)
        (tmp_path / "consistency").write_text(
            "\n".join(b64(item) for item in await prove.consistency(DID, 300, 700)), encoding="utf-8"
        )
        rows = await records.rows(select(LEAVES.c.leaf).order_by(LEAVES.c.number))
        lines = []
        for index in (0, 1, 255, 256, 299, 300, 511, 512, 698, 699):
            proof = await prove.inclusion(DID, index)
            lines.append(" ".join([str(index), b64(rows[index]["leaf"]), *(b64(item) for item in proof.path)]))
        (tmp_path / "proofs").write_text("\n".join(lines), encoding="utf-8")
        for tile in tiles_of(700):
            path = tmp_path / tile_path(tile)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(await prove.tile(DID, tile) or b"")
        records.close()

    asyncio.run(write())
    return tmp_path


def run(checker: Path, log: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(checker), str(log)], capture_output=True, text=True, check=False)


def test_go_accepts_checkpoints_proofs_and_tiles(checker: Path, log: Path) -> None:
    done = run(checker, log)

    assert (done.stdout, done.stderr) == ("ok 700 10\n", "")


@pytest.mark.parametrize(
    "name",
    ["old.note", "new.note", "consistency", "proofs", "tile/0/000", "tile/0/002.p/188", "tile/1/000.p/2", "vkey"],
)
def test_go_rejects_the_log_after_any_part_of_it_was_tampered_with(checker: Path, log: Path, name: str) -> None:
    path = log / name
    data = bytearray(path.read_bytes())
    at = len(data) - 30 if name != "proofs" else 10
    data[at] = ord("A") if data[at] != ord("A") else ord("B")
    path.write_bytes(bytes(data))

    assert run(checker, log).returncode == 1
