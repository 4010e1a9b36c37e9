"""``kill -9`` at twenty seeded moments of a journey between two real nodes in processes of their own.

What a client or partner was told before the kill goes into a ledger. After each restart the journey is carried to its end and everything
in the ledger must be there, on both sides alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20
STEPS = ("take", "fuse", "offer", "negotiate", "agree", "receive", "receipts", "complete", "invoice", "settled")
SEED = 4711


class Gone(Exception):
    """The process was killed before it answered."""


class Process:
    """An office that can be killed and started again on the same directory and port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = self.did = ""
        self.errors = directory.with_suffix(".log")
        self.starts: list[float] = []
        self.start()

    def start(self) -> None:
        begun = time.monotonic()
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.node.office", str(self.directory), str(self.port)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.answers: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read, args=(self.process, self.answers), daemon=True)
        self.reader.start()
        ready = self._answer(60)
        self.address, self.did = ready["ready"], ready["did"]
        self.starts.append(time.monotonic() - begun)

    @staticmethod
    def _read(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put("")

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        line = self.answers.get(timeout=timeout_s)
        if not line.endswith("\n"):
            raise Gone
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **arguments: Any) -> Any:
        """The answer, or the code of the error; Gone where the process died over it."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise Gone from None
        answer = self._answer(90)
        assert "broken" not in answer, answer["text"]
        return answer

    def end(self) -> None:
        """Close the input and wait."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0
        self._tidy()

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def _tidy(self) -> None:
        self.reader.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def restart(self) -> None:
        self._tidy()
        self.start()


@dataclass
class Ledger:
    """What was acknowledged to somebody outside the process."""

    batches: dict[int, str] = field(default_factory=dict)
    readings: set[int] = field(default_factory=set)
    negotiations: list[str] = field(default_factory=list)
    delivered: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: dict[str, dict[int, str]] = field(default_factory=dict)
    invoices: list[str] = field(default_factory=list)

    def entries(self) -> int:
        return sum(
            map(len, (self.batches, self.negotiations, self.delivered, self.invoices, *self.checkpoints.values()))
        )


class Journey:
    """One journey after the other between two offices, with somebody who kills."""

    def __init__(self, supplier: Process, customer: Process) -> None:
        self.supplier, self.customer = supplier, customer
        self.ledger = Ledger()
        self.first = 0
        self.killed: list[tuple[str, str]] = []
        self.step = ""
        self._doomed: Process | None = None
        self._plan: tuple[Process, str, float] | None = None
        self._timer: threading.Timer | None = None

    def plan(self, whom: Process, step: str, seconds: float) -> None:
        """Kill a process so many seconds after the next ``step`` began, whoever's step it is."""
        self._plan = (whom, step, seconds)

    def executed(self) -> None:
        """Wait until the planned kill has been, and the process is up again."""
        assert self._timer is not None
        self._timer.join()
        self._timer = None
        self.revive()

    def _kill_later(self, whom: Process, seconds: float) -> threading.Timer:
        """Kill a process so many seconds from now."""

        def act() -> None:
            self.killed.append(("supplier" if whom is self.supplier else "customer", self.step))
            self._doomed = whom
            whom.kill()

        timer = threading.Timer(seconds, act)
        timer.start()
        return timer

    def revive(self) -> None:
        """Look at what the dead process left, and start it again."""
        if self._doomed is not None:
            whom, self._doomed = self._doomed, None
            look_at_files(whom.directory)
            whom.restart()

    def do(self, whom: Process, name: str, **arguments: Any) -> Any:
        """Ask until it is done: over kills and over a partner that is away."""
        error: Any = None
        for attempt in range(60):
            self.step = name
            self.revive()
            if self._plan is not None and self._plan[1] == name:
                self._timer = self._kill_later(self._plan[0], self._plan[2])
                self._plan = None
            try:
                answer = whom.ask(name, **arguments)
            except Gone:
                assert self._doomed is not None, f"died by itself: {whom.errors.read_text()[-3000:]}"
                continue
            if "ok" in answer:
                return answer["ok"]
            error = answer
            time.sleep(min(0.05 * (attempt + 1), 1.0))
        raise AssertionError(f"{name} never succeeds: {error}")

    def once(self) -> None:
        """Readings, fusion, offer, contract, delivery, receipts, invoice."""
        supplier, customer, ledger = self.supplier, self.customer, self.ledger
        for _ in range(3):
            taken = self.do(supplier, "take", first=self.first, count=25)
            ledger.batches[taken["position"]] = taken["digest"]
            ledger.readings |= set(range(self.first, self.first + 25))
            self.first += 25
        self.do(supplier, "fuse")
        self.do(supplier, "offer", partner=customer.did)
        for _ in range(5):
            pid = self.do(customer, "negotiate", address=supplier.address, partner=supplier.did)["pid"]
            ledger.negotiations.append(pid)
            done = self.do(customer, "agree", pid=pid)
            if done["state"] == "FINALIZED":
                break
        agreement = done["agreement"]
        delivered = self.do(customer, "receive", agreement=agreement)
        ledger.delivered.append(delivered)
        self.do(customer, "receipts", agreement=agreement)
        self.do(customer, "complete", agreement=agreement)
        ledger.invoices.append(self.do(supplier, "invoice", agreement=agreement)["number"])
        for whom in (supplier, customer):
            self.do(whom, "settled")
            self.note_checkpoint(whom)

    def note_checkpoint(self, whom: Process) -> None:
        """Anybody may read the newest checkpoint; what was read stays true."""
        try:
            with urllib.request.urlopen(whom.address + "/log/checkpoint", timeout=5) as answer:
                _, size, root = answer.read().decode().splitlines()[:3]
        except OSError:
            return  # it was just killed
        import base64

        self.ledger.checkpoints.setdefault(whom.did, {})[int(size)] = base64.b64decode(root).hex()

    def compare(self) -> None:
        """Everything in the ledger, and both sides' views of what is between them."""
        facts = {}
        for whom in (self.supplier, self.customer):
            known = self.ledger.checkpoints.get(whom.did, {})
            facts[whom.did] = self.do(whom, "facts", sizes=sorted(known))
            assert {int(size): root for size, root in facts[whom.did]["roots"].items()} == known
        supplier, customer = facts[self.supplier.did], facts[self.customer.did]
        logged = {int(position): digest for position, digest in supplier["logged"].items()}
        assert self.ledger.batches.items() <= logged.items()
        assert supplier["sequences"] == sorted(self.ledger.readings)
        assert set(customer["sequences"]) <= self.ledger.readings
        for read in ("negotiations", "transfers"):
            theirs = {partner: (pid, state) for pid, (partner, state) in supplier[read].items()}
            for pid, (partner, state) in customer[read].items():
                assert theirs.pop(pid) == (partner, state), read
            assert not theirs
        assert set(self.ledger.negotiations) <= set(customer["negotiations"])
        alike = [[(r[0], r[1], r[3]) for r in side["receipts"]] for side in (supplier, customer)]
        assert alike[0] == alike[1]
        assert not supplier["problems"] + customer["problems"]
        for done in self.ledger.delivered:
            rows = [r[3] for r in customer["receipts"] if r[2] == done["pid"] and r[1] == "acknowledged"]
            assert rows == [done["rows"]] == [customer["deliveries"][f"delivery:{done['pid']}"]]
        assert {number for _, number, _, _ in supplier["invoices"]} >= set(self.ledger.invoices)
        newest = [sorted((i[0], i[2]) for i in side["invoices"] if i[3] == "agreed") for side in (supplier, customer)]
        assert newest[0] == newest[1]
        assert not supplier["gave_up"] + customer["gave_up"]


def look_at_files(directory: Path) -> None:
    """Just after the kill, on a copy: databases are sound, and no file stands half-written under a name that counts."""
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        shutil.copytree(directory, copy)
        for path in copy.rglob("*.db"):
            if path.name != "keep.lock":
                with closing(sqlite3.connect(path)) as connection:
                    assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",), path
        for entry in copy.rglob("_delta_log/*.json"):
            for line in entry.read_text("utf-8").splitlines():
                added = json.loads(line).get("add")
                if added:
                    assert (entry.parent.parent / added["path"]).stat().st_size == added["size"]
        for path in copy.rglob("keys.json"):
            assert set(json.loads(path.read_text("utf-8"))) == {"token", "evidence", "witness"}


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    made = [Process(tmp_path / name) for name in ("supplier", "customer")]
    yield Journey(*made)
    for process in made:
        if process.process.poll() is None:
            process.kill()
        process._tidy()


@pytest.mark.xdist_group("kill")
@pytest.mark.timeout(400)
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_what_was_acknowledged_before_twenty_kills_is_there_after_each(journey: Journey) -> None:
    rng = random.Random(SEED)
    begun = time.monotonic()
    journey.once()
    length = time.monotonic() - begun
    journey.compare()
    print(f"\njourney {length:.2f} s; start {journey.supplier.starts[0]:.2f} s; nobody killed")
    assert length <= 8
    for number in range(KILLS):
        whom = rng.choice((journey.supplier, journey.customer))
        step, moment = STEPS[number % len(STEPS)], rng.random() * 0.08
        before, started = journey.ledger.entries(), time.monotonic()
        journey.plan(whom, step, moment)
        journey.once()
        journey.executed()
        carried = time.monotonic() - started
        journey.compare()
        who, during = journey.killed[-1]
        print(
            f"kill {number + 1:2}: {who} {moment * 1000:4.1f} ms into {step}, during {during}; {before} entries in the ledger"
            f" before, {journey.ledger.entries()} after, all there; both sides agree; carried on in {carried:.1f} s"
            f" (start {whom.starts[-1]:.1f} s), compared in {time.monotonic() - started - carried:.1f} s"
        )
    print(f"{KILLS} kills in {time.monotonic() - begun:.0f} s")

    assert len(journey.killed) == KILLS
    assert {who for who, _ in journey.killed} == {"supplier", "customer"}
    for process in (journey.supplier, journey.customer):
        process.end()
