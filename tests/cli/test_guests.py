"""A guest moves to a node of its own with the command, and goes on from there: two live nodes, told of by commands."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from guantong.base import guest as formats
from guantong.base.canonical import b64, canonical_bytes, sha256
from guantong.base.keys import Ed25519Key
from guantong.base.multikey import multibase_of
from guantong.config import load
from guantong.node import Node

CSV = b"time,temp\n2026-01-01T00:00:00Z,20.5\n2026-01-01T00:00:01Z,20.7\n"
PKCS8 = bytes.fromhex("302e020100300506032b657004220420")  # RFC 8410, the head of an Ed25519 private key


async def guantong(directory: Path, *words: str) -> tuple[int, Any]:
    """A command in a process of its own; its exit code and what it printed as JSON (or its complaint)."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "guantong.cli", *words, "--directory", str(directory), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "GUANTONG_PASSPHRASE": "three blue gears"},
        timeout=120,
        check=False,
    )
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else done.stderr


async def piece(data: bytes) -> AsyncIterator[bytes]:
    yield data


def sealed(key: Ed25519Key, did: str) -> dict[str, Any]:
    """The key as the page's script seals it."""
    salt, iv = os.urandom(16), os.urandom(12)
    derived = PBKDF2HMAC(SHA256(), 32, salt, 100_000).derive(b"three blue gears")
    return {
        "guest": did,
        "kind": "Ed25519",
        "kdf": "PBKDF2-HMAC-SHA-256",
        "iterations": 100_000,
        "salt": b64(salt),
        "cipher": "AES-256-GCM",
        "iv": b64(iv),
        "sealed": b64(AESGCM(derived).encrypt(iv, PKCS8 + key.private_bytes(), did.encode())),
    }


async def test_a_guest_moves_in_with_one_command_and_revokes_from_its_own_node(tmp_path: Path) -> None:
    host = Node(load({"node.directory": tmp_path / "host", "node.name": "Liu", "web.port": 0}, environment={}))
    await host.start()
    await host.serve()
    guests, me = host.exchange.guests, host.participant
    key = Ed25519Key.generate()
    chain = formats.Chain(f"did:key:{multibase_of(key.jwk)}", me)

    async def state(kind: str, content: bytes = b"", code: str = "", **more: Any) -> dict[str, Any]:
        body = formats.stated(chain, kind, host.clock.now(), **more)
        envelope = {"statement": body, "signature": b64(key.sign(canonical_bytes(body)))}
        told = await guests.take(me, canonical_bytes(envelope), code, piece(content))
        chain.add(formats.parse(envelope))
        return told

    _, link = await host.exchange.spaces.invite(me, kind="guest")
    code = link.partition("#")[2]
    about = await state("join", code=code, invitation=sha256(code.encode()).hex(), name="Zhou")
    file = {"name": "a.csv", "size": len(CSV), "sha256": "sha256:" + sha256(CSV).hex(), "chunkBytes": 65536}
    file["root"] = formats.file_root(CSV)
    about = await state("share", CSV, file=file, purpose=about["purpose"], terms=about["terms"])
    share = about["shares"][0]["id"]
    papers = tmp_path / "guantong-guest.json"
    papers.write_text(json.dumps({**await guests.papers(me, chain.guest), "key": sealed(key, chain.guest)}))
    used = await guantong(tmp_path / "host", "guests", "use", share[7:19])
    own = Node(load({"node.directory": tmp_path / "own", "web.port": 0}, environment={}))
    await own.start()
    await own.serve()
    moved = await guantong(tmp_path / "own", "move-in", str(papers))
    again = 0
    for _ in range(200):
        (guest,) = await guests.guests(me)
        if guest.moved_to and (await own.exchange.moving.moved(own.participant))[0].told:
            again, _complaint = await guantong(tmp_path / "own", "move-in", str(papers))
            break
        await asyncio.sleep(0.05)
    revoked = await guantong(tmp_path / "own", "guests", "revoke", chain.guest, share)
    for _ in range(200):
        if (await guests.shares(me))[0].state == "revoked":
            break
        await asyncio.sleep(0.05)
    refused = await guantong(tmp_path / "host", "guests", "use", share[7:19])
    verified = await asyncio.to_thread(_verify, tmp_path, await host.trust(), papers)
    kinds = [one["statement"]["type"].rpartition("-")[2] for one in await guests.statements(me, chain.guest)]
    await own.stop()
    await host.stop()

    assert (used[0], used[1]["total"]) == (0, 2)
    assert (moved[0], moved[1]["participant"], moved[1]["statements"]) == (0, own.participant, 3)
    assert guest.moved_to == own.participant
    assert again == 1
    assert revoked[0] == 0
    assert kinds == ["join", "share", "move", "revoke"]
    assert refused[0] == 1
    assert "exchange.guest-not-shared" in refused[1]
    assert verified == 0


def _verify(folder: Path, trust: str, papers: Path) -> int:
    (folder / "trust").write_text(trust)
    command = [sys.executable, "-m", "guantong.verify", "--trust", str(folder / "trust"), str(papers)]
    return subprocess.run(command, capture_output=True, check=False).returncode
