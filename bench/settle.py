"""Accounts: an invoice over many receipts, a netting with its certificate, figures with proof.

    .venv/bin/python bench/settle.py [--quick] [--json]

One process, one thread; wall and CPU time. Receipts are made first (not timed). The trade graph is synthetic: lognormal debts between firms
of Pareto-distributed weight.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from guantong.base.canonical import sha256
from guantong.base.chunks import ChunkTree, chunk_salt
from guantong.prove import figure_proof
from guantong.prove.figure_functions import FUNCTIONS, Window
from guantong.prove.figure_proof import Chunk, Unit, check_opening, draws, figure_document, openings, trace
from guantong.settle import rules
from guantong.settle.clearing import clear
from guantong.settle.netting import Obligation, check

PLAN = {
    "currency": "CNY",
    "charges": [
        {"per": "row", "tiers": [{"from": "0", "price": "0.001"}, {"from": "1000000", "price": "0.0004"}]},
        {"per": "transfer", "price": "0.5"},
    ],
    "taxes": [{"name": "VAT", "rate": "0.06"}],
}


def timed(work: Callable[[], Any], runs: int) -> tuple[dict[str, float], Any]:
    wall, cpu, found = [], [], None
    for _ in range(runs):
        began, used = time.perf_counter(), time.process_time()
        found = work()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return {
        "min": min(wall),
        "median": statistics.median(wall),
        "max": max(wall),
        "cpu median": statistics.median(cpu),
    }, found


def receipts(count: int) -> list[dict[str, Any]]:
    return [
        {
            "v": 1, "type": "usage", "recordId": f"urn:uuid:{at:012d}", "agreementId": "urn:uuid:a", "agreementHash": "sha256:" + "a" * 64,
            "policyHash": "sha256:" + "b" * 64, "assetId": "spindle", "assetVersion": "1", "transferProcessId": f"urn:uuid:t{at % 997}",
            "consumerProcessId": "urn:uuid:c", "seq": at, "provider": "did:web:a.example", "consumer": "did:web:b.example",
            "from": "2026-11-24T08:00:00.000000Z", "to": "2026-11-24T08:00:01.000000Z", "unit": "row", "quantity": str(at % 1000), "rows": at % 1000,
            "bytes": at % 1000 * 40, "complete": True, "purpose": "", "contentAlg": "sha256-rfc6962", "blockBytes": 65536,
            "contentRoot": "sha256:" + "c" * 64, "chunkCount": 1, "prev": "", "meterSource": "did:web:a.example#evidence", "clock": "system",
            "salt": "AAAAAAAAAAAAAAAAAAAAAA==",
        }
        for at in range(count)
    ]  # fmt: skip


def trade(firms: int, debts: int) -> list[Obligation]:
    chance = np.random.default_rng(1)
    weight = chance.pareto(1.2, firms) + 1
    found: dict[tuple[int, int], int] = {}
    while len(found) < debts:
        for one, other in chance.choice(firms, size=(debts, 2), p=weight / weight.sum()):
            if one != other and len(found) < debts:
                found.setdefault((int(one), int(other)), int(chance.lognormal(10, 1.5)) + 1)
    return [Obligation(f"firm {one:05d}", f"firm {other:05d}", amount) for (one, other), amount in found.items()]


def figure(chunks: int) -> dict[str, Any]:
    """Energy per part over chunks of 256 readings: commit, make, open 300 draws, check them."""
    secret = sha256(b"bench")
    texts, count = [], 0
    for at in range(chunks):
        times = [(at * 256 + row) * 10**9 for row in range(256)]
        values = [(count := count + 1) / 8 for _ in range(256)]
        texts.append(orjson.dumps({"v": 1, "table": "readings", "stream": "signal/1", "of": chunks, "at": at, "time": times, "sequence": None, "value": values, "revision": 0, "status": 0}))  # fmt: skip
    committing, tree = timed(lambda: ChunkTree.of(secret, texts), 3)
    parts = orjson.dumps({"v": 1, "table": "readings", "stream": "signal/2", "of": 1, "at": 0, "time": [0, 255 * 10**9], "sequence": None, "value": [0, 1000], "revision": 0, "status": 0})  # fmt: skip
    small = ChunkTree.of(secret, [parts])
    units = [Unit("parts", "signal/2", (Chunk(1, 0, chunk_salt(secret, 0), parts, lambda: small.path(0)),))]
    units += [
        Unit("energy", "signal/1", (Chunk(0, at, chunk_salt(secret, at), text, lambda at=at: tree.path(at)),))
        for at, text in enumerate(texts)
    ]
    function, window = FUNCTIONS["energy-per-part@1"], Window(0, chunks * 256 * 10**9)
    making, made = timed(lambda: trace(function, {}, window, units, secret), 3)
    inputs = [
        {"role": "parts", "table": "readings", "streams": ["signal/2"]},
        {"role": "energy", "table": "readings", "streams": ["signal/1"]},
    ]
    document = figure_document(
        seller="did:web:a.example", window=window, made=made, openings=300, made_at=0, nonce_hash="", agreement_id="", buyer="",
        definition={"id": "e", "function": function.name, "inputs": inputs, "parameters": {}},
        commits=[
            {"entry": 0, "table": "readings", "chunks": chunks, "root": "sha256:" + tree.root.hex()},
            {"entry": 1, "table": "readings", "chunks": 1, "root": "sha256:" + small.root.hex()},
        ],
    )  # fmt: skip
    drawn = draws(sha256(b"seed"), 300, made.weights[-1])
    opening, shown = timed(lambda: openings(made, units, drawn), 3)
    checking, _ = timed(lambda: [check_opening(document, one) for one in shown], 3)
    size = len(figure_proof.canonical_bytes(shown))
    return {
        f"commit to {chunks:,} chunks of 256 readings (s)": committing,
        f"make a figure of {chunks:,} chunks (s)": making,
        "open 300 draws (s)": opening,
        "check 300 draws (s)": checking,
        "size of 300 openings (MB)": round(size / 1e6, 2),
    }


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    count, firms, debts, chunks = (50_000, 200, 4_135, 200) if given.quick else (1_000_000, 1_000, 18_700, 2_000)
    records, plan = receipts(count), rules.PricePlan.parse(PLAN)
    found: dict[str, Any] = {}
    found[f"invoice over {count:,} receipts (s)"], document = timed(
        lambda: rules.invoice(plan, records, number="GT-2026-000001", issued_at=0), 1
    )
    found["invoice total"] = document["total"]
    records.clear()
    del document
    obligations = trade(firms, debts)
    found[f"netting of {firms:,} firms, {debts:,} debts, with certificate (s)"], made = timed(
        lambda: clear(obligations, currency="CNY"), 3
    )
    found["check of the certificate (s)"], problems = timed(lambda: check(made), 3)
    found["left after set-off (%)"] = round(100 - 100 * int(made["cancelled"]) / int(made["gross"]), 1)
    found["problems found"] = len(problems)
    found |= figure(chunks)
    if given.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        text = (
            "  ".join(f"{key} {number:.3f}" for key, number in value.items()) if isinstance(value, dict) else str(value)
        )
        print(f"{name:<62} {text}")


if __name__ == "__main__":
    main()
