"""The disturbance suite: ``python -m bench.disturbances [--full] [--json] [--only D3] [--markdown FILE] [--of JSON] [--gateway NAME=COMMAND]``.

Exit code 1 if guantong fails a case. Other gateways run in the same cases at the same time and are reported, not judged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.disturbances.cases import CASES, Bench, Case, Row, command
from bench.disturbances.ledger import Ledger

COLUMNS = ("offered", "kept", "missing", "duplicated", "out_of_order", "gap_records", "undeclared", "overclaimed")


async def run_case(case: Case, bench: Bench, gate: asyncio.Semaphore) -> list[Row]:
    """One case in a folder of its own; what goes wrong with the bench itself is a row that does not pass."""
    async with gate:
        folder = bench.folder / case.id
        folder.mkdir(parents=True)
        began = time.monotonic()
        try:
            found = await case.run(bench, folder)
        except Exception as error:
            return [Row(case.id, "guantong", "", None, [f"{type(error).__name__}: {error}"])]
        for row in found:
            row.facts["seconds"] = round(time.monotonic() - began, 1)  # type: ignore[index]
        return found


async def run(bench: Bench, only: list[str], at_once: int) -> list[Row]:
    """The cases, some at the same time; rows in the order of the cases."""
    gate = asyncio.Semaphore(at_once)
    chosen = [case for case in CASES if not only or case.id in only]
    results = await asyncio.gather(*(run_case(case, bench, gate) for case in chosen))
    return [row for result in results for row in result]


def verdict(rows: list[Row]) -> tuple[int, int]:
    """Cases that guantong passed and failed."""
    cases = {row.case for row in rows}
    failed = {row.case for row in rows if row.gateway == "guantong" and not row.passed}
    return len(cases) - len(failed), len(failed)


def markdown(rows: list[Row]) -> str:
    """The table, with what each case asks for."""
    says = {case.id: case for case in CASES}
    heads = ["", "gateway", "what was done", *(name.replace("_", " ") for name in COLUMNS), "verdict"]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join(["---"] * 3 + ["---:"] * len(COLUMNS) + ["---"]) + " |"]
    for row in rows:
        figures = [f"{getattr(row.ledger, name):,}" if row.ledger else "–" for name in COLUMNS]
        judged = "passed" if row.passed else "; ".join(row.complaints)
        lines.append("| " + " | ".join([row.case, row.gateway, row.form, *figures, judged]) + " |")
    lines += ["", "| | disturbance | passes when |", "| --- | --- | --- |"]
    lines += [
        f"| {case} | {says[case].says} | {says[case].passes} |" for case in dict.fromkeys(row.case for row in rows)
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    options = argparse.ArgumentParser(prog="python -m bench.disturbances", description=__doc__)
    options.add_argument("--full", action="store_true", help="the long forms (about 20 minutes)")
    options.add_argument("--json", action="store_true", help="one JSON object")
    options.add_argument("--only", action="append", default=[], metavar="D3", help="only these cases")
    options.add_argument("--alone", action="store_true", help="guantong without the others beside it")
    options.add_argument("--at-once", type=int, default=None, help="cases at the same time (default 4, with --full 2)")
    options.add_argument(
        "--gateway", action="append", default=[], metavar="NAME=COMMAND", help="another gateway (see the package)"
    )
    options.add_argument("--markdown", type=Path, metavar="FILE", help="write the page of a reference here")
    options.add_argument("--of", type=Path, metavar="JSON", help="run nothing; table or page of an earlier run")
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="leave offered files, ledgers and data here")
    given = options.parse_args(arguments)
    unknown = set(given.only) - {case.id for case in CASES}
    if unknown:
        options.error(f"no such case: {', '.join(sorted(unknown))}")
    if given.of:
        before = json.loads(given.of.read_text("utf-8"))
        rows = rows_of(before)
        table = markdown(rows)
        if given.markdown:
            given.markdown.write_text(page(table, before, *verdict(rows)), "utf-8")
        else:
            print(table)
        return 0
    with tempfile.TemporaryDirectory(prefix="disturbances-") as name:
        bench = Bench(given.keep or Path(name), full=given.full, beside=not given.alone)
        for extra in given.gateway:
            label, _, line = extra.partition("=")
            bench = replace(bench, commands={**bench.commands, label: command(line)})
        began = time.monotonic()
        rows = asyncio.run(run(bench, given.only, given.at_once or (2 if given.full else 4)))
    passed, failed = verdict(rows)
    about: dict[str, Any] = {
        "command": " ".join(["python -m bench.disturbances", *(sys.argv[1:] if arguments is None else arguments)]),
        "seconds": round(time.monotonic() - began, 1),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }
    table = markdown(rows)
    if given.markdown:
        given.markdown.write_text(page(table, about, passed, failed), "utf-8")
    if given.json:
        plain = [
            {
                "case": row.case,
                "gateway": row.gateway,
                "form": row.form,
                "passed": row.passed,
                "complaints": row.complaints,
                "ledger": row.ledger.to_json() if row.ledger else None,
                "facts": dict(row.facts),
            }
            for row in rows
        ]
        print(json.dumps({**about, "rows": plain, "passed": passed, "failed": failed}, default=str))
    else:
        print(table)
        print(f"\n{passed} passed, {failed} failed   ({about['seconds']} s)")
    return int(failed > 0)


def page(table: str, about: dict[str, Any], passed: int, failed: int) -> str:
    """The reference page, from a run that was really made."""
    return (
        "<!-- Written by python -m bench.disturbances --full --markdown; do not edit. -->\n\n"
        "# Disturbances / 干扰测试\n\n"
        "What a gateway loses when the field misbehaves. *Offered* comes from the peer's own file (node-opcua, modbus-serial,\n"
        "sparkplug-client; none of them ours), *kept* from the table after fusion. *Undeclared* are missing readings that no gap record\n"
        "covers, *overclaimed* are kept readings that a gap record calls missing: both 0 means that the gap records say exactly what is\n"
        "missing. The stock asyncua client ran in the same cases at the same time through lines of its own; it is reported, not judged.\n\n"
        "现场出现干扰时，网关会丢失什么。offered（提供）取自对端自己的文件（node-opcua、modbus-serial、sparkplug-client，均非本项目所写），\n"
        "kept（保留）取自融合之后的数据表。undeclared 是缺失且没有任何缺口记录说明的读数，overclaimed 是已保留却被缺口记录称为缺失的读数；\n"
        "两者均为 0，说明缺口记录与实际缺失完全一致。原版 asyncua 客户端在同一时间、同样的干扰下经各自的线路运行，只列出结果，不作评判。\n\n"
        f"{table}\n\n"
        f"{passed} passed, {failed} failed. One run of `{about['command']}`: {about['seconds']:.0f} s on {about['cores']} cores at a load of\n"
        f"{about['load']:.1f}, Python {about['python']}.\n"
        "Any gateway can be measured: `python -m bench.disturbances --gateway NAME=COMMAND`; the small port it has to serve is described in\n"
        "`bench/disturbances/__init__.py`.\n"
    )


def rows_of(document: dict[str, Any]) -> list[Row]:
    """The rows of an earlier run's JSON."""
    return [
        Row(
            one["case"],
            one["gateway"],
            one["form"],
            Ledger(**one["ledger"]) if one["ledger"] else None,
            list(one["complaints"]),
            one["facts"],
        )
        for one in document["rows"]
    ]


if __name__ == "__main__":
    sys.exit(main())
