"""The simulated shop, in a process of its own: an SHDR adapter, an MTConnect agent, an OPC UA energy meter and inspection files.

It counts every reading that it sends, retransmissions included, and every sequence number that nobody ever got. It speaks one JSON
object a line on standard output and takes commands on standard input: ``live`` begins live production, ``tell`` writes the ledger and
the plan to the file given by ``--ledger``; before it nobody can read what was planned. Afterwards the machines run on, without further
trouble, until standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

from guantong.base.clock import NS, iso
from guantong.demo.agent import Agent
from guantong.demo.gauge import measure, qif
from guantong.demo.meter import Meter
from guantong.demo.mill import CHANNELS, Mill, history_lines
from guantong.demo.plan import AGENT, GAUGE, HISTORY_S, LIVE_S, METER, MILL, Plan, Trouble, make_plan

__all__ = ["main"]


class Adapter:
    """An SHDR adapter on TCP: answers ``* PING``, sends lines to whoever is connected, counts what it sends."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.offered = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._mill = Mill(random.Random(plan.seed + 2))  # noqa: S311 - reproducible, not secret

    async def start(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                if line.startswith(b"* PING"):
                    writer.write(b"* PONG 10000\n")
        except (ConnectionError, ValueError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def tick(self, second: float) -> None:
        """Send one sample of every channel, stamped by the adapter's own clock."""
        offset = self.plan.clock_offset_s if self.plan.trouble else 0.0
        at = iso(time.time_ns() + int(offset * NS), digits=6)
        values = self._mill.sample(second)
        text = f"{at}|" + "|".join(f"{name}|{value:.4f}" for name, value in values.items()) + "\n"
        for writer in self._writers:
            writer.write(text.encode())
            self.offered += len(values)


def write_inspections(plan: Plan, supplier: Path, customer: Path) -> int:
    """Write the QIF files of both companies; returns how many characteristic values the supplier's hold."""
    supplier.mkdir(parents=True, exist_ok=True)
    customer.mkdir(parents=True, exist_ok=True)
    first, final = measure(plan.seed, bias=0.001), measure(plan.seed, bias=0.002)
    arrived = [replace(part, serial=f"HOUSING_A{part.serial}_RECEIVED_CMM2") for part in measure(plan.seed, bias=0.006)]
    if plan.trouble:
        index = plan.serial_part - 1
        first[index] = replace(first[index], serial=f"{plan.serial_part:02d}of{len(first)}")
    made = plan.history_end
    (supplier / "in-process.qif").write_text(
        qif(first, customer=False, made_at=made, uid=f"inprocess-{plan.seed}"), "utf-8"
    )
    (supplier / "final.qif").write_text(qif(final, customer=False, made_at=made, uid=f"final-{plan.seed}"), "utf-8")
    (customer / "incoming.qif").write_text(
        qif(arrived, customer=True, made_at=made, uid=f"incoming-{plan.seed}"), "utf-8"
    )
    return sum(len(part.values) for part in (*first, *final))


def write_history(plan: Plan, log: Path) -> int:
    """Write the adapter's log of the history; returns how many readings were put into it, broken ones included."""
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = list(history_lines(plan))
    log.write_text("".join(line + "\n" for line in lines), "utf-8")
    return len(lines)


def say(**event: object) -> None:
    """One JSON object on a line of standard output."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


async def run(seed: int, directory: Path, ledger: Path, *, trouble: bool) -> None:
    """Simulate until told to stop."""
    now = time.time_ns()
    plan = make_plan(seed, now - (HISTORY_S + 90) * NS, trouble=trouble)
    log = directory / "mill-01.shdr"
    offered = {MILL: write_history(plan, log), AGENT: 0, METER: 0, GAUGE: 0}
    offered[GAUGE] = write_inspections(plan, directory / "inspection", directory.parent / "customer" / "inspection")
    adapter, agent, meter = Adapter(plan), Agent(plan), Meter(plan)
    await asyncio.gather(adapter.start(), agent.start(), meter.start())
    say(
        event="ready",
        log=str(log),
        inspection=str(directory / "inspection"),
        incoming=str(directory.parent / "customer" / "inspection"),
        shdr=f"shdr://127.0.0.1:{adapter.port}",
        agent=f"http://127.0.0.1:{agent.port}",
        meter=meter.url,
        units={name: unit for name, (unit, *_) in CHANNELS.items()},
    )
    troubles: list[Trouble] = plan.history_trouble()
    running: asyncio.Task[None] | None = None
    # a thread reads: not every event loop can read a pipe that the parent opened (Windows)
    while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if command == "live":
            start = time.time_ns()
            troubles += plan.live_trouble(start)
            await live(adapter, agent, meter)
            say(event="live-done", start=start, end=time.time_ns())
        elif command == "tell":
            sent = {MILL: adapter.offered, AGENT: agent.offered, METER: meter.offered, GAUGE: 0}
            total = {source: offered[source] + sent[source] for source in offered}
            await asyncio.to_thread(write_ledger, ledger, seed, total, troubles, agent)
            say(event="told")
            running = asyncio.create_task(run_on(adapter, agent, meter), name="machines")
    if running is not None:
        running.cancel()
    await agent.stop()
    await meter.stop()


def write_ledger(ledger: Path, seed: int, offered: dict[str, int], troubles: list[Trouble], agent: Agent) -> None:
    """What was sent and what was planned, for the comparison after the journey."""
    ledger.write_text(
        json.dumps(
            {
                "seed": seed,
                "offered": offered,
                "trouble": [item.to_json() for item in troubles],
                "agent_generated": agent.generated,
                "agent_never_sent": agent.never_sent,
            }
        ),
        "utf-8",
    )


async def run_on(adapter: Adapter, agent: Agent, meter: Meter) -> None:
    """Ordinary production after the journey, so that pages show living machines: a sample of everything each second."""
    second = float(LIVE_S)
    while True:
        await asyncio.sleep(1)
        second += 1
        await agent.tick(second)
        await meter.tick(second)
        adapter.tick(HISTORY_S + second)


async def live(adapter: Adapter, agent: Agent, meter: Meter) -> None:
    """The live window: every quarter of a second something is produced, by the wall clock."""
    start = time.monotonic()
    ticks = LIVE_S * 4
    for tick in range(ticks):
        await asyncio.sleep(max(0.0, start + tick / 4 - time.monotonic()))
        second = tick / 4
        await agent.tick(second)
        await meter.tick(second)
        if tick % 2 == 0:
            adapter.tick(HISTORY_S + second)
    await agent.settle()


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the simulators' process."""
    parser = argparse.ArgumentParser(prog="guantong-machines")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--no-trouble", action="store_true")
    options = parser.parse_args(arguments)
    asyncio.run(run(options.seed, options.directory, options.ledger, trouble=not options.no_trouble))


if __name__ == "__main__":
    main()
