"""Figures in the room: rows are committed to with their table, figures are made, challenged, altered, cited, and verified elsewhere."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from tests.prove.conftest import House

from guantong.base import keychange
from guantong.base.clock import NS
from guantong.base.errors import ConfigProblem, Corrupt, GuantongError, Refused
from guantong.base.keys import Ed25519Key
from guantong.keep.model import KeepSettings, clean_measurement_schema, clean_schema
from guantong.keep.service import Keep
from guantong.prove import figure_proof
from guantong.prove.figure import CHUNKS_COMMITTED, Definition, Input
from guantong.prove.figure_chunks import measurement_stream, signal_stream
from guantong.prove.figure_proof import check_bundle
from guantong.prove.figures import Figures
from guantong.prove.rules import parse_trust, with_changes
from guantong.records.tables import LEAVES

START = 1_764_000_000 * NS


def readings(*rows: tuple[int, int, Any], position: int = 1) -> pa.Table:
    """(signal, second, value) as clean readings."""
    full = []
    for signal, second, value in rows:
        row = dict.fromkeys(clean_schema().names)
        kind = "value_text" if isinstance(value, str) else "value_i64" if isinstance(value, int) else "value_f64"
        at = (START + second * NS) // 1000
        row |= {
            "signal_id": signal, "source_time": at, "source_ns": 0, "receive_time": at, "status": 0, "revision": 0,
            "log_position": position, "day": 0, kind: value,
        }  # fmt: skip
        full.append(row)
    return pa.Table.from_pylist(full, schema=clean_schema())


def measurements(values: list[float], *, position: int = 1, characteristic: str = "7") -> pa.Table:
    schema = clean_measurement_schema()
    full = []
    for at, value in enumerate(values):
        row: dict[str, Any] = {}
        for column in schema:
            empty = "" if pa.types.is_string(column.type) else 0
            row[column.name] = None if column.nullable else empty
        row |= {
            "source": "fair", "report": "r1", "result": str(at), "model": "box", "serial": f"A{at}", "characteristic": characteristic,
            "feature": "f", "name": "DIAMETER", "value_f64": value, "unit": "mm", "lower": 9.9, "upper": 10.1, "revision": 0,
            "log_position": position, "receive_time": 0,
        }  # fmt: skip
        full.append(row)
    return pa.Table.from_pylist(full, schema=schema)


CPK = Definition(
    "bore", "cpk@1", (Input("value", "measurements", (measurement_stream("fair", "box", "f", "7"),)),),
    "Cpk of the bore", "孔径 Cpk", {"lower": "9.9", "upper": "10.1", "unit": "mm"},
)  # fmt: skip
AVAILABILITY = Definition(
    "availability", "availability@1",
    (Input("execution", "readings", (signal_stream(1),)), Input("condition", "readings", (signal_stream(2),))),
)  # fmt: skip
WINDOW = (START, START + 3600 * NS)


async def room(house: House, folder: Path) -> tuple[Keep, Figures]:
    keep = Keep(folder, house.records, house.clock, KeepSettings(commit_s=0.0, query_idle_s=0.0), inline=True)
    keep.open()
    figures = Figures(house.records, keep, house.prove, house.clock, lambda _: house.keys, house.settings)
    keep.on_table_commit(figures.note)
    return keep, figures


async def stored(keep: Keep, did: str, position: int, **tables: Any) -> None:
    await keep.store(did, position, **tables)
    await keep.flush(did)


@pytest.fixture
async def seller(supplier: House, tmp_path: Path) -> Any:
    keep, figures = await room(supplier, tmp_path / "keep")
    yield supplier, keep, figures
    await keep.abandon()


async def test_what_becomes_part_of_a_table_is_committed_to_in_the_step_that_records_it(seller: Any) -> None:
    house, keep, figures = seller
    await stored(keep, house.did, 1, measurements=measurements([10.0, 10.01]), readings=readings((1, 0, "ACTIVE")))
    kinds = [orjson.loads(row["leaf"]) for row in await house.records.rows(LEAVES.select().order_by(LEAVES.c.number))]
    committed = [leaf["body"] for leaf in kinds if leaf["kind"] == CHUNKS_COMMITTED.name]

    assert sorted((body["table"], body["rows"], body["chunks"]) for body in committed) == [
        ("measurements", 2, 2),
        ("readings", 1, 1),
    ]
    assert [leaf["kind"] for leaf in kinds].index("keep.committed") < [leaf["kind"] for leaf in kinds].index(
        CHUNKS_COMMITTED.name
    )
    assert {one["stream"] for one in await figures.streams(house.did)} == {"fair/box/f#7", "signal/1"}


async def test_a_figure_is_made_challenged_and_verified_with_the_keys_of_seller_and_witness(
    seller: Any, customer: House
) -> None:
    house, keep, figures = seller
    for one in (house, customer):
        await one.prove.start()
    await house.know(customer)
    await customer.know(house)
    await stored(keep, house.did, 1, measurements=measurements([10.0, 10.02, 9.98, 10.01]))
    await house.prove.witnessed(house.did, 2)
    await figures.define(house.did, CPK)
    made = await figures.make(house.did, "bore", *WINDOW)
    checked = await figures.challenge(house.did, made.digest, 50)
    trust = parse_trust(await customer.prove.trust_lines(customer.did))
    theirs = check_bundle(orjson.loads(orjson.dumps((await figures.figure(house.did, made.digest)).proof)), trust)

    assert made.value == "1.222000"  # mean 10.0025, MR̄ 0.03: 0.0975 · 1.128 / (3 · 0.03)
    assert (checked.verdict, theirs.verdict, theirs.witnessed) == ("clean", "clean", True)
    assert (theirs.opened, theirs.positions, theirs.units) == (50, 4, 4)
    assert theirs.bound == "0.058155"
    assert theirs.document()["notShown"]
    stranger = check_bundle((await figures.figure(house.did, made.digest)).proof, None)
    assert stranger.verdict == "signer-unknown"


async def test_openings_stay_within_the_contract_and_a_figure_is_challenged_once(seller: Any) -> None:
    house, keep, figures = seller
    await stored(keep, house.did, 1, measurements=measurements([10.0, 10.02, 9.98, 10.01]))
    await figures.define(house.did, Definition(CPK.id, CPK.function, CPK.inputs, "", "", CPK.parameters, openings=2))
    made = await figures.make(house.did, "bore", *WINDOW)
    with pytest.raises(Refused) as spent:
        await figures.challenge(house.did, made.digest, 100)
    await figures.challenge(house.did, made.digest, 1)
    with pytest.raises(Refused) as again:
        await figures.challenge(house.did, made.digest, 1)

    assert spent.value.code == "prove.openings-spent"
    assert again.value.code == "prove.challenge-refused"


async def test_rows_that_were_altered_in_the_table_are_not_taken_for_those_that_were_committed(seller: Any) -> None:
    house, keep, figures = seller
    await stored(keep, house.did, 1, measurements=measurements([10.0, 10.02, 9.98, 10.01]))
    await figures.define(house.did, CPK)
    truth = keep.measurements

    async def altered(*given: Any, **more: Any) -> pa.Table:
        rows = (await truth(*given, **more)).to_pylist()
        rows[2]["value_f64"] = 10.0
        return pa.Table.from_pylist(rows, schema=clean_measurement_schema())

    keep.measurements = altered
    with pytest.raises(Corrupt) as caught:
        await figures.make(house.did, "bore", *WINDOW)

    assert caught.value.code == "prove.chunk-differs"


async def test_late_rows_and_revisions_are_opened_together_with_what_they_change(seller: Any) -> None:
    house, keep, figures = seller
    await stored(keep, house.did, 1, readings=readings((1, -10, "READY"), (1, 600, "ACTIVE"), (1, 1800, "READY")))
    await stored(keep, house.did, 2, readings=readings((1, 1200, "STOPPED"), (1, 2400, "ACTIVE"), position=2))
    await stored(keep, house.did, 3, readings=readings((1, 3000, "ACTIVE"), (1, 4000, "READY"), position=3))
    await figures.define(house.did, AVAILABILITY)
    made = await figures.make(house.did, "availability", *WINDOW)
    await figures.challenge(house.did, made.digest, 20)
    checked = await figures.check(house.did, made.digest)

    assert made.value == "0.500000"  # 600 to 1200 and 2400 to 3600 of 3600 s
    assert made.proof["figure"]["positions"] == 2
    assert (checked.verdict, checked.problems) == ("clean", [])


async def test_a_figure_of_figures_verifies_offline_through_all_that_it_cites(seller: Any, customer: House) -> None:
    house, keep, figures = seller
    await house.know(customer)
    cpks = []
    for number, values in enumerate(([10.0, 10.02, 9.98], [10.0, 10.0, 10.0], [10.05, 10.03, 10.06])):
        rows = measurements(values, position=number + 1, characteristic=str(number))
        await stored(keep, house.did, number + 1, measurements=rows)
        stream = measurement_stream("fair", "box", "f", str(number))
        await figures.define(
            house.did,
            Definition(f"d{number}", "cpk@1", (Input("value", "measurements", (stream,)),), "", "", CPK.parameters),
        )
        made = await figures.make(house.did, f"d{number}", *WINDOW)
        await figures.challenge(house.did, made.digest, 10)
        cpks.append(await figures.figure(house.did, made.digest))
    least = await figures.make_of(house.did, "least-of-figures@1", [one.digest for one in cpks])
    above = await figures.make_of(house.did, "mean-of-figures@1", [least.digest, cpks[0].digest])
    trust = parse_trust(await house.prove.trust_lines(house.did))
    checked = check_bundle(orjson.loads(orjson.dumps(above.proof)), trust)
    bundle = orjson.loads(orjson.dumps(above.proof))
    cited = next(one for one in bundle["cites"] if one["cites"])["cites"][0]["challenge"]["openings"][0]["chunks"][0]
    cited["text"] = cited["text"].replace("mm", "mn")
    changed = check_bundle(bundle, trust)

    assert [one.value for one in cpks][1] is None
    assert cpks[1].proof["figure"]["reason"] == "the values do not vary"
    assert least.value == min(one.value for one in cpks if one.value)
    assert (checked.verdict, len(checked.cites), {len(one.cites) for one in checked.cites}) == ("clean", 2, {0, 3})
    assert changed.verdict == "wrong"


async def test_a_commitment_that_the_seller_leaves_out_of_the_stretch_is_seen(seller: Any) -> None:
    house, keep, figures = seller
    for position, tables in enumerate(
        (
            {"measurements": measurements([10.0, 10.02], position=1)},
            {"readings": readings((1, 0, "ACTIVE"), position=2)},
            {"measurements": measurements([9.98, 10.01], position=4)},
        )
    ):
        await stored(keep, house.did, (1, 2, 4)[position], **tables)
    await figures.define(house.did, CPK)
    bundle = (await figures.make(house.did, "bore", *WINDOW)).proof
    trust = parse_trust(await house.prove.trust_lines(house.did))
    whole = check_bundle(bundle, trust)
    left_out = orjson.loads(orjson.dumps(bundle))
    (beside,) = [at for at, one in enumerate(bundle["figure"]["commits"]) if one["table"] == "readings"]
    for commits in (left_out["figure"]["commits"], left_out["commits"]):
        del commits[beside]
    hidden = figure_proof.Checked()
    figure_proof._check_commits(left_out, left_out["figure"], house.did, trust, hidden, left_out["entry"])

    assert whole.problems == []
    assert whole.covers == {"first": 1, "last": 4, "uncovered": 1, "stretches": [[3, 3]]}  # position 3 had no rows
    assert hidden.covers == {"first": 1, "last": 4, "uncovered": 2, "stretches": [[2, 3]]}


async def test_a_figure_of_before_a_rotation_stays_good_and_one_that_the_old_key_signs_later_is_wrong(
    seller: Any, customer: House, tmp_path: Path
) -> None:
    house, keep, figures = seller
    await house.know(customer)
    await customer.know(house)
    old = house.keys

    async def made_and_witnessed() -> dict[str, Any]:
        made = await figures.make(house.did, "bore", *WINDOW)
        await house.prove.catch_up(house.did)
        await house.prove._ask_witness(house.prove._log(house.did), customer.did)
        await figures.challenge(house.did, made.digest, 5)
        return orjson.loads(orjson.dumps((await figures.figure(house.did, made.digest)).proof))

    await stored(keep, house.did, 1, measurements=measurements([10.0, 10.02, 9.98, 10.01]))
    await figures.define(house.did, CPK)
    before = await made_and_witnessed()
    trust_of_before = parse_trust(await customer.prove.trust_lines(customer.did))
    house.clock.at += 3600 * NS
    new = Ed25519Key.generate()
    statement = keychange.make(house.did, old.log.public, new, house.clock.now(), old_key=old.log)
    trust = with_changes(trust_of_before, [keychange.parse(statement)])
    house.clock.at += 3600 * NS
    forged = await made_and_witnessed()  # whoever holds the old key goes on with it
    unseen = orjson.loads(orjson.dumps(forged))
    no_witness = replace(trust, policy=replace(trust.policy, witnesses={}))

    assert check_bundle(before, trust_of_before).verdict == "clean"
    assert check_bundle(before, trust).verdict == "clean"
    found = check_bundle(forged, trust)
    assert (found.verdict, len(found.problems)) == ("wrong", 1)
    assert "seen only later" in found.problems[0]
    assert check_bundle(unseen, no_witness).verdict == "signer-unknown"


@pytest.mark.parametrize(
    ("path", "change", "reason"),
    [
        (("figure", "value"), lambda _: "9.999999", "signature"),
        (("ends", "last", "leaf"), lambda leaf: leaf.replace('"n":4', '"n":5'), "root"),
        (("commits", 0, "leaf"), lambda leaf: leaf.replace('"rows":4', '"rows":5'), "log"),
        (("made", "proof"), lambda proof: proof.replace("index ", "index 1", 1), "log"),
        (("challenge", "openings"), lambda found: found[1:], "draws were not opened"),
        (("signature", "by"), lambda _: "did:web:else.example", "signature"),
    ],
)
async def test_a_bundle_with_anything_changed_is_wrong_and_says_why(
    seller: Any, path: Any, change: Any, reason: str
) -> None:
    import re

    house, keep, figures = seller
    await stored(keep, house.did, 1, measurements=measurements([10.0, 10.02, 9.98, 10.01]))
    await figures.define(house.did, CPK)
    made = await figures.make(house.did, "bore", *WINDOW)
    await figures.challenge(house.did, made.digest, 3)
    bundle: Any = orjson.loads(orjson.dumps((await figures.figure(house.did, made.digest)).proof))
    trust = parse_trust(await house.prove.trust_lines(house.did))
    before = check_bundle(bundle, trust).verdict
    at = bundle
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = change(at[path[-1]])
    found = check_bundle(bundle, trust)

    assert before == "clean"
    assert found.verdict == "wrong"
    assert any(re.search(reason, problem) for problem in found.problems), found.problems


async def test_a_commitment_that_came_after_the_figure_is_wrong(seller: Any) -> None:
    """The seller's log decides the order: here a figure is given commitments that its log holds later."""
    house, keep, figures = seller
    await stored(keep, house.did, 1, measurements=measurements([10.0, 10.02, 9.98, 10.01]))
    await figures.define(house.did, CPK)
    first = await figures.make(house.did, "bore", *WINDOW)
    await stored(keep, house.did, 2, measurements=measurements([10.0], position=2, characteristic="8"))
    second = await figures.make(house.did, "bore", *WINDOW)
    bundle = orjson.loads(orjson.dumps(second.proof)) | {"made": first.proof["made"]}

    assert check_bundle(bundle, None).verdict == "wrong"


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (Definition("x", "cpk@9", CPK.inputs), "no function cpk@9"),
        (Definition("x", "cpk@1", ()), "role value"),
        (Definition("x", "availability@1", CPK.inputs), "role execution"),
        (Definition("x", "cpk@1", CPK.inputs, openings=0), "openings"),
        (Definition("x", "cpk@1", CPK.inputs, parameters={"lower": 9.9}), ""),
        (Definition("x", "on-time-delivery@1", (Input("orders", "table:orders", ("table/orders",)),)), "parameter"),
    ],
)
async def test_a_definition_that_can_not_work_is_refused_with_its_reason(
    seller: Any, definition: Definition, reason: str
) -> None:
    house, _, figures = seller
    if not reason:  # 9.9 as a JSON number is canonical: it is read as it stands
        await figures.define(house.did, definition)
        return
    with pytest.raises(ConfigProblem) as caught:
        await figures.define(house.did, definition)

    assert caught.value.code == "prove.figure-invalid"
    assert reason in str(caught.value)


async def test_orders_come_from_a_named_table_and_their_newest_row_counts(seller: Any) -> None:
    house, keep, figures = seller
    day = 86_400

    def orders(*rows: tuple[str, int, int | None]) -> pa.Table:
        def at(second: int | None) -> str | None:
            return None if second is None else figure_proof.iso(START + second * NS)

        columns = ["order", "due", "delivered"]
        return pa.table(
            {
                name: [(number, at(due), at(done))[place] for number, due, done in rows]
                for place, name in enumerate(columns)
            },
            schema=pa.schema([(name, pa.string()) for name in columns]),
        )

    await stored(
        keep, house.did, 1, tables={"orders": orders(("O1", day, day - 5), ("O2", day, None), ("O10", day, day + 5))}
    )
    await stored(keep, house.did, 2, tables={"orders": orders(("O2", day, day - 1))})
    (stream,) = {one["stream"] for one in await figures.streams(house.did, "table:orders")}
    await figures.define(
        house.did,
        Definition(
            "otd",
            "on-time-delivery@1",
            (Input("orders", "table:orders", (stream,)),),
            "",
            "",
            {"order": "order", "due": "due", "delivered": "delivered"},
        ),
    )
    made = await figures.make(house.did, "otd", START, START + 2 * day * NS)
    checked = await figures.challenge(house.did, made.digest, 10)

    assert made.value == "0.666667"
    assert checked.problems == []


async def test_without_commitments_there_is_no_figure_and_the_reason_is_said(seller: Any) -> None:
    house, _, figures = seller
    await figures.define(house.did, CPK)
    with pytest.raises(GuantongError) as caught:
        await figures.make(house.did, "bore", *WINDOW)

    assert caught.value.code == "prove.figure-impossible"
    assert "was committed to" in str(caught.value)
    await asyncio.sleep(0)
