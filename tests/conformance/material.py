"""A log that this software wrote, laid out in files as other people's tools read them, and the ways to spoil it.

The rows are those of the list of negative tests; ``rows.toml`` says which tool sees which row and what it answers.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import select

from guantong.base.canonical import b64, sha256
from guantong.base.clock import parse_iso
from guantong.base.entry import Entry, EntryKind
from guantong.base.keys import Ed25519Key
from guantong.base.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    nodes_of,
    root,
    tile_path,
    tiles_of,
)
from guantong.base.note import Checkpoint, Note, Proof, Signature, VerifierKey, cosign, key_of, parse_note, sign
from guantong.keep.blobs import FolderBlobs
from guantong.prove.model import ProveKeys, origin_of, witness_name_of
from guantong.prove.service import Prove
from guantong.prove.tree import bundle
from guantong.records import METADATA, Records
from guantong.records.tables import LEAVES

DID = "did:web:supplier.example%3A8443"
ORIGIN = origin_of(DID)
HERE = Path(__file__).resolve().parent
ROWS = tomllib.loads((HERE / "rows.toml").read_text(encoding="utf-8"))
INDEXES = (0, 1, 255, 256, 298, 299, 300, 511, 512, 698, 699)
OLD, NEW = 300, 700


class StandingClock:
    """Time that does not pass."""

    def now(self) -> int:
        return parse_iso("2026-11-24T08:00:00Z")

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


def key_with_plus() -> Ed25519Key:
    """A key whose verifier key holds a plus in its base64 part."""
    for number in range(1000):
        key = Ed25519Key(sha256(b"%d" % number))
        if "+" in str(key_of(ORIGIN, key)).split("+", 2)[2]:
            return key
    raise AssertionError


KEY = Ed25519Key(bytes(range(32)))
WITNESS = Ed25519Key(bytes(range(1, 33)))


_MADE: dict[tuple[bytes, tuple[int, ...]], tuple[tempfile.TemporaryDirectory[str], list[bytes]]] = {}


def write_log(folder: Path, key: Ed25519Key = KEY, sizes: tuple[int, ...] = (OLD, NEW)) -> list[bytes]:
    """The files of a log that the evidence room grew, once for each key and size. Returns the leaves."""
    if (key.public, sizes) not in _MADE:
        made = tempfile.TemporaryDirectory()
        _MADE[key.public, sizes] = made, _grow(Path(made.name), key, sizes)
    made, leaves = _MADE[key.public, sizes]
    shutil.copytree(made.name, folder, dirs_exist_ok=True)
    return list(leaves)


def _grow(folder: Path, key: Ed25519Key, sizes: tuple[int, ...]) -> list[bytes]:
    kind = EntryKind("test.noted", "", "", {})

    async def write() -> list[bytes]:
        clock = StandingClock()
        records = Records("sqlite://", clock, inline=True)
        records.open(METADATA.create_all)
        prove = Prove(records, FolderBlobs(folder / "blobs"), clock, None, lambda _: ProveKeys(key, WITNESS))  # type: ignore[arg-type]
        await prove.add(DID)
        notes, had = [], 0
        for size in sizes:
            async with records.step(DID) as step:
                for number in range(had, size):
                    step.record(Entry(kind, {"n": number}))
            notes.append(await prove.catch_up(DID))
            had = size
        (folder / "vkey").write_text(str(prove.keys_of(DID)[0]), encoding="utf-8")
        # the witness's line is of a key that the tools do not know
        text = parse_note(notes[-1].note).text
        line = cosign(text, witness_name_of(DID), WITNESS, 1764000000)
        newest = parse_note(notes[-1].note).adding([line]).to_bytes()
        (folder / "old.note").write_bytes(notes[0].note)
        (folder / "new.note").write_bytes(newest)
        (folder / "consistency").write_text(
            "\n".join(b64(item) for item in await prove.consistency(DID, sizes[0], sizes[-1])), encoding="utf-8"
        )
        leaves = [row["leaf"] for row in await records.rows(select(LEAVES.c.leaf).order_by(LEAVES.c.number))]
        (folder / "proofs").mkdir()
        for index in INDEXES:
            if index < sizes[-1]:
                proof = await prove.inclusion(DID, index)
                write_proof(folder, leaves[index], Proof(index, proof.path, newest))
        for tile in tiles_of(sizes[-1]):
            put(folder / tile_path(tile), await prove.tile(DID, tile) or b"")
        records.close()
        return leaves

    leaves = asyncio.run(write())
    write_bundles(folder, leaves)
    return leaves


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def write_proof(folder: Path, leaf: bytes, proof: Proof) -> None:
    put(folder / f"proofs/{proof.index:06d}.leaf", leaf)
    put(folder / f"proofs/{proof.index:06d}.tlog-proof", proof.to_bytes())


def write_bundles(folder: Path, leaves: Sequence[bytes]) -> None:
    for first in range(0, len(leaves), 256):
        part = leaves[first : first + 256]
        width = "" if len(part) == 256 else f".p/{len(part)}"
        put(folder / f"tile/entries/{first // 256:03d}{width}", bundle(part))


def serve(folder: Path, leaves: Sequence[bytes], *, sign_again: bool = False, key: Ed25519Key = KEY) -> None:
    """Tiles, paths and bundles over other leaves. The operator shows the old checkpoint, or signs a new one of that tree."""
    hashes = [leaf_hash(leaf) for leaf in leaves]
    node = nodes_of(hashes)
    newest = (folder / "new.note").read_bytes()
    if sign_again:
        newest = sign(Checkpoint(ORIGIN, len(leaves), root(hashes)).text, ORIGIN, key).to_bytes()
        (folder / "new.note").write_bytes(newest)
    shutil.rmtree(folder / "tile")
    write_bundles(folder, leaves)
    for level_tile in tiles_of(len(leaves)):
        level, first = level_tile.level, level_tile.number * 256
        data = b"".join(
            root(hashes[(first + at) << (8 * level) : (first + at + 1) << (8 * level)])
            for at in range(level_tile.width)
        )
        put(folder / tile_path(level_tile), data)
    for index in INDEXES:
        if index < len(leaves):
            write_proof(folder, leaves[index], Proof(index, tuple(inclusion_proof(node, index, len(leaves))), newest))
    proof = consistency_proof(node, OLD, len(leaves))
    (folder / "consistency").write_text("\n".join(map(b64, proof)), encoding="utf-8")


def edit_proof(folder: Path, index: int, change: Callable[[Proof], Proof]) -> None:
    from guantong.base.note import parse_proof

    path = folder / f"proofs/{index:06d}.tlog-proof"
    path.write_bytes(change(parse_proof(path.read_bytes())).to_bytes())


def edit_notes(folder: Path, change: Callable[[Note], Note]) -> None:
    """Change the newest checkpoint, wherever it stands."""
    newest = change(parse_note((folder / "new.note").read_bytes())).to_bytes()
    (folder / "new.note").write_bytes(newest)
    for path in sorted((folder / "proofs").glob("*.tlog-proof")):
        edit_proof(folder, int(path.stem), lambda proof: Proof(proof.index, proof.path, newest, proof.extra))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# ---- the rows that can stand in a log's files


def control(folder: Path) -> None:
    """Nothing is changed."""
    write_log(folder)


def dropped(folder: Path) -> None:
    leaves = write_log(folder)
    serve(folder, [*leaves[:298], *leaves[299:], leaves[0]])


def reordered(folder: Path) -> None:
    leaves = write_log(folder)
    leaves[298], leaves[299] = leaves[299], leaves[298]
    serve(folder, leaves)


def substituted(folder: Path) -> None:
    leaves = write_log(folder)
    leaves[299] = leaves[299].replace(b'"n":299', b'"n":298')
    serve(folder, leaves)


def rewritten(folder: Path) -> None:
    leaves = write_log(folder)
    leaves[5] = leaves[5].replace(b'"n":5', b'"n":6')
    serve(folder, leaves, sign_again=True)


def tampered_tile(folder: Path) -> None:
    write_log(folder)
    path = folder / "tile/0/000"
    path.write_bytes(flip(path.read_bytes(), 100))


def truncated_bundle(folder: Path) -> None:
    write_log(folder)
    path = folder / "tile/entries/002.p/188"
    path.write_bytes(path.read_bytes()[:-10])


def size_0(folder: Path) -> None:
    write_log(folder)
    empty = sign(Checkpoint(ORIGIN, 0, sha256(b"")).text, ORIGIN, KEY).to_bytes()
    (folder / "old.note").write_bytes(empty)
    (folder / "consistency").write_text("", encoding="utf-8")
    edit_notes(folder, lambda _: parse_note(empty))


def size_1(folder: Path) -> None:
    write_log(folder, sizes=(1,))


def surplus_hash(folder: Path) -> None:
    write_log(folder)
    edit_proof(folder, 299, lambda proof: Proof(proof.index, (*proof.path, bytes(32)), proof.checkpoint))


def missing_hash(folder: Path) -> None:
    write_log(folder)
    edit_proof(folder, 299, lambda proof: Proof(proof.index, proof.path[:-1], proof.checkpoint))


def short_hash(folder: Path) -> None:
    write_log(folder)
    path = folder / "proofs/000299.tlog-proof"
    lines = path.read_text(encoding="utf-8").split("\n")
    lines[3] = b64(bytes(31))
    path.write_text("\n".join(lines), encoding="utf-8", newline="")


def index_outside(folder: Path) -> None:
    write_log(folder)
    edit_proof(folder, 299, lambda proof: Proof(700, proof.path, proof.checkpoint))


def unknown_key(folder: Path) -> None:
    write_log(folder)
    stranger = VerifierKey("stranger.example", 1, WITNESS.public)
    line = Signature(stranger.name, stranger.id, bytes(64))
    edit_notes(folder, lambda note: Note(note.text, (line, *note.signatures)))


def bad_signature(folder: Path) -> None:
    write_log(folder)
    edit_notes(
        folder,
        lambda note: Note(
            note.text,
            tuple(Signature(s.name, s.key_id, flip(s.payload, 5)) if s.name == ORIGIN else s for s in note.signatures),
        ),
    )


def stranger_signs(folder: Path) -> None:
    write_log(folder)
    edit_notes(folder, lambda note: sign(note.text, ORIGIN, WITNESS))


def vkey_plus(folder: Path) -> None:
    write_log(folder, key_with_plus())
    assert "+" in (folder / "vkey").read_text(encoding="utf-8").split("+", 2)[2]


def extra_altered(folder: Path) -> None:
    write_log(folder)
    edit_proof(folder, 299, lambda proof: Proof(proof.index, proof.path, proof.checkpoint, b"believe me"))


LOG_ROWS: dict[str, Callable[[Path], None]] = {
    "control": control,
    "dropped-record": dropped,
    "reordered-records": reordered,
    "substituted-record": substituted,
    "rewritten-history": rewritten,
    "tampered-tile": tampered_tile,
    "truncated-bundle": truncated_bundle,
    "size-0": size_0,
    "size-1": size_1,
    "surplus-hash": surplus_hash,
    "missing-hash": missing_hash,
    "short-hash": short_hash,
    "index-outside": index_outside,
    "unknown-key": unknown_key,
    "bad-signature": bad_signature,
    "stranger-signs": stranger_signs,
    "vkey-plus": vkey_plus,
    "extra-altered": extra_altered,
}


# ---- comparing


def expected(tool: str) -> dict[str, str]:
    """What ``rows.toml`` says that this tool answers, by row. An answer that begins with ``ok`` is exit code 0, any other 1."""
    return {name: row[tool] for name, row in ROWS.items() if tool in row}


def judge(tool: str, cases: dict[str, Callable[[], tuple[int, str]]], *, only: Sequence[str] = ()) -> int:
    """Run the cases, print what differs and the summary line. Returns the exit code: 0 only if something passed and nothing failed."""
    wanted = expected(tool)
    assert set(wanted) == set(cases), f"{tool}: rows.toml and the kit differ: {sorted(set(wanted) ^ set(cases))}"
    passed = failed = 0
    for name in only or cases:
        code, said = cases[name]()
        want = wanted[name]
        if (code == 0) == want.startswith("ok") and code in (0, 1) and want in said:
            passed += 1
        else:
            failed += 1
            print(f"{tool} {name}: wanted {want!r}, got exit {code} and {said.strip()[-300:]!r}")
    print(f"{tool}: {passed} passed, {failed} failed, 0 skipped")
    return 0 if passed and not failed else 1


def absent(tool: str, why: str) -> int:
    """The line of a tool that is not on this machine."""
    print(f"{tool}: 0 passed, 0 failed, {len(expected(tool))} skipped ({why})")
    return 1


TOOLS = ("sumdb", "sigstore", "openssl-ts", "rfc3161", "evm", "verifier")


def table() -> str:
    """``README.md``: which tool sees which row."""
    lines = [
        "# Conformance kits",
        "",
        "`python -m tests.conformance` (or `make conformance`) runs tools that we did not write against what this software writes, and prints",
        "a line each. `dsp` and `kits` are described in their folders. The others look at evidence; each is given an untouched control and",
        "every negative row that it can see, and must answer with the words of `rows.toml`, never with a crash.",
        "",
        "`sumdb` is Go's `golang.org/x/mod/sumdb`, `sigstore` npm `@sigstore/verify`, `openssl-ts` is `openssl ts -verify`, `rfc3161` PyPI",
        "`rfc3161-client`, `evm` the contract on anvil and on py-evm, `verifier` our own. This file is made by",
        "`python -m tests.conformance --table`.",
        "",
        f"| row | {' | '.join(TOOLS)} | what cannot stand in files |",
        f"| --- |{' --- |' * (len(TOOLS) + 1)}",
    ]
    for row in ROWS.values():
        cells = [("accepts" if row[tool].startswith("ok") else "rejects") if tool in row else "–" for tool in TOOLS]
        lines.append(
            f"| {row['what']} | {' | '.join(cells)} | {row.get('tests', '').replace('tests/', '').replace('::', ' · ').replace('_', ' ')} |"
        )
    return "\n".join(lines) + "\n"
