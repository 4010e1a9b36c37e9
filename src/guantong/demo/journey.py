"""The demonstration's director: starts simulators and two companies, walks the ten stages, and compares what was found with what was planned."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guantong.base.errors import ConfigProblem
from guantong.demo.company import COMPONENT, INSPECTION
from guantong.demo.score import score
from guantong.journey import JOURNEY

__all__ = ["demonstrate"]

Echo = Callable[[str], Any]
_MARKER = ".guantong-demo-directory"


@dataclass
class Child:
    """A process that speaks JSON lines."""

    process: asyncio.subprocess.Process
    hello: dict[str, Any] = field(default_factory=dict)

    async def read(self, timeout_s: float = 90) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), timeout_s)
        if not line:
            raise ConfigProblem("demo.process-ended", code=await self.process.wait())
        return dict(json.loads(line))

    async def write(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write((text + "\n").encode())
        await self.process.stdin.drain()

    async def do(self, step: str, **arguments: Any) -> Any:
        """One step of a company; raises ConfigProblem ``demo.step-failed`` with the step's own words."""
        await self.write(json.dumps({"step": step, "with": arguments}))
        answer = await self.read()
        if not answer["ok"]:
            raise ConfigProblem("demo.step-failed", step=step, reason=answer["message"])
        return answer["result"]

    async def end(self) -> None:
        if self.process.returncode is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), 20)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


async def _start(log: Path, module: str, *arguments: str) -> Child:
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=1 << 22,
            env={name: value for name, value in os.environ.items() if not name.startswith("GUANTONG_")},
        )
    child = Child(process)
    child.hello = await child.read()
    return child


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
    """Prints one line a stage and keeps what the report says of it."""

    def __init__(self, echo: Echo | None) -> None:
        self.echo = echo or (lambda text: print(text, file=sys.stderr))  # noqa: T201 - progress beside the JSON
        self.stages: list[dict[str, Any]] = []

    def say(self, text: str) -> None:
        self.echo(text)

    def stage(self, name: str, *, ok: bool, seconds: float, figure: str) -> None:
        stage = next(item for item in JOURNEY if item.name == name)
        self.stages.append({"name": name, "ok": ok, "seconds": round(seconds, 2), "figure": figure})
        self.echo(f"  {stage.mark} {name:<9}{'✓' if ok else '✗'} {figure}  ({seconds:.1f} s)")


async def demonstrate(
    directory: Path,
    *,
    seed: int = 1,
    trouble: bool = True,
    serve: bool = False,
    echo: Echo | None = None,
) -> dict[str, Any]:
    """Run the whole demonstration; returns its report. ``serve`` keeps both nodes up until the process is told to stop."""
    walk = _Walk(echo)
    directory = await asyncio.to_thread(_emptied, directory)
    children: list[Child] = []
    ledger = directory / "ledger.json"
    try:
        began = time.monotonic()
        walk.say(f"Two companies and a simulated shop, seed {seed}. Directory: {directory}")
        extra = [] if trouble else ["--no-trouble"]
        machines, supplier, customer = await asyncio.gather(
            _start(
                directory / "machines.log",
                "guantong.demo.machines",
                "--seed",
                str(seed),
                "--directory",
                str(directory / "machines"),
                "--ledger",
                str(ledger),
                *extra,
            ),
            _start(
                directory / "supplier.log",
                "guantong.demo.company",
                "--directory",
                str(directory / "supplier"),
                "--name",
                "Longxing Precision 隆兴精密",
            ),
            _start(
                directory / "customer.log",
                "guantong.demo.company",
                "--directory",
                str(directory / "customer"),
                "--name",
                "Hengtong Machinery 恒通机械",
            ),
        )
        children += [machines, supplier, customer]
        walk.say(
            f"Supplier {supplier.hello['address']}   customer {customer.hello['address']}   ready in {time.monotonic() - began:.1f} s"
        )
        report = await _journey(walk, directory, machines, supplier, customer, ledger, seed)
        report["stages"] = walk.stages
        report["ok"] = (
            all(stage["ok"] for stage in walk.stages) and len(walk.stages) == len(JOURNEY) and report["verified"]
        )
        walk.say("Sign in once / 一次性登录：")
        walk.say("  supplier  " + await supplier.do("link"))
        walk.say("  customer  " + await customer.do("link"))
        if serve:
            walk.say("Serving until Ctrl-C. / 按 Ctrl-C 结束。")
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return report
    finally:
        for child in reversed(children):
            await child.end()


async def _journey(
    walk: _Walk, directory: Path, machines: Child, supplier: Child, customer: Child, ledger: Path, seed: int
) -> dict[str, Any]:
    shop = machines.hello
    report: dict[str, Any] = {"seed": seed}
    # connect: probe, start reading, read the history, then the live window
    t = time.monotonic()
    connected = await supplier.do(
        "connect",
        shdr=shop["shdr"],
        agent=shop["agent"],
        meter=shop["meter"],
        units=shop["units"],
        inspection=shop["inspection"],
    )
    await supplier.do("rates")
    history = await supplier.do("backfill", log=shop["log"])
    walk.say(f"  … history read: {history['rows']:,} readings; live production for 22 s")
    await machines.write("live")
    window = await machines.read()
    cards = {card["source"]: card for card in await supplier.do("scorecards")}
    walk.stage(
        "connect",
        ok=connected["sources"] == 4,
        seconds=time.monotonic() - t,
        figure=f"{connected['sources']} sources, {sum(card['received'] for card in cards.values()) + history['rows']:,} readings",
    )
    # keep and fuse
    t = time.monotonic()
    state = await supplier.do("drain", parts=1)
    counts, stats = state["counts"], state["stats"]
    kept, rows = await asyncio.to_thread(_count_tables, directory / "supplier" / "keep")
    walk.stage(
        "keep",
        ok=rows > 0,
        seconds=time.monotonic() - t,
        figure=f"{rows:,} rows in Delta tables, {stats['bytes'] / 1e6:.1f} MB, {stats['commits']} commits",
    )
    t = time.monotonic()
    found = await supplier.do("findings")
    report["readings"] = {**counts, "kept": kept}
    walk.stage(
        "fuse",
        ok=counts["received"] == kept + counts["duplicates"] + counts["quarantined"],
        seconds=time.monotonic() - t,
        figure=f"{counts['received']:,} received = {kept:,} kept + {counts['duplicates']:,} duplicates + {counts['quarantined']} quarantined; "
        f"{len(found)} findings",
    )
    t = time.monotonic()
    described = await supplier.do("describe")
    walk.stage(
        "describe",
        ok=described["shells"] > 0,
        seconds=time.monotonic() - t,
        figure=f"{described['shells']} shells, {described['datasets']} datasets, {described['signals']} signals",
    )
    t = time.monotonic()
    governed = await supplier.do("govern")
    quality = governed["quality"][INSPECTION]
    walk.stage(
        "govern",
        ok=governed["graded"] == governed["signals"],
        seconds=time.monotonic() - t,
        figure=f"{governed['graded']} of {governed['signals']} signals graded, {governed['rights']} rights statements, "
        f"quality {100 * (quality['q'] or 0):.0f} (coverage {100 * quality['coverage']:.0f} %)",
    )
    # exchange
    t = time.monotonic()
    await supplier.do("offer", partner=customer.hello["participant"])
    await customer.do("incoming", folder=shop["incoming"], parts=1)
    bought = await customer.do(
        "buy", address=supplier.hello["address"], partner=supplier.hello["participant"], dataset=INSPECTION
    )
    if "agreement" not in bought:
        raise ConfigProblem(
            "demo.step-failed", step="buy", reason=f"{bought['negotiation']}: {bought.get('reason', '')}"
        )
    agreement = bought["agreement"]
    ours = await customer.do("receipts", agreement=agreement)
    theirs = await supplier.do("receipts", agreement=agreement)
    sides = {
        "provider": await supplier.do("process", agreement=agreement),
        "consumer": await customer.do("process", agreement=agreement),
    }
    report["negotiation"] = {side: sides[side]["negotiation"] for side in sides}
    report["transfer"] = {side: sides[side]["transfer"] for side in sides}
    report["rows"] = {"sent": sides["provider"]["rows"], "received": bought["rows"]}
    report["receipt"] = {"provider": theirs["verified"], "consumer": ours["verified"]}
    walk.stage(
        "exchange",
        ok=report["negotiation"]["consumer"] == "FINALIZED"
        and report["rows"]["sent"] == report["rows"]["received"] > 0
        and all(report["receipt"].values()),
        seconds=time.monotonic() - t,
        figure=f"agreement {report['negotiation']['provider']}, {bought['rows']} rows delivered, receipt signed by both",
    )
    # time to survive is asked under the agreement while it lives; settlement first, so that the package holds the invoice
    t_settle = time.monotonic()
    invoice_provider = await supplier.do("invoice", agreement=agreement)
    invoice_consumer = await customer.do("invoice", agreement=agreement)
    for _ in range(100):
        invoice_state = await supplier.do("invoice_state", agreement=agreement)
        if invoice_state["state"] != "issued":
            break
        await asyncio.sleep(0.05)
    settle_seconds = time.monotonic() - t_settle
    await supplier.do(
        "stock",
        rows=[
            {"component": COMPONENT, "stock": 180.0, "usage_per_day": 24.0, "inputs": ["casting"]},
            {"component": "casting", "stock": 96.0, "usage_per_day": 24.0},
        ],
    )
    await customer.do(
        "stock",
        rows=[
            {"component": "gearbox", "stock": 30.0, "usage_per_day": 20.0, "inputs": ["housing"], "end_product": True},
            {
                "component": "housing",
                "stock": 44.0,
                "usage_per_day": 20.0,
                "partner": supplier.hello["participant"],
                "agreement_id": agreement,
                "partner_component": COMPONENT,
            },
        ],
    )
    survival = await customer.do("survive", disrupted="housing")
    # prove
    t = time.monotonic()
    made = await supplier.do("package", agreement=agreement, folder=str(directory / "packages"))
    trust = directory / "trust.txt"
    await asyncio.to_thread(trust.write_text, await customer.do("trust"), "utf-8")
    verdict = await _verify(trust, Path(made["path"]))
    report["package"], report["verified"] = made["path"], verdict == 0
    report["trust"] = str(trust)
    walk.stage(
        "prove",
        ok=report["verified"],
        seconds=time.monotonic() - t,
        figure=f"{made['leaves']} log entries, package verified by the stranger's verifier with the customer's keys",
    )
    report["invoice"] = {"provider": invoice_provider["total"], "consumer": invoice_consumer["total"]}
    walk.stage(
        "settle",
        ok=invoice_provider["total"] == invoice_consumer["total"] and invoice_state["state"] == "agreed",
        seconds=settle_seconds,
        figure=f"{invoice_provider['currency']} {invoice_provider['total']} on both sides, {invoice_state['state']}",
    )
    t = time.monotonic()
    valued = await supplier.do("value")
    walk.stage(
        "value",
        ok=float(valued["likely"]) > 0,
        seconds=time.monotonic() - t,
        figure=f"{valued['currency']} {valued['low']} – {valued['likely']} – {valued['high']} by cost ({valued['stamp']})",
    )
    t = time.monotonic()
    watched = await supplier.do("watch")
    availability = next((item for item in watched["availability"] if item["value"] is not None), None)
    parts = await customer.do("parts")
    # the same energy is measured as a counter and as a power: it is counted once
    carbon = max((item["emission"]["value"] or 0.0 for item in watched["energy"]), default=0.0)
    days = min((item["figure"]["value"] for item in survival if item["figure"]["value"] is not None), default=None)
    figure = (f"availability {100 * availability['value']:.0f} %, " if availability else "availability –, ") + (
        f"{watched['charts']} control charts, {len(watched['warnings'])} warning(s), {carbon:.3f} kgCO2e, "
        f"supply lasts at least {days if days is not None else '–'} days"
    )
    walk.stage("watch", ok=availability is not None and days is not None, seconds=time.monotonic() - t, figure=figure)
    report["parts"], report["survival_days"] = parts, days
    # the plan is told only now
    await machines.write("stop")
    await machines.read()
    told = json.loads(await asyncio.to_thread(ledger.read_text, "utf-8"))
    report["readings"]["offered"] = sum(told["offered"].values())
    result = score(told["trouble"], found)
    report["trouble"] = result.to_json()
    _print_trouble(walk, result, window)
    readings = report["readings"]
    walk.say(
        f"  ledger: offered {readings['offered']:,} = received {readings['received']:,} + gaps {readings['gaps']}; "
        f"received = kept {readings['kept']:,} + duplicates {readings['duplicates']:,} + quarantined {readings['quarantined']}"
    )
    return report


def _print_trouble(walk: _Walk, result: Any, window: dict[str, Any]) -> None:
    if not result.planted:
        walk.say(f"  no trouble was planted; {len(result.false_alarms)} false alarms")
        return
    walk.say("  trouble planted → found")
    for item, match in result.pairs:
        walk.say(
            f"    {item['kind']:<10}{item['source']:<10}{item['signal'] or '(all)':<22}{'found' if match else 'MISSED'}"
        )
    for item in result.false_alarms:
        walk.say(f"    false alarm: {item['kind']} {item['source']} {item['signal']}")


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
