"""The exchange under load, and its parts alone.

    .venv/bin/python bench/exchange_loads.py [--quick] [--json] [--only NAME ...]

- ``concurrent``: 50 exchanges at once between two nodes in two processes: how many a second, and how long one takes.
- ``row``: 500 exchanges one after the other: how many were lost (an exchange that ends without its data and countersigned receipt).
- ``catalogue``: the body of one page of 500 and of one of all, from a shelf of 10,000 offers, for a caller who asks for the first time
  and for one who asked before.
- ``decision``: one policy decision with 10,000 agreements loaded, each on terms of its own.
  Both print the processor's own time too: a busy machine shows in the wall clock first.
- ``restart``: start to ready of a node whose records hold 10,000 final agreements with a started transfer each.
- ``stream``: an Arrow delivery as the consumer pulls it, beside a bare ASGI application that sends the same bytes in pieces of the same
  size to the same client, turn by turn, and as a stream that the consumer decodes, signs for and could take up again; server and client share one process and its event loop in both.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from exchange import PURPOSE, Told, quantiles

OFFERS = AGREEMENTS = 10_000
PARTNER = "did:web:partner.example"


def terms(number: int) -> dict[str, Any]:
    """A policy that no other number has."""
    named = {"leftOperand": "recipient", "operator": "eq", "rightOperand": PARTNER}
    count = {"leftOperand": "count", "operator": "lteq", "rightOperand": str(number + 1)}
    return {"permission": [{"action": "use", "constraint": [named, count]}]}


async def between_nodes(exchanges: int, at_once: int) -> dict[str, Any]:
    """Exchanges between two real nodes, ``at_once`` under way at any time."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        told = [await Told.begin(role, Path(name) / role, bare=False, profile="") for role in ("supplier", "customer")]
        try:
            known = [await side.heard() for side in told]
            supplier, customer = told
            await supplier.do("prepare", partner=known[1]["participant"], rows=400)
            partner = {"address": known[0]["address"], "partner": known[0]["participant"]}
            await customer.do("exchanges", **partner, count=10)
            began = time.perf_counter()
            found = await customer.do("crowd", **partner, count=exchanges, at_once=at_once)
            seconds = time.perf_counter() - began
        finally:
            for side in told:
                await side.end()
    return {
        "exchanges": exchanges,
        "at_once": at_once,
        "lost": found["lost"],
        "per_s": (exchanges - found["lost"]) / seconds,
        "ms": quantiles([value * 1000 for value in found["seconds"]]),
    }


def catalogue() -> dict[str, Any]:
    """A page of a shelf of ten thousand offers."""
    from guantong.exchange.catalogue import Shelf, Wanted
    from guantong.exchange.facts import Facts
    from guantong.exchange.model import Product

    shelf = Shelf("did:web:me.example", "https://me.example/dsp/2025-1")
    for number in range(OFFERS):
        shelf.put(Product(f"p{number}", f"d{number}", terms(number), title_en=f"Product {number}", terms="As agreed."))
    found: dict[str, Any] = {"offers": OFFERS}
    for name, size in (("page_of_500_ms", 500), ("page_of_all_ms", OFFERS)):
        taken, cpu = [], []
        for number in range(50):
            offset = Wanted(offset=(number * 500) % (OFFERS - size + 1))
            began, worked = time.perf_counter(), time.thread_time()
            body, *_ = shelf.page(Facts(PARTNER, 0), offset, size)
            taken.append((time.perf_counter() - began) * 1000)
            cpu.append((time.thread_time() - worked) * 1000)
        found[name] = {"first": taken[0], "p50": statistics.median(taken), "max": max(taken[1:]), "bytes": len(body)}
        found[name] |= {"cpu_first": cpu[0], "cpu_p50": statistics.median(cpu), "cpu_max": max(cpu[1:])}
    return found


async def decision() -> dict[str, Any]:
    """A decision among ten thousand agreements."""
    from guantong.base.clock import SystemClock
    from guantong.exchange.facts import Facts
    from guantong.exchange.permits import Permits
    from guantong.exchange.policy import compile_policy, policy_hash
    from guantong.govern.access import DecisionPoint
    from guantong.govern.model import GovernSettings, Request

    settings, clock = GovernSettings(), SystemClock()
    point = DecisionPoint("", keep=settings.policy_cache, max_bytes=settings.policy_bytes)
    permits = Permits()
    agreements = [_agreement(number, policy_hash) for number in range(AGREEMENTS)]
    found = {}
    for name in ("first", "again"):
        taken, cpu = [], []
        for number in range(AGREEMENTS):
            agreement = agreements[(number * 7919) % AGREEMENTS]
            began, worked = time.perf_counter(), time.thread_time()
            given = Facts(PARTNER, clock.now(), agreed_at=agreement.agreed_at, purposes=frozenset({PURPOSE}))
            context = {"purpose": PURPOSE, **given.context(compile_policy(agreement.agreement).needs)}
            asked = Request(PARTNER, "read", f"dataset:{agreement.dataset_id}", context=context)
            answer = point.decide("did:web:me.example", asked, permits.of_agreement(agreement), {}, clock.now())
            taken.append((time.perf_counter() - began) * 1000)
            cpu.append((time.thread_time() - worked) * 1000)
            assert answer.allowed, answer
        for what, values in (("ms", taken), ("cpu_ms", cpu)):
            found[f"{name}_{what}"] = {**quantiles(values), "p99": sorted(values)[round(0.99 * (len(values) - 1))]}
    return {"agreements": AGREEMENTS, **found}


def _agreement(number: int, policy_hash: Callable[[Any], str]) -> Any:
    from guantong.exchange.model import Agreement

    policy = terms(number)
    document = {"@id": f"urn:agreement:{number}", "@type": "Agreement", "target": f"d{number}", **policy}
    return Agreement(
        id=f"urn:agreement:{number}",
        role="provider",
        partner=PARTNER,
        partner_address="https://partner.example/dsp/2025-1",
        dataset_id=f"d{number}",
        product_id=f"p{number}",
        agreement=document,
        agreement_hash="sha256:" + "0" * 64,
        policy_hash=policy_hash(policy),
        terms="",
        price={},
        state="final",
        agreed_at=1,
        negotiation_pid=f"urn:negotiation:{number}",
    )


async def restart() -> dict[str, Any]:
    """A node starts on ten thousand agreements."""
    from guantong.config import load
    from guantong.exchange.policy import policy_hash
    from guantong.exchange.tables import AGREEMENTS as TABLE
    from guantong.exchange.tables import TRANSFERS
    from guantong.node import Node

    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        config = load({"node.directory": name, "web.port": 0}, environment={})
        node = Node(config)
        await node.start()
        me = node.participant
        for start in range(0, AGREEMENTS, 500):
            async with node.records.step(me) as step:
                for number in range(start, start + 500):
                    one = dataclasses.asdict(_agreement(number, policy_hash))
                    one["agreement"] = json.dumps(one["agreement"]).encode()
                    step.insert(TABLE, **{**one, "price": b"{}", "changed_at": 1})
                    step.insert(TRANSFERS, **_transfer(number))
        await node.stop()
        taken = []
        for _ in range(3):
            began = time.perf_counter()
            node = Node(config)
            await node.start()
            await node.serve()
            agreement = await node.exchange.agreement(me, f"urn:agreement:{AGREEMENTS - 1}")
            taken.append(time.perf_counter() - began)
            assert agreement.state == "final"
            await node.stop()
    return {"agreements": AGREEMENTS, "ready_s": quantiles(taken)}


def _transfer(number: int) -> dict[str, Any]:
    return {
        "pid": f"urn:transfer:{number}",
        "role": "provider",
        "partner": PARTNER,
        "partner_pid": f"urn:theirs:{number}",
        "partner_address": "https://partner.example/dsp/2025-1",
        "state": "STARTED",
        "agreement_id": f"urn:agreement:{number}",
        "format": "HttpData-PULL",
        "dataset_id": f"d{number}",
        "data_address": b"{}",
        "token_hash": "sha256:" + "0" * 64,
        "token_expires": 2**62,
        "waiting": "",
        "reason": "",
        "created_at": 1,
        "changed_at": 1,
    }


async def stream(megabytes: int) -> dict[str, Any]:
    """A large delivery beside its bare bytes."""
    import pyarrow as pa

    from guantong.base.clock import SystemClock
    from guantong.base.keys import Ed25519Key, P256Key
    from guantong.exchange.encoding import ARROW, Encoder
    from guantong.exchange.identity import Identity, did_of
    from guantong.exchange.model import Product
    from guantong.exchange.ports import Access, Verdict
    from guantong.exchange.service import Exchange
    from guantong.records import METADATA, Records
    from guantong.records.outbox import Outbox
    from guantong.web.app import _App
    from guantong.web.client import AiohttpClient
    from guantong.web.direct import Direct
    from guantong.web.model import WebSettings
    from guantong.web.server import WebServer, bind

    rows = 10_000
    batch = pa.record_batch({f"v{at}": pa.array(range(rows), pa.int64()) for at in range(10)})
    count = max(4, megabytes * 1_000_000 // batch.nbytes)
    encoder = Encoder(ARROW)
    pieces = [encoder.encode(batch) for _ in range(count)]
    settings, clock, http = WebSettings(), SystemClock(), AiohttpClient(WebSettings())

    async def permit(access: Access) -> Verdict:
        return Verdict(allowed=True, reason="")

    async def rights(participant: str, dataset_id: str) -> dict[str, Any]:
        return {"holder": participant}

    async def rows_of(participant: str, dataset_id: str, start: int | None = None, end: int | None = None) -> Any:
        for _ in range(count):
            yield batch

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"a/b")]})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        sides: list[tuple[Exchange, Records, Outbox, WebServer, str]] = []
        for role in ("supplier", "customer"):
            taken = bind("127.0.0.1", 0)
            address = f"http://127.0.0.1:{taken.getsockname()[1]}"
            records = Records(f"sqlite:///{name}/{role}.db", clock)
            records.open(METADATA.create_all)
            outbox = Outbox(records, clock)
            exchange = Exchange(records, outbox, clock, http, decide=permit, rights=rights, rows=rows_of)
            exchange.host(Identity(did_of(address), P256Key.generate(), Ed25519Key.generate()), address)
            app = _App(routes=exchange.routes(did_of(address)))
            app.partners(Direct(exchange.routes(did_of(address))), settings)
            server = WebServer(settings)
            await server.start(app, taken=taken)
            await exchange.start()
            await outbox.start()
            sides.append((exchange, records, outbox, server, address))
        plain = WebServer(settings)
        taken = bind("127.0.0.1", 0)
        bare_url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        await plain.start(bare, taken=taken)
        (provider, _, _, _, there), (consumer, _, _, _, here) = sides
        me, partner = did_of(here), did_of(there)
        await provider.offer(partner, Product("p", "d", {"permission": [{"action": "use"}]}))
        offer = (await consumer.catalogue(me, f"{there}/dsp/2025-1", partner)).offers[0]
        pid = await consumer.negotiate(me, f"{there}/dsp/2025-1", partner, offer)
        made = await consumer.wait_negotiation(me, pid)
        transfer = await consumer.request_transfer(me, made.agreement_id)
        await consumer.wait_transfer(me, transfer)

        async def ours() -> int:
            return sum([len(piece) async for piece in consumer.pull_bytes(me, transfer, accept=ARROW)])

        async def acknowledged() -> int:
            async for _ in consumer.streams.read(me, transfer):
                pass
            return size

        async def theirs() -> int:
            async with http.stream("GET", bare_url) as answer:
                return sum([len(piece) async for piece in answer.chunks()])

        size = 0
        cpu: dict[str, list[float]] = {"ours": [], "acknowledged": [], "bare": []}
        speeds: dict[str, list[float]] = {"ours": [], "acknowledged": [], "bare": []}
        for turn in range(6):
            # a transfer of its own each time: what was acknowledged is not sent again
            transfer = await consumer.request_transfer(me, made.agreement_id)
            await consumer.wait_transfer(me, transfer)
            for what, act in (("ours", ours), ("acknowledged", acknowledged), ("bare", theirs)):
                began, worked = time.perf_counter(), time.process_time()
                size = await act()
                if turn:
                    speeds[what].append(size / (time.perf_counter() - began) / 1e6)
                    cpu[what].append(size / (time.process_time() - worked) / 1e6)
        for exchange, records, outbox, server, _ in sides:
            await server.stop()
            await exchange.stop()
            await outbox.stop()
            records.close()
        await plain.stop()
        await http.close()
    medians = {what: statistics.median(values) for what, values in speeds.items()}
    worked = {what: statistics.median(values) for what, values in cpu.items()}
    return {
        "bytes": size,
        "mb_s": medians,
        "mb_cpu_s": worked,
        "share": medians["ours"] / medians["bare"],
        "share_acknowledged": medians["acknowledged"] / medians["bare"],
        "share_cpu": worked["ours"] / worked["bare"],
        "share_cpu_acknowledged": worked["acknowledged"] / worked["bare"],
    }


def main() -> None:
    """The command."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="a fifth of the exchanges and bytes")
    options.add_argument("--json", action="store_true")
    options.add_argument("--only", nargs="*", default=())
    given = options.parse_args()
    share = 5 if given.quick else 1

    async def at_once() -> dict[str, Any]:
        return await between_nodes(500 // share, 50)

    async def in_a_row() -> dict[str, Any]:
        return await between_nodes(500 // share, 1)

    async def page() -> dict[str, Any]:
        return catalogue()

    async def whole_stream() -> dict[str, Any]:
        return await stream(200 // share)

    parts: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "concurrent": at_once,
        "row": in_a_row,
        "catalogue": page,
        "decision": decision,
        "restart": restart,
        "stream": whole_stream,
    }
    from guantong.node import run_async

    async def each() -> AsyncIterator[tuple[str, dict[str, Any]]]:
        for name, part in parts.items():
            if not given.only or name in given.only:
                yield name, await part()

    async def run() -> dict[str, Any]:
        found: dict[str, Any] = {"load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None}
        async for name, figures in each():
            found[name] = figures
            if not given.json:
                print(name, json.dumps(figures, default=str), flush=True)
        return found

    figures = run_async(run())
    if given.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
