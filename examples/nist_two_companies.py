"""Two companies, one chain, real parts: a milling shop delivers inspection results under contract, its customer compares them.

The data are real and not ours: the Smart Manufacturing Systems (SMS) Test Bed of the National Institute of Standards and Technology
(NIST), U.S. Department of Commerce. The supplier has a day of a Mazak mill (SHDR), part data of two Hurco mills and the first article
inspection reports (FAIR) of boxes and covers; the customer has its own incoming inspection of the same parts (both QIF 2.1).

    python examples/nist_two_companies.py                 a report for people
    python examples/nist_two_companies.py --part box/7    both measurements of every characteristic of one part ("all": of all parts)
    python examples/nist_two_companies.py --json          every figure as one JSON object
    python examples/nist_two_companies.py --serve         and leave both nodes running, with links to look around

See docs/how-to/two-companies.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from guantong.base.clock import iso
from guantong.base.errors import GuantongError
from guantong.config import load
from guantong.connect import Imported, Interface
from guantong.connect.rules import out_of_tolerance
from guantong.describe import Dataset
from guantong.exchange.model import Product
from guantong.fuse.comparison import Comparison, Pair, natural
from guantong.fuse.parts import RULES
from guantong.govern import Rights, SubjectFacts
from guantong.govern.measure import measure
from guantong.node import Node, run_async

NIST = Path(__file__).resolve().parents[2] / "shared" / "data" / "nist_smstestbed"
THANKS = (
    "Data: Smart Manufacturing Systems (SMS) Test Bed, National Institute of Standards and Technology (NIST), U.S. Department of "
    "Commerce. NIST does not endorse this program."
)
MACHINES = {
    "Mazak01": "raw/Mazak01-*.txt",
    "Hurco02": "tdp_mtc/PartData/*Hurco02*.txt",
    "Hurco04": "tdp_mtc/PartData/*Hurco04*.txt",
}
MODEL, FAIR, INCOMING = "agent/Devices.xml", "tdp_mtc/FAIR", "tdp_mtc/QIF-IncomingInspection"
PURPOSE = "incoming inspection"
PRICE = {"currency": "USD", "charges": [{"per": "row", "price": "0.01"}, {"per": "transfer", "price": "2.00"}]}
Row = Mapping[str, Any]


# ---- what each company does


def files(folder: Path, pattern: str) -> list[Path]:
    """Files of a folder by name."""
    return sorted(folder.glob(pattern))


async def read_machines(node: Node, folder: Path) -> list[Imported]:
    """The supplier's recordings, with names and units from the shop's own device model."""
    devices = {device.name: device for device in await node.connect.devices(folder / MODEL)}
    done = []
    for name, pattern in MACHINES.items():
        interface = Interface(name, "shdr-log", folder.as_uri(), properties=devices[name].adapter_items)
        await node.connect.add(node.participant, interface, start=False)
        for file in files(folder, pattern):
            done.append(await node.connect.import_file(node.participant, name, file))
    return done


async def read_inspection(node: Node, source: str, folder: Path) -> list[Row]:
    """Inspection reports of a folder; the measurements as they stand in the tables."""
    for file in files(folder, "*.[qQ][iI][fF]"):
        await node.connect.import_file(node.participant, source, file)
    await node.fuse.drain(node.participant)
    await node.keep.flush(node.participant)
    return list((await node.keep.measurements(node.participant)).to_pylist())


async def offer(node: Node, rows: list[Row], partner: str) -> None:
    """Describe the FAIR as a dataset, grade it, state the rights, score its quality, and offer it to one partner for one purpose."""
    me, models = node.participant, tuple(sorted({row["model"] for row in rows}))
    title = "First article inspection of boxes and covers"
    await node.describe.define(me, Dataset("fair", title, "箱体与盖板首件检测", kind="measurements", models=models))
    machines = [
        SubjectFacts(f"signal:{one.id}", one.name, one.path, one.unit, one.category, one.source)
        for one in await node.fuse.signals(me)
    ]
    measured = [
        SubjectFacts(f"column:fair/{name}", name, unit=unit, table="fair")
        for name, unit in sorted({(row["name"], row["unit"] or "") for row in rows})
    ]
    await node.govern.classify(me, [*machines, *measured])
    now = node.clock.now()
    await node.govern.state_rights(
        me, Rights("fair", me, me, me, "own production", "measured on the shop's own machine", iso(now, digits=0))
    )
    (dataset,) = await node.describe.datasets(me)
    await node.govern.score(me, "fair", await measure(me, dataset, node.describe, node.fuse, now=now))
    constraint = [
        {"leftOperand": "recipient", "operator": "eq", "rightOperand": partner},
        {"leftOperand": "purpose", "operator": "eq", "rightOperand": PURPOSE},
    ]
    policy = {"permission": [{"action": "use", "constraint": constraint}]}
    terms = "For the incoming inspection of the named parts."
    await node.exchange.offer(me, Product("fair-product", "fair", policy, title_en=title, terms=terms, price=PRICE))


async def buy(node: Node, supplier: Node) -> dict[str, Any]:
    """Catalogue, contract, delivery into the customer's own log and tables; all of it over HTTP."""
    me, address = node.participant, supplier.address + "/dsp/2025-1"
    catalogue = await node.exchange.catalogue(me, address, supplier.participant)
    wanted = next(item for item in catalogue.offers if item.dataset_id == "fair")
    pid = await node.exchange.negotiate(me, address, supplier.participant, wanted)
    agreement = (await node.exchange.wait_negotiation(me, pid)).agreement_id
    delivered = await node.receive(agreement, purpose=PURPOSE, source="fair")
    await node.exchange.decide_transfer(me, delivered["pid"], "complete")
    await node.fuse.drain(me)
    await node.keep.flush(me)
    return {"agreement": agreement, "rows": delivered["rows"]}


async def settle(supplier: Node, customer: Node, bought: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Receipts, invoice and evidence package, each side by itself."""
    agreement = bought["agreement"]
    sides = {"provider": supplier, "consumer": customer}
    negotiation, transfer, receipts, sent, invoice = {}, {}, {}, {}, {}
    for side, node in sides.items():
        me = node.participant
        found = await node.exchange.wait_receipts(me, agreement)
        wrong = await node.exchange.verify_receipts(me, agreement)
        receipts[side] = not wrong and all(one.state == "acknowledged" for one in found)
        sent[side] = sum(int(one.record["rows"]) for one in found)
        negotiation[side] = next(
            one.state for one in await node.exchange.negotiations(me) if one.agreement_id == agreement
        )
        pid = next(one.pid for one in await node.exchange.transfers(me) if one.agreement_id == agreement)
        transfer[side] = (await node.exchange.wait_transfer(me, pid, states=("COMPLETED", "TERMINATED"))).state
        invoice[side] = (await node.settle.invoice(me, agreement)).total
    package = await supplier.package(agreement, folder)
    verdict = await customer.verify(await asyncio.to_thread(package.read_bytes))
    trust = folder / "trust.txt"
    await asyncio.to_thread(trust.write_text, await customer.trust(), "utf-8")
    return {
        "agreement": agreement,
        "negotiation": negotiation,
        "transfer": transfer,
        "rows": {"sent": sent["provider"], "received": bought["rows"]},
        "receipts": receipts,
        "invoice": {**invoice, "currency": PRICE["currency"]},
        "package": str(package),
        "trust": str(trust),
        "verified": verdict["ok"],
    }


# ---- figures


def design(model: str) -> str:
    """The short word of a design: box, cover."""
    return next((word for word in ("box", "cover") if word in model.lower()), model)


def count(rows: Iterable[Row]) -> dict[str, int]:
    """Characteristic values by design."""
    return dict(sorted(Counter(design(row["model"]) for row in rows).items()))


def count_parts(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """By design: how many parts have so many values."""
    sizes = Counter((design(row["model"]), row["report"], row["result"]) for row in rows)
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (word, _, _), size in sizes.items():
        found[word][str(size)] += 1
    return {word: dict(sorted(found[word].items())) for word in sorted(found)}


def bad(rows: Iterable[Row]) -> list[Row]:
    """Values outside their tolerance as declared."""
    return [row for row in rows if out_of_tolerance(row)]


def recordings(done: Iterable[Imported]) -> dict[str, Any]:
    """Lines read, parsed, put together again and quarantined; the quarantined ones by file, offset and reason."""
    done = list(done)
    fields: Counter[str] = Counter()
    for one in done:
        fields.update(one.facts["fields"])
    return {
        "lines": sum(one.lines for one in done),
        "parsed": sum(one.parsed for one in done),
        "quarantined": sum(one.quarantined for one in done),
        "mended": sum(one.facts["mended"] for one in done),
        "fields": dict(sorted(fields.items())),
        "pieces": [{"file": Path(one.path).name, **piece} for one in done for piece in one.facts["quarantined"]],
    }


def repeated_names(rows: Iterable[Row]) -> dict[str, int]:
    """Names that stand for several features of one part, with the most features a part has of each."""
    sizes = Counter((row["report"], row["result"], row["name"]) for row in rows)
    found: dict[str, int] = {}
    for (_, _, name), size in sizes.items():
        if size > 1:
            found[name] = max(size, found.get(name, 0))
    return dict(sorted(found.items()))


def explain(company: str, finding: Any, compared: Comparison) -> dict[str, Any]:
    """A finding with its figures and a sentence."""
    facts, text = dict(finding.facts), finding.kind
    word = design(str(facts.get("model", "")))
    if finding.kind == "tolerance":
        theirs = [
            match.left
            for match in compared.characteristics
            if match.rule == "characteristic.declared-otherwise" and match.right.id in facts["features"]
        ]
        text = (
            f"{finding.signal} of the {word}: {len(facts['features'])} features measure {facts['measured']:g} {facts['unit']} on "
            f"{facts['parts']} parts, but their tolerance is declared around {facts['nominal']:g}. It was declared for another feature; "
            f"these {facts['max_rows']} values are not bad parts."
        )
        if theirs:
            names = sorted((one.name for one in theirs), key=natural)
            facts["counterpart"] = {"names": names, "nominal": theirs[0].nominal}
            text += f" The supplier measures the same features as {', '.join(names)}, nominal {theirs[0].nominal:g}."
    elif finding.kind == "zone":
        text = (
            f"{finding.signal} of the {word}: {facts['max_parts']} parts carry a tolerance zone of {facts['zone']:g} {facts['unit']}. "
            "A zone can't be negative, so nothing is judged by it."
        )
    return {
        "company": company,
        "kind": finding.kind,
        "source": finding.source,
        "signal": finding.signal,
        "facts": facts,
        "text": text,
    }


# ---- the walk


async def walk(
    supplier: Node, customer: Node, folders: tuple[Path, Path], out: Path
) -> tuple[dict[str, Any], Comparison]:
    """All of it; the figures and the comparison."""
    say("supplier reads its machines and its inspection reports")
    done = await read_machines(supplier, folders[0])
    fair = await read_inspection(supplier, "fair", folders[0] / FAIR)
    say("customer reads its incoming inspection")
    incoming = await read_inspection(customer, "incoming", folders[1] / INCOMING)
    say("supplier offers, customer buys, both settle")
    await offer(supplier, fair, customer.participant)
    bought = await buy(customer, supplier)
    exchange = await settle(supplier, customer, bought, out)
    # the customer's node now holds both: its own measurements and those that came under the contract
    compared = await customer.fuse.compare(customer.participant, "fair", "incoming")
    signals = await supplier.fuse.signals(supplier.participant)
    found = {
        company: await node.fuse.findings(node.participant)
        for company, node in (("supplier", supplier), ("customer", customer))
    }
    mazak = [one for one in done if one.source == "Mazak01"]
    alone = Counter(one.side for one in compared.unmatched)
    report = {
        "data": THANKS,
        "mazak": {
            **recordings(mazak),
            "signals": sum(one.source == "Mazak01" for one in signals),
            "with_unit": sum(one.source == "Mazak01" and bool(one.unit) for one in signals),
        },
        "part_data": recordings(one for one in done if one.source != "Mazak01"),
        "fair": count(fair),
        "incoming": count(incoming),
        "values_per_part": {"fair": count_parts(fair), "incoming": count_parts(incoming)},
        "part_number_is_serial": sum(
            row["name"] == "Part Number" and f"{row['value_f64']:g}" == row["serial"] for row in fair
        ),
        "parts_matched": len(compared.parts),
        "parts": {
            word: sorted(int(part.serial) for part in compared.parts if design(part.design) == word)
            for word in sorted({design(part.design) for part in compared.parts})
        },
        "matched_by_source_uri": sum("serial.from-source" in part.rules for part in compared.parts),
        "parts_unmatched": {"fair": len(compared.left_only), "incoming": len(compared.right_only)},
        "characteristics": {
            "matched": len(compared.characteristics),
            "by_rule": dict(sorted(Counter(one.rule for one in compared.characteristics).items())),
            "pairs": len(compared.pairs),
            "unmatched": {"fair": alone["left"], "incoming": alone["right"]},
        },
        "repeated_names": {"fair": repeated_names(fair), "incoming": repeated_names(incoming)},
        "limit_forms": {
            name: dict(sorted(Counter(str(row["limit_form"]) for row in rows).items()))
            for name, rows in (("fair", fair), ("incoming", incoming))
        },
        "out_of_tolerance": {
            name: dict(sorted(Counter(row["kind"] for row in bad(rows)).items()))
            for name, rows in (("fair", fair), ("incoming", incoming))
        },
        "negative_zones": sum(int(str(one.facts["max_parts"])) for one in found["customer"] if one.kind == "zone"),
        "findings": [explain(company, one, compared) for company, list_ in found.items() for one in list_],
        "exchange": exchange,
    }
    return report, compared


async def run(options: argparse.Namespace) -> None:
    """Start both nodes, walk the chain, print."""
    place = options.directory or Path(tempfile.mkdtemp(prefix="guantong-nist-"))
    nodes = [
        Node(load({"node.directory": place / name, "node.name": name, "web.port": 0}, environment={}))
        for name in ("supplier", "customer")
    ]
    try:
        for node in nodes:
            await node.start()
            await node.serve()
        report, compared = await walk(nodes[0], nodes[1], (options.supplier, options.customer), place)
        if options.json:
            print(json.dumps(report, ensure_ascii=False, indent=1))
        else:
            show(report, compared, options.part)
        if options.serve:
            for node in nodes:
                say(f"{node.name}: {await node.sign_in_link()}")
            say("Ctrl-C ends it")
            await asyncio.Event().wait()
    finally:
        for node in reversed(nodes):
            await node.stop()


# ---- for people


def say(text: str) -> None:
    """Progress, beside the result."""
    print(text, file=sys.stderr, flush=True)


def tolerance(row: Row) -> str:
    """Limits as declared: ``72.5 … 73.5``, or a zone's width."""
    if row["limit_form"] == "zone":
        return f"zone {row['upper']:g}"
    lower, upper = (f"{row[name]:g}" if row[name] is not None else "" for name in ("lower", "upper"))
    return f"{lower} … {upper}" if lower or upper else "–"


def side(row: Row) -> str:
    """One company's measurement: name, value, unit, tolerance; ``!`` where it is out of tolerance as declared."""
    mark = "!" if out_of_tolerance(row) else " "
    return f"{row['name']:<18}{row['value_f64']:>9.4f}{mark}{row['unit'] or '–':<3} {tolerance(row):<17}"


def show_part(compared: Comparison, part: str, pairs: list[Pair]) -> None:
    """Both measurements of every matched characteristic of one part."""
    known = next(one for one in compared.parts if one.id == part)
    names = "; ".join(f"{where}: {name}" for where, name in known.names)
    print(
        f"\n{design(known.design)} {known.serial}   ({names}; confidence {known.confidence:.2f} by {', '.join(known.rules)})"
    )
    print(f"  {'supplier (FAIR)':<48}   {'customer (incoming inspection)':<48}   {'differ':>8}  rule, confidence")
    for pair in pairs:
        apart = pair.right["value_f64"] - pair.left["value_f64"]
        rule = pair.rule.removeprefix("characteristic.")
        print(f"  {side(pair.left)}  {side(pair.right)}  {apart:>+8.4f}  {rule}, {pair.confidence:.2f}")


def show(report: Mapping[str, Any], compared: Comparison, wanted: str) -> None:
    """The report for people."""
    print(f"{report['data']}\n")
    for title, name in (("Mazak mill, one day", "mazak"), ("Hurco mills, part data", "part_data")):
        one = report[name]
        print(
            f"{title}: {one['lines']:,} lines, {one['parsed']:,} parsed, {one['mended']} put together again, "
            f"{one['quarantined']} quarantined"
        )
        for piece in one["pieces"]:
            print(f"    {piece['file']} at byte {piece['offset']:,}: {piece['reason']}: {piece['text']!r}")
    for title, name in (("Supplier's FAIR", "fair"), ("Customer's incoming inspection", "incoming")):
        values = ", ".join(
            f"{number} values of {sum(report['values_per_part'][name][word].values())} {word} parts"
            for word, number in report[name].items()
        )
        out = ", ".join(f"{number} {kind}" for kind, number in report["out_of_tolerance"][name].items()) or "none"
        print(f"{title}: {values}; out of tolerance as declared: {out}")
    print(
        f"Parts known to both: {report['parts_matched']}, of them {report['matched_by_source_uri']} without a serial, by their source path"
    )
    by_part: dict[str, list[Pair]] = defaultdict(list)
    for pair in compared.pairs:
        by_part[pair.part].append(pair)
    names = {part.id: f"{design(part.design)}/{part.serial}" for part in compared.parts}
    firsts = {design(part.design): part.id for part in reversed(compared.parts)}
    shown = [part for part in by_part if wanted in ("all", names[part]) or (not wanted and part in firsts.values())]
    for part in shown:
        show_part(compared, part, by_part[part])
    if wanted and not shown:
        print(f"\nNo matched part is called {wanted}; there are {', '.join(names.values())}.")
    print("\nRules (a confidence is how often such a match is right, as judged by the rule's maker)")
    for rule in sorted(
        {pair.rule for pair in compared.pairs} | {rule for part in compared.parts for rule in part.rules}
    ):
        print(f"  {rule}: {RULES[rule].en}")
    print("\nUnmatched characteristics, and why")
    whys = Counter((one.side, design(one.model), one.characteristic.name, one.reason[0]) for one in compared.unmatched)
    for (where, word, name, why), number in whys.items():
        print(
            f"  {'supplier' if where == 'left' else 'customer'} {word} {name}{f' ({number} features)' if number > 1 else ''}: {why}"
        )
    print("\nFindings")
    for finding in report["findings"]:
        print(f"  {finding['company']}, {finding['kind']}: {finding['text']}")
    exchange = report["exchange"]
    print(
        f"\nExchange: {exchange['negotiation']['consumer']}, {exchange['rows']['received']:,} of {exchange['rows']['sent']:,} rows received, "
        f"receipts verified by both: {'yes' if all(exchange['receipts'].values()) else 'NO'}; invoice {exchange['invoice']['currency']} "
        f"{exchange['invoice']['provider']} (supplier) and {exchange['invoice']['consumer']} (customer); package verified with the "
        f"customer's keys: {'yes' if exchange['verified'] else 'NO'}\n"
        f"  guantong verify --trust {exchange['trust']} {exchange['package']}"
    )


def main() -> int:
    """Read the options, check the folders, run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--supplier", type=Path, default=NIST, help="folder of the supplier's files, laid out as NIST's"
    )
    parser.add_argument(
        "--customer", type=Path, default=NIST, help="folder of the customer's files, laid out as NIST's"
    )
    parser.add_argument(
        "--directory", type=Path, help="where both nodes keep their data (default: a new temporary folder)"
    )
    parser.add_argument(
        "--part", default="", help='which part to show: "box/7", "all" (default: the first of each design)'
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with every figure")
    parser.add_argument("--serve", action="store_true", help="leave both nodes running, with sign-in links")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    for path in (options.supplier / MODEL, options.supplier / FAIR, options.customer / INCOMING):
        if not path.exists():
            say(
                f"{path} is not there. The data are those of NIST's SMS Test Bed; say where with --supplier and --customer."
            )
            return 2
    try:
        run_async(run(options))
    except GuantongError as error:
        say(f"{error.code}: {error.message()}\n{error.hint()}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
