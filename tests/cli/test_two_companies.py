"""Two companies do business with the command line alone: each runs a node, everything else is a command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CSV = "time,spindle_load,coolant_temp\n" + "".join(
    f"2026-11-24T08:{minute:02}:{second:02}Z,{40 + second % 7},{21.5 + minute / 10}\n"
    for minute in range(4)
    for second in range(60)
)
PRICE = {"currency": "CNY", "charges": [{"per": "row", "price": "0.02"}], "minimum": "1.00"}


@dataclass
class Company:
    """A directory, and commands on it in processes of their own."""

    directory: Path
    process: subprocess.Popen[str] | None = None
    participant: str = ""
    address: str = ""

    def run(self, *words: str, code: int = 0, as_json: bool = True) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "guantong.cli", *words, "--directory", str(self.directory), *(["--json"] if as_json else [])],
            capture_output=True, text=True, timeout=60, env=environment(), cwd=self.directory.parent,
        )  # fmt: skip
        assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        if code:
            return done.stderr
        return json.loads(done.stdout) if as_json else done.stdout

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "guantong.cli", "run", "--directory", str(self.directory), "--port", "0"],
            stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        assert self.process.stdout is not None
        self.participant, self.address = self.process.stdout.readline().split()
        self.process.stdout.readline()
        self.link = self.process.stdout.readline().strip()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


QUERY = {
    "name": "load",
    "version": "1",
    "statement": "SELECT signal, count(*) AS n, avg(value_f64) AS mean FROM data WHERE signal = $signal GROUP BY signal",
    "parameters": {"signal": {"type": "text"}},
    "columns": ["signal", "value_f64", "source_time"],
    "unit": "source_time",
}


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GUANTONG_")}
    return {**kept, "PYTHONIOENCODING": "utf-8", "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}


def verify(*words: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "guantong.cli", "verify", *words], capture_output=True, timeout=60, env=environment()
    ).returncode


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Company, Company]]:
    supplier, buyer = Company(tmp_path / "supplier"), Company(tmp_path / "buyer")
    supplier.start()
    buyer.start()
    try:
        yield supplier, buyer
    finally:
        for one in (supplier, buyer):
            if one.process is not None and one.process.poll() is None:
                one.stop()
            if one.process is not None and one.process.stdout is not None:
                one.process.stdout.close()


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform == "win32", reason="the nodes are stopped with a signal")
def test_two_companies_trade_data_with_commands_alone(pair: tuple[Company, Company], tmp_path: Path) -> None:
    supplier, buyer = pair
    (tmp_path / "mill.csv").write_text(CSV)
    (tmp_path / "price.json").write_text(json.dumps(PRICE))

    # the supplier: data in, described, graded, rights stated, offered
    taken = supplier.run("sources", "import", "mill.csv")
    assert (taken["rows"], taken["source"]) == (480, "mill")
    signals = supplier.run("signals", "list")["signals"]
    assert {one["native_id"] for one in signals["items"]} == {"spindle_load", "coolant_temp"}
    supplier.run("datasets", "define", "mill-load", "--title", "Load of the mill")
    assert supplier.run("products", "offer", "mill-load", code=1)  # nobody has stated the rights yet
    assert supplier.run("govern", "grade")["datasets"] == 1
    supplier.run("rights", "state", "mill-load", "--source", "own production", "--evidence", "asset register")
    terms = ("--price", str(tmp_path / "price.json"), "--terms", "30 days")
    assert supplier.run("products", "offer", "mill-load", *terms, code=1)  # nobody has seen what it would do
    told = supplier.run("rehearse", "mill-load", "--last", "1d", "--whole", *terms)
    assert (told["visits"], told["left"], told["rows"], told["invoices"][0]["total"]) == (1, 1, 480, "9.60")
    assert {one["status"] for one in told["terms"]} == {"enforced", "legal"}
    supplier.run("products", "offer", "mill-load", *terms)
    assert "mill-load" in supplier.run("products", "list", as_json=False)

    # the buyer: finds, negotiates, receives
    offers = buyer.run("catalogue", supplier.address, supplier.participant)["offers"]
    assert [one["dataset"] for one in offers] == ["mill-load"]
    assert buyer.run("catalogue", supplier.address)["offers"] == offers
    talk = buyer.run("negotiate", supplier.address, supplier.participant, offers[0]["id"])
    assert talk["state"] == "FINALIZED"
    agreement = talk["agreement"]
    got = buyer.run("receive", agreement)
    assert got["rows"] == 480
    assert buyer.run("transfers")[0]["agreement"] == agreement
    assert buyer.run("contracts", "show", agreement)["used"]["receipts"] >= 1
    assert len(buyer.run("signals", "list")["signals"]["items"]) == 2

    # the buyer's question goes to the supplier's data: signed, approved, rehearsed, contracted, asked
    (tmp_path / "query.json").write_text(json.dumps(QUERY))
    buyer.run("query", "sign", str(tmp_path / "query.json"), "--out", str(tmp_path / "signed.json"))
    template = supplier.run("query", "approve", str(tmp_path / "signed.json"))["template"]
    answers = ("mill-load", "--id", "answers", "--query", template)
    supplier.run("rehearse", *answers)
    supplier.run("products", "offer", *answers)
    offers = buyer.run("catalogue", supplier.address)["offers"]
    talk = buyer.run("negotiate", supplier.address, supplier.participant, offers[-1]["id"])
    answer = buyer.run("query", "ask", talk["agreement"], "signal=coolant_temp")
    assert [(row["signal"], row["n"]) for row in answer["rows"]] == [("coolant_temp", 240)]
    (job,) = supplier.run("query", "jobs")["jobs"]
    assert job["outcome"] == "answered"

    # both: money and evidence
    invoice = supplier.run("invoices", "make", agreement)
    assert (invoice["total"], invoice["currency"]) == ("9.60", "CNY")
    mirrored = buyer.run("invoices", "list")["invoices"]["items"][0]
    assert (mirrored["role"], mirrored["state"], mirrored["total"]) == ("consumer", "agreed", "9.60")
    assert supplier.run("evidence")["size"] > 0
    assert "spindle_load" in supplier.run("signals", "list", as_json=False)
    package, trust, wrong = tmp_path / "package.zip", tmp_path / "trust", tmp_path / "wrong"
    supplier.run("package", agreement, "--out", str(package))
    supplier.run("trust", "export", "--out", str(trust))
    assert verify("--trust", str(trust), str(package)) == 0
    wrong.write_text(other_keys(trust.read_text("utf-8")), "utf-8")
    assert verify("--trust", str(wrong), str(package)) == 1
    assert verify(str(package)) == 6
    part, pid = tmp_path / "part.zip", buyer.run("transfers", "--agreement", agreement)[0]["pid"]
    supplier.run("package", agreement, "--transfer", pid, "--from", "2020-01-01T00:00:00Z", "--out", str(part))
    assert verify("--trust", str(trust), str(part)) == 0
    assert scope_of(part).keys() == {"transfer", "from"}
    assert "web.field-missing" in supplier.run("package", agreement, "--transfer", "urn:uuid:none", code=4)

    # a stopped node leaves no address behind, keeps its port, and still answers commands that need no partner
    assert (supplier.directory / "session.json").stat().st_mode & 0o077 == 0
    assert supplier.run("sign-in")["link"].startswith(supplier.address)
    before = supplier.address
    assert supplier.stop() == 0
    assert not (supplier.directory / "address").exists()
    assert "node.not-running" in supplier.run("sign-in", code=3)
    assert agreement in {one["id"] for one in supplier.run("contracts", "list")["agreements"]["items"]}
    assert f"http://127.0.0.1:{(supplier.directory / 'port').read_text()}" == before


def scope_of(package: Path) -> dict[str, str]:
    with zipfile.ZipFile(package) as archive:
        scope: dict[str, str] = json.loads(archive.read("manifest.json"))["scope"]
    return scope


def other_keys(text: str) -> str:
    """The same trust file with another evidence key for each party."""
    from guantong.base.canonical import b64
    from guantong.base.keys import Ed25519Key

    changed, count = re.subn(
        r"^(did \S+) \S+$", lambda line: f"{line[1]} {b64(Ed25519Key.generate().public)}", text, flags=re.M
    )
    assert count == 2
    return changed
