"""How a package is put together: the papers, the leaves that go with them, their proofs, and the anchors over them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guantong.base.canonical import b64, canonical_bytes, digest, unb64
from guantong.base.clock import parse_iso
from guantong.base.errors import ConfigProblem, Refused, Retryable, Skippable
from guantong.prove import package, rules
from guantong.prove.model import CheckpointView, PackageMade, Scope

if TYPE_CHECKING:
    from guantong.prove.service import Prove

__all__ = ["make", "store"]


async def make(
    prove: Prove, participant: str, agreement_id: str, out: Path, extra: Mapping[str, bytes], scope: Scope
) -> tuple[dict[str, Any], tuple[PackageMade, bytes]]:
    """The body of the entry about the package, and the package with its bytes; nothing is written yet."""
    documents, numbers = await _papers(prove, participant, agreement_id)
    leaves = {}
    for number in numbers:
        leaf = await prove.leaf(participant, number)
        assert leaf is not None
        leaves[number] = leaf
    documents, leaves = within(scope, documents, leaves)
    if not leaves:
        raise Skippable("prove.no-such-agreement", agreement=agreement_id)
    head = await _head(prove, participant, max(leaves) + 1)
    keys = prove.private_keys(participant)
    log_key, _ = prove.keys_of(participant)
    known = {peer.did: peer.witness_vkey for peer in prove.peers(participant)}
    witnesses = [(did, key) for did, _at in head.cosigners if (key := known.get(did))]
    entries = [
        (number, leaf, (await prove.inclusion(participant, number, head)).to_bytes()) for number, leaf in leaves.items()
    ]
    path = out if out.suffix else out.with_name(out.name + ".guantong.zip")
    try:
        files = package.files(
            participant=participant,
            agreement_id=agreement_id,
            documents=documents,
            extra={**extra, **await _anchors(prove, participant, head, max(leaves) + 1)},
            entries=entries,
            log_key=log_key,
            witnesses=witnesses,
            name=path.name,
        )
        manifest = rules.manifest(
            files,
            maker=participant,
            agreement_id=agreement_id,
            made_at=prove.clock.now(),
            key=keys.log,
            scope=scope.document(),
        )
        data = rules.write_zip({rules.MANIFEST: manifest, **files})
    except ValueError as error:
        raise ConfigProblem("prove.package-conflict", reason=str(error)) from error
    if len(data) > prove.settings.max_package_bytes:
        raise Refused("prove.package-too-large", size=len(data), limit=prove.settings.max_package_bytes)
    made = PackageMade(
        path,
        len(data),
        rules.digest_of(data),
        len(entries),
        len(files) + 1,
        min((at for _, at in head.cosigners), default=None),
    )
    return (
        {"agreementId": agreement_id, "manifest": rules.digest_of(manifest), "files": len(files) + 1},
        (made, data),
    )


async def store(made: tuple[PackageMade, bytes]) -> PackageMade:
    """Write the package, once its entry is durable."""
    found, data = made
    await asyncio.to_thread(package.write, found.path, data)
    return replace(found)


def within(
    scope: Scope, documents: Mapping[str, bytes], leaves: Mapping[int, bytes]
) -> tuple[dict[str, bytes], dict[int, bytes]]:
    """What of papers and leaves lies in a scope; the agreement and its own entry always do. Receipts go with their usage records."""
    if scope == Scope():
        return dict(documents), dict(leaves)
    kept: dict[int, bytes] = {}
    records: set[str] = set()
    names: set[str] = set()
    for number, data in sorted(leaves.items()):
        leaf = json.loads(data)
        body, at = leaf["body"], parse_iso(leaf["at"])
        record = body.get("record")
        usage = isinstance(record, dict)
        transfer = record.get("transferProcessId") if usage else body.get("transfer") or body.get("pid")
        of_it = scope.transfer in (None, transfer) or (not usage and record in names)  # an answer names the record that it answers
        in_time = (scope.start is None or at >= scope.start) and (scope.end is None or at < scope.end)
        if leaf["kind"] != "exchange.agreement-made" and not (of_it and in_time):
            continue
        kept[number] = data
        if usage:
            records.add(digest(record))
            names.add(str(record["recordId"]))
    papers = {
        path: data
        for path, data in documents.items()
        if not path.startswith("receipts/") or digest(json.loads(data)["record"]) in records
    }
    return papers, kept


async def _anchors(prove: Prove, participant: str, head: CheckpointView, size: int) -> dict[str, bytes]:
    """``anchors/<n>.json`` for each kind: the earliest anchor over everything in the package, and the way between it and the checkpoint.

    Time stamps also go in as the plain ``.tsr`` and the text stamped, for ``openssl ts -verify``.
    """
    found: dict[str, bytes] = {}
    for number, anchor in enumerate(await prove.rounds.anchors_over(participant, size), 1):
        way = await prove.consistency(participant, *sorted((anchor.size, head.size)))
        name = f"anchors/{number:03d}"
        found[f"{name}.json"] = canonical_bytes({"ref": dict(anchor.ref), "consistency": [b64(item) for item in way]})
        if anchor.kind == "rfc3161":
            found[f"{name}.tsr"] = unb64(str(anchor.ref["token"]))
            found[f"{name}.txt"] = str(anchor.ref["text"]).encode()
    return found


async def _papers(prove: Prove, participant: str, agreement_id: str) -> tuple[Mapping[str, bytes], list[int]]:
    """The papers and the leaves that go with them: a receipt answered meanwhile would be in one and not in the other."""
    documents: Mapping[str, bytes] | None = None
    for _ in range(10):
        before = documents
        documents = await prove.source.documents(participant, agreement_id) if prove.source else {}
        if documents == before:
            break
        await prove.catch_up(participant)
        numbers = await prove.numbers_about(participant, agreement_id)
    else:
        raise Retryable("prove.package-moving", agreement=agreement_id)
    if not numbers or not documents:
        raise Skippable("prove.no-such-agreement", agreement=agreement_id)
    return documents, numbers


async def _head(prove: Prove, participant: str, size: int) -> CheckpointView:
    if prove.peers(participant) and prove.running:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(prove.settings.package_wait_s):
                return await prove.witnessed(participant, size)
    head = await prove.witnessed_checkpoint(participant, size) or await prove.checkpoint(participant)
    assert head is not None
    return head
