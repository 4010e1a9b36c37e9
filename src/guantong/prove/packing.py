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
    documents, leaves, extra = within(scope, documents, leaves, extra)
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
            extra={
                **extra,
                **await _anchors(prove, participant, head, max(leaves) + 1),
                **await _changes(prove, participant),
            },
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
    scope: Scope, documents: Mapping[str, bytes], leaves: Mapping[int, bytes], extra: Mapping[str, bytes]
) -> tuple[dict[str, bytes], dict[int, bytes], dict[str, bytes]]:
    """What of papers, leaves and further files lies in a scope; the agreement and its own entry always do.

    Receipts go with their usage records, and invoices with the last of their receipts: an invoice over more than the scope does not
    follow from what is in the package. Disputes and credit notes are in packages of whole agreements only.
    """
    if scope == Scope():
        return dict(documents), dict(leaves), dict(extra)
    parsed = {number: json.loads(data) for number, data in sorted(leaves.items())}
    usage = [leaf["body"]["record"] for leaf in parsed.values() if isinstance(leaf["body"].get("record"), dict)]
    # a consumer's own entries name its own process
    ours = {one.get("consumerProcessId") for one in usage if one["transferProcessId"] == scope.transfer} | {
        scope.transfer
    }

    def in_time(leaf: Mapping[str, Any]) -> bool:
        at = parse_iso(leaf["at"])
        return (scope.start is None or at >= scope.start) and (scope.end is None or at < scope.end)

    kept: set[int] = set()
    records: set[str] = set()
    names: set[str] = set()
    for number, leaf in parsed.items():
        body = leaf["body"]
        record = body.get("record")
        if isinstance(record, dict):
            of_it = scope.transfer in (None, record.get("transferProcessId"))
        else:  # an answer names the record that it answers
            named = {str(record), str(body.get("recordId"))}
            of_it = scope.transfer is None or (body.get("transfer") or body.get("pid")) in ours or bool(named & names)
        if leaf["kind"] != "exchange.agreement-made" and not (of_it and in_time(leaf)):
            continue
        kept.add(number)
        if isinstance(record, dict):
            records.add(digest(record))
            names.add(str(record["recordId"]))
    invoices: dict[str, str] = {}
    for path, data in extra.items():
        document = json.loads(data)["document"] if path.startswith("invoices/") else {}
        if document and {str(one["id"]) for one in document["receipts"]} <= names:
            invoices[digest(document)] = path
    logged = {leaf["body"].get("invoice") for leaf in parsed.values() if in_time(leaf)}
    kept |= {number for number, leaf in parsed.items() if in_time(leaf) and leaf["body"].get("invoice") in invoices}
    return (
        {
            path: data
            for path, data in documents.items()
            if not path.startswith("receipts/") or digest(json.loads(data)["record"]) in records
        },
        {number: leaves[number] for number in sorted(kept)},
        {path: extra[path] for name, path in invoices.items() if name in logged},
    )


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


async def _changes(prove: Prove, participant: str) -> dict[str, bytes]:
    """``keys/<n>.json``: how the keys of the maker and of partners known to it changed, so that older signatures can be checked."""
    known = await prove.key_changes.known(participant)
    found = {f"keys/{number:03d}.json": canonical_bytes(dict(one)) for number, one in enumerate(known, 1)}
    company = prove.private_keys(participant).company
    if company is not None:
        found["company/001.json"] = canonical_bytes(dict(company))
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
