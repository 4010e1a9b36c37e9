"""The demonstration's director: starts simulators and two companies, walks the ten stages, and compares what was found with what was planned."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from guantong.base.errors import ConfigProblem
from guantong.demo.company import COMPONENT, INSPECTION
from guantong.demo.plan import LIVE_S
from guantong.demo.processes import Child, start
from guantong.demo.score import score
from guantong.journey import JOURNEY

__all__ = ["demonstrate"]

Echo = Callable[[str], Any]
Outcome = tuple[bool, str]
"""Whether a stage did what it should, and its figure in words."""

_MARKER = ".guantong-demo-directory"
_SUPPLIER, _CUSTOMER = "Longxing Precision 隆兴精密", "Hengtong Machinery 恒通机械"


async def demonstrate(
    directory: Path,
    *,
    seed: int = 1,
    trouble: bool = True,
    serve: bool = False,
    echo: Echo | None = None,
) -> dict[str, Any]:
    """Run the whole demonstration; returns its report. ``serve`` keeps both nodes up until the process is told to stop."""
    say = echo or (lambda text: print(text, file=sys.stderr))  # noqa: T201 - progress beside the JSON
    directory = await asyncio.to_thread(_emptied, directory)
    children: list[Child] = []
    try:
        began = time.monotonic()
        say(f"Two companies and a simulated shop, seed {seed}. Directory: {directory}")
        shop = [
            "--seed",
            str(seed),
            "--directory",
            str(directory / "machines"),
            "--ledger",
            str(directory / "ledger.json"),
        ]
        machines, supplier, customer = await asyncio.gather(
            start(
                children,
                directory / "machines.log",
                "guantong.demo.machines",
                *shop,
                *([] if trouble else ["--no-trouble"]),
            ),
            _company(children, directory, "supplier", _SUPPLIER),
            _company(children, directory, "customer", _CUSTOMER),
        )
        say(
            f"Supplier {supplier.hello['address']}   customer {customer.hello['address']}   "
            f"ready in {time.monotonic() - began:.1f} s"
        )
        walk = _Walk(say, directory, machines, supplier, customer)
        report = {"seed": seed, **await walk.all_stages()}
        say("Sign in once / 一次性登录：")
        say("  supplier  " + await supplier.do("link"))
        say("  customer  " + await customer.do("link"))
        if serve:
            say("Serving until Ctrl-C. / 按 Ctrl-C 结束。")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return report
    finally:
        for child in reversed(children):
            await child.end()


async def _company(children: list[Child], directory: Path, role: str, name: str) -> Child:
    place = ["--directory", str(directory / role), "--name", name]
    return await start(children, directory / f"{role}.log", "guantong.demo.company", *place)


def _emptied(directory: Path) -> Path:
    """The directory, new. What was not made by a demo is never deleted."""
    directory = directory.resolve()
    if directory.exists():
        if not (directory / _MARKER).exists() and any(directory.iterdir()):
            raise ConfigProblem("demo.directory-taken", directory=directory)
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    (directory / _MARKER).write_text("made by guantong demo; emptied at each start\n", "utf-8")
    return directory


class _Walk:
    """The walk through the ten stages: one method a stage, each returns whether it held and its figure in words."""

    def __init__(self, say: Echo, directory: Path, machines: Child, supplier: Child, customer: Child) -> None:
        self.say = say
        self.directory = directory
        self.machines, self.supplier, self.customer = machines, supplier, customer
        self.shop = machines.hello
        self.agreement = ""
        self.counts: dict[str, Any] = {}
        self.found: list[dict[str, Any]] = []
        self.report: dict[str, Any] = {"stages": [], "verified": False}

    async def all_stages(self) -> dict[str, Any]:
        """Walk, then let the simulators tell what they planned; returns the report."""
        for stage in JOURNEY:
            began = time.monotonic()
            ok, figure = await getattr(self, stage.name)()
            seconds = time.monotonic() - began
            self.report["stages"].append({"name": stage.name, "ok": ok, "seconds": round(seconds, 2), "figure": figure})
            self.say(f"  {stage.mark} {stage.name:<9}{'✓' if ok else '✗'} {figure}  ({seconds:.1f} s)")
        await self._compare()
        self.report["ok"] = all(stage["ok"] for stage in self.report["stages"])
        return self.report

    async def connect(self) -> Outcome:
        """Probe, start reading, read the history, then the live window."""
        addresses = {name: self.shop[name] for name in ("shdr", "agent", "meter", "units", "inspection")}
        connected = await self.supplier.do("connect", **addresses)
        await self.supplier.do("rates")
        history = await self.supplier.do("backfill", log=self.shop["log"])
        self.say(f"  … history read: {history['rows']:,} readings; live production for {LIVE_S} s")
        await self.machines.write("live")
        await self.machines.read()
        cards = await self.supplier.do("scorecards")
        received = sum(card["received"] for card in cards) + history["rows"]
        return connected["sources"] == 4, f"{connected['sources']} sources, {received:,} readings"

    async def keep(self) -> Outcome:
        """Everything logged is fused and committed; the tables are counted by DuckDB over their files."""
        state = await self.supplier.do("drain", parts=1)
        self.counts, stats = state["counts"], state["stats"]
        kept, rows = await asyncio.to_thread(_count_tables, self.directory / "supplier" / "keep")
        self.report["readings"] = {**self.counts, "kept": kept}
        return rows > 0, f"{rows:,} rows in Delta tables, {stats['bytes'] / 1e6:.1f} MB, {stats['commits']} commits"

    async def fuse(self) -> Outcome:
        """The account of readings closes; findings are made."""
        self.found = await self.supplier.do("findings")
        account = self.report["readings"]
        closes = account["received"] == account["kept"] + account["duplicates"] + account["quarantined"]
        return closes, (
            f"{account['received']:,} received = {account['kept']:,} kept + {account['duplicates']:,} duplicates + "
            f"{account['quarantined']} quarantined; {len(self.found)} findings"
        )

    async def describe(self) -> Outcome:
        """Shells and datasets."""
        done = await self.supplier.do("describe")
        return done["shells"] > 0, f"{done['shells']} shells, {done['datasets']} datasets, {done['signals']} signals"

    async def govern(self) -> Outcome:
        """Grades, rights, quality."""
        done = await self.supplier.do("govern")
        quality = done["quality"][INSPECTION]
        return done["graded"] == done["signals"], (
            f"{done['graded']} of {done['signals']} signals graded, {done['rights']} rights statements, "
            f"quality {100 * (quality['q'] or 0):.0f} (coverage {100 * quality['coverage']:.0f} %)"
        )

    async def exchange(self) -> Outcome:
        """Offer, negotiate, deliver, sign the receipt on both sides."""
        supplier, customer = self.supplier, self.customer
        await supplier.do("offer", partner=customer.hello["participant"])
        await customer.do("incoming", folder=self.shop["incoming"], parts=1)
        seller = {"address": supplier.hello["address"], "partner": supplier.hello["participant"]}
        bought = await customer.do("buy", **seller, dataset=INSPECTION)
        if "agreement" not in bought:
            reason = f"{bought['negotiation']}: {bought.get('reason', '')}"
            raise ConfigProblem("demo.step-failed", step="buy", reason=reason)
        self.agreement = bought["agreement"]
        sides = {"provider": supplier, "consumer": customer}
        receipt = {side: await who.do("receipts", agreement=self.agreement) for side, who in sides.items()}
        seen = {side: await who.do("process", agreement=self.agreement) for side, who in sides.items()}
        self.report["negotiation"] = {side: seen[side]["negotiation"] for side in sides}
        self.report["transfer"] = {side: seen[side]["transfer"] for side in sides}
        self.report["rows"] = {"sent": seen["provider"]["rows"], "received": bought["rows"]}
        self.report["receipt"] = {side: receipt[side]["verified"] for side in sides}
        ok = (
            set(self.report["negotiation"].values()) == {"FINALIZED"}
            and self.report["rows"]["sent"] == self.report["rows"]["received"] > 0
            and all(self.report["receipt"].values())
        )
        signed = "receipt signed by both" if all(self.report["receipt"].values()) else "receipt not signed by both"
        return ok, f"agreement {self.report['negotiation']['provider']}, {bought['rows']} rows delivered, {signed}"

    async def prove(self) -> Outcome:
        """An evidence package, checked by the stranger's verifier in a process of its own with the customer's keys."""
        # both sides' invoices first, so that the package holds them; what became of them is the next stage's figure
        await self.supplier.do("invoice", agreement=self.agreement)
        await self.customer.do("invoice", agreement=self.agreement)
        await self.supplier.do("invoice_settled", agreement=self.agreement)
        made = await self.supplier.do("package", agreement=self.agreement, folder=str(self.directory / "packages"))
        trust = self.directory / "trust.txt"
        await asyncio.to_thread(trust.write_text, await self.customer.do("trust"), "utf-8")
        self.report["package"], self.report["trust"] = made["path"], str(trust)
        self.report["verified"] = await _verify(trust, Path(made["path"])) == 0
        verdict = "package verified" if self.report["verified"] else "package NOT verified"
        return self.report["verified"], (
            f"{made['leaves']} log entries, {verdict} by the stranger's verifier with the customer's keys"
        )

    async def settle(self) -> Outcome:
        """Both sides derived the same invoice from their own receipts and signed it."""
        ours = await self.supplier.do("invoice_settled", agreement=self.agreement)
        theirs = await self.customer.do("invoice_settled", agreement=self.agreement)
        self.report["invoice"] = {"provider": ours["total"], "consumer": theirs["total"]}
        same = ours["total"] == theirs["total"] and ours["state"] == theirs["state"] == "agreed"
        return (
            same,
            f"{ours['currency']} {ours['total']} and {theirs['total']} derived by the two sides, {ours['state']}",
        )

    async def value(self) -> Outcome:
        """Cost evidence, and apart from it an appraisal."""
        done = await self.supplier.do("value")
        return float(done["likely"]) > 0, (
            f"{done['currency']} {done['low']} – {done['likely']} – {done['high']} by cost ({done['stamp']})"
        )

    async def watch(self) -> Outcome:
        """Availability, control charts, warnings, carbon; and how long supply lasts, the partner asked for one number."""
        await self.supplier.do(
            "stock",
            rows=[
                {"component": COMPONENT, "stock": 180.0, "usage_per_day": 24.0, "inputs": ["casting"]},
                {"component": "casting", "stock": 96.0, "usage_per_day": 24.0},
            ],
        )
        housing = {
            "partner": self.supplier.hello["participant"],
            "agreement_id": self.agreement,
            "partner_component": COMPONENT,
        }
        await self.customer.do(
            "stock",
            rows=[
                {
                    "component": "gearbox",
                    "stock": 30.0,
                    "usage_per_day": 20.0,
                    "inputs": ["housing"],
                    "end_product": True,
                },
                {"component": "housing", "stock": 44.0, "usage_per_day": 20.0, **housing},
            ],
        )
        survival = await self.customer.do("survive", disrupted="housing")
        seen = await self.supplier.do("watch")
        self.report["parts"] = await self.customer.do("parts")
        running = [one["value"] for one in seen["availability"] if one["value"] is not None]
        # the same energy is measured as a counter and as a power: it is counted once
        carbon = max((one["emission"]["value"] or 0.0 for one in seen["energy"]), default=0.0)
        days = min((one["figure"]["value"] for one in survival if one["figure"]["value"] is not None), default=None)
        self.report["survival_days"] = days
        return bool(running) and days is not None, (
            f"availability {f'{100 * running[0]:.0f} %' if running else '–'}, {seen['charts']} control charts, "
            f"{len(seen['warnings'])} warning(s), {carbon:.1f} {seen['carbon_unit']}, "
            f"supply lasts at least {'–' if days is None else days} days"
        )

    async def _compare(self) -> None:
        """The plan is told only now."""
        await self.machines.write("tell")
        await self.machines.read()
        told = json.loads(await asyncio.to_thread((self.directory / "ledger.json").read_text, "utf-8"))
        readings = self.report["readings"]
        readings["offered"] = sum(told["offered"].values())
        result = score(told["trouble"], self.found)
        self.report["trouble"] = result.to_json()
        if result.planted:
            self.say("  trouble planted → found")
        else:
            self.say(f"  no trouble was planted; {len(result.false_alarms)} false alarms")
        for item, match in result.pairs:
            where = f"{item['kind']:<10}{item['source']:<10}{item['signal'] or '(all)':<22}"
            self.say(f"    {where}{'found' if match else 'MISSED'}")
        for item in result.false_alarms:
            self.say(f"    false alarm: {item['kind']} {item['source']} {item['signal']}")
        self.say(
            f"  ledger: offered {readings['offered']:,} = received {readings['received']:,} + gaps {readings['gaps']}; "
            f"received = kept {readings['kept']:,} + duplicates {readings['duplicates']:,} + "
            f"quarantined {readings['quarantined']}"
        )


def _count_tables(folder: Path) -> tuple[int, int]:
    """Rows of the Delta tables, counted by DuckDB over their files: (received readings kept, all rows with derived revisions)."""
    import duckdb
    from deltalake import DeltaTable

    kept = total = 0
    for log in sorted(folder.rglob("_delta_log")):
        files = DeltaTable(str(log.parent)).file_uris()
        if not files:
            continue
        with duckdb.connect() as connection:
            table = connection.read_parquet(files, hive_partitioning=True)
            total += table.aggregate("count(*)").fetchall()[0][0]
            if "reason" in table.columns:  # a converted value is a further row of a reading that was kept as it came
                table = table.filter("reason IS NULL OR reason NOT LIKE 'corrected%'")
            kept += table.aggregate("count(*)").fetchall()[0][0]
    return kept, total


async def _verify(trust: Path, package: Path) -> int:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "guantong.verify", "--trust", str(trust), str(package), stdout=asyncio.subprocess.DEVNULL
    )
    return await process.wait()
