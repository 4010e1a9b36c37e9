"""Our own verifier over every row that can stand in a package: the maker itself spoils what it signs."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))
from tests.conformance import material, stamps  # noqa: E402

from guantong.base.canonical import b64, canonical_bytes, digest, sha256, unb64  # noqa: E402
from guantong.base.merkle import leaf_hash, root, verify_consistency  # noqa: E402
from guantong.base.note import COSIGNATURE, Checkpoint, Note, Proof, Signature, key_of, parse_note, parse_proof, sign  # noqa: E402
from guantong.prove import rules  # noqa: E402
from guantong.prove.model import origin_of, witness_name_of  # noqa: E402
from guantong.verify import verify_package  # noqa: E402

NOW = 1_800_000_000 * 10**9


def _world() -> Any:
    spec = importlib.util.spec_from_file_location("verify_conftest", HERE.parents[1] / "verify" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["verify_conftest"] = module
    spec.loader.exec_module(module)
    return module


WORLD = _world()
Files = dict[str, bytes]


def answer(world: Any, files: Files, trust: str | None = None) -> tuple[int, str]:
    """Exit code and words of the verifier."""
    report = verify_package(world.pack(files), rules.parse_trust(trust or world.trust_text()), now_ns=NOW)
    return report.exit_code, "ok" if report.exit_code == 0 else report.text("en")


def proofs(files: Files, change: Callable[[Proof], Proof], only: int | None = None) -> Files:
    """Every proof (or the ``only``-th) changed."""
    found = dict(files)
    for number, path in enumerate(sorted(path for path in files if path.endswith(".tlog-proof"))):
        if only in (None, number):
            found[path] = change(parse_proof(files[path])).to_bytes()
    return found


def notes(files: Files, change: Callable[[Note], Note]) -> Files:
    """The checkpoint changed in every proof."""
    return proofs(
        files,
        lambda proof: Proof(proof.index, proof.path, change(parse_note(proof.checkpoint)).to_bytes(), proof.extra),
    )


def leaf_paths(files: Files) -> list[str]:
    return sorted(path for path in files if path.startswith("log/") and path.endswith(".json"))


def control() -> tuple[int, str]:
    world = WORLD.World()
    return answer(world, world.files())


def dropped() -> tuple[int, str]:
    world = WORLD.World()
    files = world.files()
    paths = leaf_paths(files)
    # the second record is left out and the third stands in its place, under its path
    files[paths[1]] = files[paths[2]]
    return answer(world, files)


def reordered() -> tuple[int, str]:
    world = WORLD.World()
    files = world.files()
    one, two = leaf_paths(files)[1:3]
    files[one], files[two] = files[two], files[one]
    return answer(world, files)


def substituted() -> tuple[int, str]:
    world = WORLD.World()
    files = world.files()
    path = leaf_paths(files)[1]
    files[path] = files[path].replace(b'"rows":1000', b'"rows":1001')
    return answer(world, files)


def rewritten() -> tuple[int, str]:
    """The auditor holds an older checkpoint; the newer one rests on another history and says so in its own consistency proof."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        material.rewritten(where)
        old, new = (_head(where / name) for name in ("old.note", "new.note"))
        proof = [unb64(line) for line in (where / "consistency").read_text(encoding="utf-8").split("\n")]
        if verify_consistency(old.size, old.root, new.size, new.root, proof):
            return 0, "ok"
        return 1, "the log that was shown earlier is not the beginning of this one"


def _head(path: Path) -> Any:
    from guantong.base.note import parse_checkpoint

    return parse_checkpoint(parse_note(path.read_bytes()).text)


def size_0() -> tuple[int, str]:
    world = WORLD.World()
    text = Checkpoint(origin_of(world.provider), 0, sha256(b"")).text
    signed = sign(text, origin_of(world.provider), world.keys[world.provider])
    return answer(
        world, notes(world.files(), lambda _: signed), world.trust_text().split("witness ")[0] + "quorum none\n"
    )


def size_1() -> tuple[int, str]:
    """A log whose only record is the agreement."""
    world = WORLD.World(log_size_before=0)
    files = {path: data for path, data in world.files().items() if not path.startswith(("invoices/", "receipts/"))}
    (path,) = leaf_paths(files)[:1]
    for name in list(files):
        if name.startswith("log/") and not name.startswith(path.removesuffix(".json")):
            del files[name]
    text = Checkpoint(origin_of(world.provider), 1, root([leaf_hash(files[path])])).text
    signed = sign(text, origin_of(world.provider), world.keys[world.provider])
    files = proofs(files, lambda proof: Proof(0, (), signed.to_bytes()))
    return answer(world, files, world.trust_text().split("witness ")[0] + "quorum none\n")


def path_changed(change: Callable[[Proof], Proof]) -> Callable[[], tuple[int, str]]:
    def run() -> tuple[int, str]:
        world = WORLD.World()
        return answer(world, proofs(world.files(), change, 1))

    return run


def index_outside() -> tuple[int, str]:
    world = WORLD.World()
    files = world.files()
    path = leaf_paths(files)[-1].removesuffix(".json")
    proof = parse_proof(files.pop(f"{path}.tlog-proof"))
    files["log/000000000999.json"] = files.pop(f"{path}.json")
    files["log/000000000999.tlog-proof"] = Proof(999, proof.path, proof.checkpoint).to_bytes()
    return answer(world, files)


def short_hash() -> tuple[int, str]:
    world = WORLD.World()
    files = world.files()
    path = leaf_paths(files)[1].removesuffix(".json") + ".tlog-proof"
    lines = files[path].decode().split("\n")
    lines[2] = b64(bytes(31))
    files[path] = "\n".join(lines).encode()
    return answer(world, files)


def signatures(change: Callable[[Any, Note], Note]) -> Callable[[], tuple[int, str]]:
    def run() -> tuple[int, str]:
        world = WORLD.World()
        return answer(world, notes(world.files(), lambda note: change(world, note)))

    return run


def unknown_key(world: Any, note: Note) -> Note:
    line = Signature("stranger.example", b"abcd", bytes(64))
    return Note(note.text, (line, *note.signatures))


def bad_signature(world: Any, note: Note) -> Note:
    name = origin_of(world.provider)
    return Note(
        note.text,
        tuple(
            Signature(s.name, s.key_id, material.flip(s.payload, 5)) if s.name == name else s for s in note.signatures
        ),
    )


def stranger_signs(world: Any, note: Note) -> Note:
    name = origin_of(world.provider)
    return Note(
        note.text,
        (
            *sign(note.text, name, world.keys[world.consumer]).signatures,
            *(s for s in note.signatures if s.name != name),
        ),
    )


def later_cosignature(world: Any, note: Note) -> Note:
    name = witness_name_of(world.consumer)
    return Note(
        note.text,
        tuple(
            Signature(
                s.name, s.key_id, (int.from_bytes(s.payload[:8], "big") - 3600).to_bytes(8, "big") + s.payload[8:]
            )
            if s.name == name
            else s
            for s in note.signatures
        ),
    )


def vkey_plus() -> tuple[int, str]:
    for number in range(1000):
        world = WORLD.World(salt=str(number))
        if "+" in str(key_of(origin_of(world.provider), world.keys[world.provider])).split("+", 2)[2]:
            return answer(world, world.files())
    raise AssertionError


def extra_altered() -> tuple[int, str]:
    world = WORLD.World()
    return answer(world, proofs(world.files(), lambda proof: dataclasses.replace(proof, extra=b"believe me")))


def replayed() -> tuple[int, str]:
    world = WORLD.World()
    world.receipts[0]["countersignature"] = world.receipts[1]["countersignature"]
    return answer(world, world.files())


def other_provider_signature() -> tuple[int, str]:
    world = WORLD.World()
    statement = {**world.receipts[0]["countersignature"]["statement"], "providerSig": digest("another")}
    world.receipts[0]["countersignature"] = {
        "statement": statement,
        "signature": b64(world.keys[world.consumer].sign(canonical_bytes(statement))),
    }
    return answer(world, world.files())


def other_agreement() -> tuple[int, str]:
    world = WORLD.World()
    files = world.files()
    changed = {**world.agreement, "target": "urn:uuid:another"}
    files[rules.AGREEMENT_PATH] = rules.agreement_paper(changed, price=WORLD.PRICE, terms=WORLD.TERMS)
    return answer(world, files)


def token(which: str) -> Callable[[], tuple[int, str]]:
    """A time stamp over the package's own checkpoint, or the spoilt ones of the kits for time stamps."""

    def run() -> tuple[int, str]:
        from tests.conformance.authority import Authority

        from guantong.base import timestamp

        world = WORLD.World()
        files = world.files()
        text = parse_note(parse_proof(files[leaf_paths(files)[0].replace(".json", ".tlog-proof")]).checkpoint).text
        with tempfile.TemporaryDirectory() as folder:
            ours, other = Authority(Path(folder) / "ours"), Authority(Path(folder) / "other")
            reply = (other if which == "stranger" else ours).reply(timestamp.request(text.encode(), 7))
            certificate = timestamp.load_roots(ours.root.read_bytes())[0]
        if which == "time":
            reply = stamps.another_time(reply)
        if which == "root":
            text = Checkpoint(origin_of(world.provider), 400, sha256(b"another")).text
        ref = {"kind": "rfc3161", "text": text, "token": b64(reply)}
        files["anchors/001.json"] = canonical_bytes({"ref": ref, "consistency": []})
        from cryptography.hazmat.primitives.serialization import Encoding

        return answer(world, files, f"authority {b64(certificate.public_bytes(Encoding.DER))}\n" + world.trust_text())

    return run


def anchored(which: str) -> Callable[[], tuple[int, str]]:
    """A reference that anvil's state proves, with other figures in it or under a block that nobody confirmed."""

    def run() -> tuple[int, str]:
        import asyncio

        from tests.conformance import chains

        from guantong.base.clock import SystemClock
        from guantong.prove.evm import EvmAnchor, deploy

        world = WORLD.World()
        files = world.files()
        head = parse_note(parse_proof(files[leaf_paths(files)[0].replace(".json", ".tlog-proof")]).checkpoint)
        origin, size, tree = head.text.split("\n")[:3]
        with chains.anvil() as (http, url):
            contract = asyncio.run(deploy(http, SystemClock(), url, chains.KEYS[0]))
            ref = dict(
                asyncio.run(
                    EvmAnchor(http, SystemClock(), url, contract, chains.KEYS[1]).submit(origin, int(size), unb64(tree))
                )
            )
        from guantong.base.evm import header_of

        block = "0x" + (bytes(32) if which == "block" else header_of(unb64(ref["header"])).hash).hex()
        trust = f"contract {ref['chain']} {contract}\nblock {ref['chain']} {block}\n" + world.trust_text()
        files["anchors/001.json"] = canonical_bytes({"ref": ref, "consistency": []})
        assert which == "block" or answer(world, files, trust)[0] == 0  # the untouched reference holds
        if which == "time":
            files["anchors/001.json"] = canonical_bytes(
                {"ref": {**ref, "time": ref["time"] - 86_400}, "consistency": []}
            )
        return answer(world, files, trust)

    return run


def policy(lines: str) -> Callable[[], tuple[int, str]]:
    def run() -> tuple[int, str]:
        world = WORLD.World()
        files = world.files()
        log = str(key_of(origin_of(world.provider), world.keys[world.provider]))
        w1, w2 = (
            str(key_of(witness_name_of(did), world.keys["witness " + did], COSIGNATURE))
            for did in (world.consumer, "did:web:auditor.example")
        )
        files["policy.txt"] = f"log {log}\n{lines.format(w1=w1, w2=w2)}".encode()
        return answer(world, files)

    return run


def quorum() -> tuple[int, str]:
    world = WORLD.World()
    files = world.files(cosigners=(("did:web:customer.example", "2026-11-24T08:00:05Z"),))
    return answer(world, files, world.trust_text("all"))


def number(text: bytes) -> Callable[[], tuple[int, str]]:
    def run() -> tuple[int, str]:
        world = WORLD.World()
        files = world.files()
        path = "receipts/000001.json"
        files[path] = files[path].replace(b'"rows":1000', b'"rows":' + text, 1)
        return answer(world, files)

    return run


CASES: dict[str, Callable[[], tuple[int, str]]] = {
    "control": control,
    "dropped-record": dropped,
    "reordered-records": reordered,
    "substituted-record": substituted,
    "rewritten-history": rewritten,
    "size-0": size_0,
    "size-1": size_1,
    "surplus-hash": path_changed(lambda proof: Proof(proof.index, (*proof.path, bytes(32)), proof.checkpoint)),
    "missing-hash": path_changed(lambda proof: Proof(proof.index, proof.path[:-1], proof.checkpoint)),
    "short-hash": short_hash,
    "index-outside": index_outside,
    "unknown-key": signatures(unknown_key),
    "bad-signature": signatures(bad_signature),
    "stranger-signs": signatures(stranger_signs),
    "vkey-plus": vkey_plus,
    "extra-altered": extra_altered,
    "replayed-countersignature": replayed,
    "other-provider-signature": other_provider_signature,
    "substituted-agreement": other_agreement,
    "cosignature-time-forged": signatures(later_cosignature),
    "token-time-forged": token("time"),
    "token-over-other-root": token("root"),
    "token-by-stranger": token("stranger"),
    "anchor-time-forged": anchored("time"),
    "anchor-of-other-block": anchored("block"),
    "policy-undefined": policy("witness a {w1}\ngroup g any a b\nquorum g\n"),
    "policy-reused": policy("witness a {w1}\nwitness b {w2}\ngroup g any a\ngroup h any a b\nquorum g\n"),
    "policy-key-twice": policy("witness a {w1}\nwitness b {w1}\nquorum a\n"),
    "quorum-not-met": quorum,
    "unsafe-integer": number(b"9007199254740993"),
    "not-a-number": number(b"NaN"),
}


def main(only: tuple[str, ...] = ()) -> int:
    """Every row that can stand in a package."""
    if not shutil.which("openssl") or not material.HERE.parents[0].joinpath("peers/node_modules").is_dir():
        return material.absent("verifier", "openssl and `make peers` are needed to forge time stamps and anchors")
    return material.judge("verifier", CASES, only=only)


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
