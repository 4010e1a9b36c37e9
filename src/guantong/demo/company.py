"""One company of the demonstration: a whole node in a process of its own, told step by step what its people do.

Commands come as JSON objects, one a line, on standard input; each is answered by one on standard output. A step does what a person
would do on the pages; everything between the companies goes over HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from guantong.base.clock import iso
from guantong.base.errors import GuantongError
from guantong.config import load
from guantong.demo.plan import AGENT, GAUGE, METER, MILL
from guantong.node import Node

__all__ = ["Company", "main"]

COMPONENT = "housing-7"
INSPECTION, PRODUCTION = "inspection", "production"
PRICE = {
    "currency": "CNY",
    "charges": [{"per": "row", "price": "0.02"}, {"per": "transfer", "price": "5.00"}],
    "minimum": "6.00",
}
TERMS = "Data may be used to assess incoming parts of the named order. Payment within 30 days."


class Company:
    """Steps by name; each returns plain JSON."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.me = node.participant
        self.agreements: dict[str, str] = {}

    # -- supplier: machines in

    async def connect(
        self, shdr: str, agent: str, meter: str, units: dict[str, str], inspection: str
    ) -> dict[str, Any]:
        """Probe every address as the Sources page does, and start reading."""
        from dataclasses import replace

        from guantong.connect.model import Property

        connect = self.node.connect
        found = {}
        for name, url in ((AGENT, agent), (METER, meter), (MILL, shdr), (GAUGE, inspection)):
            proposal = await connect.probe(url)
            interface = replace(proposal.interface, name=name)
            if name == MILL:  # an adapter says no units: a person adds them from the machine's papers
                interface = replace(
                    interface, properties=tuple(Property(key, unit=unit) for key, unit in units.items())
                )
            await connect.add(self.me, interface)
            found[name] = len(proposal.offers)
        await self._until(
            lambda: all(card.connected for card in connect.scorecards(self.me) if card.source in (AGENT, METER, MILL))
        )
        return {"offers": found, "sources": len(found)}

    async def rates(self) -> dict[str, Any]:
        """Configure what a unit of each meter costs, and read the meters for the first time."""
        from guantong.value.model import Rate

        await self.node.value.set_rates(
            self.me,
            [
                *(
                    Rate(
                        f"connector-hours/{name}",
                        Decimal("0.09"),
                        "CNY",
                        "allocation key 2026: one industrial PC over 4 sources",
                    )
                    for name in (MILL, AGENT, METER, GAUGE)
                ),
                Rate("points", Decimal("0.80"), "CNY", "allocation key 2026: data cleaning", per=Decimal(10_000)),
                Rate(
                    "compute-seconds", Decimal("0.12"), "CNY", "allocation key 2026: industrial PC", per=Decimal(3_600)
                ),
                Rate("stored-bytes", Decimal("0.002"), "CNY", "storage tariff 2026", per=Decimal(1_073_741_824)),
            ],
        )
        await self.node.value.meter(self.me)
        return {"rates": len(await self.node.value.rates(self.me))}

    async def backfill(self, log: str) -> dict[str, Any]:
        """Read the adapter's own log of the past hours."""
        done = await self.node.connect.import_file(self.me, MILL, log)
        return asdict(done)

    async def scorecards(self) -> list[dict[str, Any]]:
        """How the sources are doing."""
        return [asdict(card) for card in self.node.connect.scorecards(self.me)]

    async def drain(self, parts: int = 0) -> dict[str, Any]:
        """Wait until inspection files are in, fuse everything logged, and commit it to the tables."""
        if parts:
            await self._until(
                lambda: any(
                    card.received >= parts for card in self.node.connect.scorecards(self.me) if card.source == GAUGE
                )
            )
        before = -1
        while before != (now := sum(card.received for card in self.node.connect.scorecards(self.me))):
            before = now  # what is still under way from the machines arrives within a publishing interval or two
            await self.node.clock.sleep(0.6)
        await self.node.fuse.drain(self.me)
        await self.node.keep.flush(self.me)
        counts = await self.node.fuse.counts(self.me)
        stats = await self.node.keep.stats(self.me)
        return {"counts": asdict(counts), "stats": asdict(stats)}

    async def findings(self) -> list[dict[str, Any]]:
        """What fusion and the watch found wrong."""
        found = [*await self.node.fuse.findings(self.me), *await self.node.watch.warnings(self.me)]
        return [{**asdict(item), "facts": dict(item.facts)} for item in found]

    # -- supplier: described, governed, offered

    async def describe(self) -> dict[str, Any]:
        """Two datasets and the shells of machines and parts."""
        from guantong.describe.model import Dataset

        signals = await self.node.fuse.signals(self.me)
        await self.node.describe.define(
            self.me,
            Dataset(
                INSPECTION,
                "Inspection results of housing 7",
                "7 号壳体的检测结果",
                description="Final and in-process inspection, QIF 2.1",
                kind="measurements",
                models=(COMPONENT,),
                keywords=("inspection", "housing"),
            ),
        )
        await self.node.describe.define(
            self.me,
            Dataset(
                PRODUCTION,
                "Production data of mill 01",
                "1 号铣床的生产数据",
                kind="readings",
                signals=tuple(signal.id for signal in signals if signal.source == MILL),
                keywords=("milling",),
            ),
        )
        shells = await self.node.describe.write_shells(self.me)
        page = await self.node.describe.shells(self.me)
        return {"documents": shells, "shells": len(page.items), "datasets": 2, "signals": len(signals)}

    async def govern(self) -> dict[str, Any]:
        """Grade every signal and both datasets, state the rights, score the quality."""
        from guantong.govern.measure import measure, subjects
        from guantong.govern.model import Rights

        govern = self.node.govern
        signals = await self.node.fuse.signals(self.me)
        datasets = await self.node.describe.datasets(self.me)
        graded = [
            one for one in await govern.classify(self.me, subjects(signals, datasets)) if one.id.startswith("signal:")
        ]
        now = self.node.clock.now()
        quality = {}
        for dataset in datasets:
            await govern.state_rights(
                self.me,
                Rights(
                    dataset.id,
                    holder=self.me,
                    processor=self.me,
                    operator=self.me,
                    source="own production",
                    evidence="machine and gauge owned, asset register 2026-07",
                    valid_from=iso(now, digits=0),
                ),
            )
            inputs = await measure(self.me, dataset, self.node.describe, self.node.fuse, now=now)
            scored = await govern.score(self.me, dataset.id, inputs)
            quality[dataset.id] = {"q": scored.q, "coverage": scored.coverage}
        levels: dict[str, int] = {}
        for item in graded:
            levels[item.level] = levels.get(item.level, 0) + 1
        return {
            "graded": len(graded),
            "signals": len(signals),
            "levels": levels,
            "rights": len(datasets),
            "quality": quality,
        }

    async def offer(self, partner: str) -> dict[str, Any]:
        """Put both datasets on offer: for one partner, for one purpose, at most a hundred deliveries, at a price."""
        from guantong.exchange.model import Product

        policy = {
            "permission": [
                {
                    "action": "use",
                    "constraint": [
                        {"leftOperand": "recipient", "operator": "eq", "rightOperand": partner},
                        {"leftOperand": "purpose", "operator": "eq", "rightOperand": "incoming inspection"},
                        {"leftOperand": "count", "operator": "lteq", "rightOperand": "100"},
                    ],
                }
            ]
        }
        for dataset, en, zh in (
            (INSPECTION, "Inspection results of housing 7", "7 号壳体的检测结果"),
            (PRODUCTION, "Production data of mill 01", "1 号铣床的生产数据"),
        ):
            await self.node.exchange.offer(
                self.me,
                Product(f"product-{dataset}", dataset, policy, title_en=en, title_zh=zh, terms=TERMS, price=PRICE),
            )
        return {"products": len(await self.node.exchange.products(self.me))}

    # -- customer

    async def incoming(self, folder: str, parts: int) -> dict[str, Any]:
        """Read the customer's own incoming inspection."""
        from dataclasses import replace

        proposal = await self.node.connect.probe(folder)
        await self.node.connect.add(self.me, replace(proposal.interface, name="incoming"))
        await self._until(lambda: any(card.received >= parts for card in self.node.connect.scorecards(self.me)))
        await self.node.fuse.drain(self.me)
        await self.node.keep.flush(self.me)
        return asdict(await self.node.fuse.counts(self.me))

    async def buy(self, address: str, partner: str, dataset: str) -> dict[str, Any]:
        """Catalogue, negotiation, transfer, delivery into the own tables."""
        exchange = self.node.exchange
        catalogue = await exchange.catalogue(self.me, address + "/dsp/2025-1", partner)
        offer = next(item for item in catalogue.offers if item.dataset_id == dataset)
        pid = await exchange.negotiate(self.me, address + "/dsp/2025-1", partner, offer)
        negotiation = await exchange.wait_negotiation(self.me, pid)
        if negotiation.state != "FINALIZED":
            return {"negotiation": negotiation.state, "reason": negotiation.reason}
        received = await self.node.receive(negotiation.agreement_id, purpose="incoming inspection")
        self.agreements[dataset] = negotiation.agreement_id
        return {"negotiation": negotiation.state, "agreement": negotiation.agreement_id, **received}

    async def process(self, agreement: str) -> dict[str, Any]:
        """How this side sees the negotiation and the transfers of an agreement."""
        exchange = self.node.exchange
        negotiations = [item for item in await exchange.negotiations(self.me) if item.agreement_id == agreement]
        transfers = [item for item in await exchange.transfers(self.me) if item.agreement_id == agreement]
        receipts = await exchange.receipts(self.me, agreement)
        return {
            "negotiation": negotiations[0].state if negotiations else None,
            "transfer": transfers[-1].state if transfers else None,
            "rows": sum(int(item.record["rows"]) for item in receipts),
            "receipts": [item.state for item in receipts],
        }

    async def finish(self, agreement: str) -> dict[str, Any]:
        """Complete the transfers of an agreement: nothing more will be asked."""
        exchange = self.node.exchange
        for transfer in await exchange.transfers(self.me):
            if transfer.agreement_id == agreement and transfer.state == "STARTED":
                await exchange.decide_transfer(self.me, transfer.pid, "complete")
        return {}

    async def receipts(self, agreement: str) -> dict[str, Any]:
        """Wait for the countersignatures and check every signature anew."""
        from guantong.exchange.rules import verify_receipt

        rows = await self.node.exchange.wait_receipts(self.me, agreement)
        problems: list[str] = []
        for item in rows:
            provider, consumer = str(item.record["provider"]), str(item.record["consumer"])
            problems += verify_receipt(
                dict(item.record),
                item.signature,
                dict(item.countersignature) or None,
                await self._key(provider),
                await self._key(consumer),
            )
        signed = bool(rows) and all(item.state == "acknowledged" for item in rows)
        return {"receipts": len(rows), "verified": signed and not problems, "problems": problems}

    async def _key(self, did: str) -> bytes:
        return self.node.keys.evidence.public if did == self.me else await self.node.settle.partners.partner_key(did)

    # -- both: settle, prove, value, watch

    async def invoice(self, agreement: str) -> dict[str, Any]:
        """Derive this side's invoice from this side's receipts."""
        found = await self.node.settle.invoice(self.me, agreement)
        return {"total": found.total, "currency": found.currency, "state": found.state}

    async def invoice_settled(self, agreement: str) -> dict[str, Any]:
        """The newest invoice once the partner has answered it, or as it stands after five seconds."""
        end = self.node.clock.monotonic() + 5
        while True:
            found = (await self.node.settle.invoices(self.me, agreement))[0]
            if found.state not in ("issued", "expected") or self.node.clock.monotonic() > end:
                return {"total": found.total, "currency": found.currency, "state": found.state}
            await self.node.clock.sleep(0.05)

    async def package(self, agreement: str, folder: str) -> dict[str, Any]:
        """Write the evidence package."""
        path = await self.node.package(agreement, Path(folder))
        view = await self.node.prove.view(self.me)
        return {"path": str(path), "leaves": view.size}

    async def trust(self) -> str:
        """This node's trust file."""
        return await self.node.trust()

    async def value(self) -> dict[str, Any]:
        """Meter the cost since the last time and appraise the inspection dataset."""
        await self.node.value.meter(self.me)
        sheet = await self.node.value.costs(self.me)
        appraisal = await self.node.value.appraise(self.me, INSPECTION)
        return {
            "lines": len(sheet.entries),
            "low": str(appraisal.value.low),
            "likely": str(appraisal.value.likely),
            "high": str(appraisal.value.high),
            "currency": appraisal.currency,
            "stamp": appraisal.stamp[0],
        }

    async def stock(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """State stocks and usage."""
        from guantong.watch.model import Supply

        await self.node.watch.set_supply(self.me, [Supply(**row) for row in rows])
        return {"components": len(rows)}

    async def survive(self, disrupted: str) -> list[dict[str, Any]]:
        """How long supply lasts when a component stops, the partner asked for one number."""
        return [asdict(item) for item in await self.node.watch.time_to_survive(self.me, disrupted)]

    async def watch(self) -> dict[str, Any]:
        """Availability, control charts, warnings, energy."""
        watch = self.node.watch
        availability = await watch.availability(self.me)
        charts = await watch.spc(self.me)
        warnings = await watch.warnings(self.me)
        energy = await watch.energy(self.me)
        return {
            "availability": [
                {"machine": item.machine, "value": item.availability.value, "coverage": item.availability.coverage}
                for item in availability
            ],
            "charts": len(charts),
            "out_of_control": sum(bool(chart.signals) for chart in charts),
            "warnings": [{**asdict(item), "facts": dict(item.facts)} for item in warnings],
            "energy": [asdict(item) for item in energy],
            "carbon_unit": energy[0].emission.unit if energy else "kgCO2",
        }

    async def parts(self) -> dict[str, Any]:
        """Parts that are known under names of both companies."""
        parts = await self.node.fuse.parts(self.me)
        return {"parts": len(parts), "both": sum(len({name[0] for name in part.names}) > 1 for part in parts)}

    async def link(self) -> str:
        """A one-time sign-in link."""
        return await self.node.sign_in_link()

    async def _until(self, ready: Callable[[], bool], timeout_s: float = 20.0) -> None:
        # woken by the scorecards themselves; the timeout turns a silent machine into a clear error
        deadline = self.node.clock.monotonic() + timeout_s
        changed = asyncio.Event()
        self.node.connect.on_change(changed.set)
        while not ready():
            remaining = deadline - self.node.clock.monotonic()
            if remaining <= 0:
                raise TimeoutError("the sources did not answer in time")
            changed.clear()
            try:
                await asyncio.wait_for(changed.wait(), min(remaining, 0.5))
            except TimeoutError:
                continue


async def run(directory: Path, name: str) -> None:
    """Start the node and obey until standard input ends."""
    started = asyncio.get_running_loop().time()
    node = Node(load({"node.directory": directory, "node.name": name, "web.port": 0}, environment={}))
    await node.start()
    await node.serve()
    company = Company(node)
    _say(
        {
            "participant": node.participant,
            "address": node.address,
            "seconds": asyncio.get_running_loop().time() - started,
        }
    )
    loop = asyncio.get_running_loop()
    try:
        # a thread reads: not every event loop can read a pipe that the parent opened (Windows)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            step: Callable[..., Awaitable[Any]] = getattr(company, order["step"])
            began = loop.time()
            try:
                result = await step(**order.get("with", {}))
                _say({"ok": True, "result": result, "seconds": loop.time() - began})
            except GuantongError as error:
                _say({"ok": False, "code": error.code, "message": str(error), "seconds": loop.time() - began})
            except Exception as error:
                logging.getLogger("guantong.demo").exception("step %s", order["step"])
                _say({"ok": False, "code": type(error).__name__, "message": str(error), "seconds": loop.time() - began})
    finally:
        await node.stop()


def _say(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event, default=str) + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> None:
    """Entry point of a company's process."""
    from guantong.node import run_async

    parser = argparse.ArgumentParser(prog="guantong-company")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--name", required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    run_async(run(options.directory, options.name))


if __name__ == "__main__":
    main()
