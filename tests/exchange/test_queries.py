"""Algorithm to data: signed query templates, what they can't do, and what they answer. The provider's data are a real process away."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from guantong.base.errors import Refused, Skippable
from guantong.exchange.borrowing import ask_template, run_at_home
from guantong.exchange.deliveries import QUERY_TERM, bound
from guantong.exchange.queries import TEMPLATE_DATASET

PARTS = 60
CHARACTERISTICS = ("bore", "height", "slot")


def measured() -> pa.Table:
    """60 parts of three designs, three characteristics each."""
    rows: dict[str, list[Any]] = {name: [] for name in ("serial", "model", "characteristic", "value_f64", "shift")}
    for part in range(PARTS):
        for at, characteristic in enumerate(CHARACTERISTICS):
            rows["serial"].append(f"S{part:03}")
            rows["model"].append(("box", "cover", "plate")[part % 3])
            rows["characteristic"].append(characteristic)
            rows["value_f64"].append(10.0 * (at + 1) + part * 0.01)
            rows["shift"].append(part % 2 + 1)
    return pa.table({**rows, "operator": ["Li Lei"] * len(rows["serial"])})


def template(statement: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "capability",
        "version": "1",
        "statement": statement,
        "columns": ["serial", "model", "characteristic", "value_f64", "shift"],
        "unit": "serial",
        "min_group": 5,
        **changes,
    }


MEANS = template(
    "SELECT characteristic, count(*) AS n, avg(value_f64) AS mean FROM data WHERE model = $model GROUP BY characteristic ORDER BY 1",
    parameters={"model": {"type": "text", "choices": ["box", "cover", "plate"]}},
)


@pytest.fixture
async def firms(companies: Callable[..., Any], agreed: Callable[..., Any]) -> tuple[Any, Any, Callable[..., Any]]:
    """The owner of data, the partner that asks, and ``await contract(document)``: a contract on a template of the partner's."""
    owner, asker = await companies("localhost:7001", query_seconds=10.0), await companies("localhost:7002")
    owner.table = measured()

    async def contract(document: dict[str, Any], **changes: Any) -> str:
        signed = asker.exchange.queries.sign(asker.did, document)
        approved = await owner.exchange.queries.approve(owner.did, signed.document())
        floor = changes.pop("floor", None)
        rule = {"action": "use", "constraint": [floor] if floor else []}
        policy = bound({"permission": [rule]}, QUERY_TERM, approved.template.digest)
        return str(await agreed(owner, asker, policy=policy, **changes))

    return owner, asker, contract


async def jobs(owner: Any) -> list[Any]:
    return list(await owner.exchange.queries.jobs(owner.did))


async def test_five_permitted_queries_are_answered_rightly_and_countersigned(firms: Any) -> None:
    owner, asker, contract = firms
    table = owner.table.to_pydict()
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    # 1: by a choice
    agreement = await contract(MEANS)
    found = (await ask_template(asker.exchange, asker.did, agreement, {"model": "cover"})).to_pylist()
    wanted = {
        name: [row["value_f64"] for row in rows if row["model"] == "cover" and row["characteristic"] == name]
        for name in CHARACTERISTICS
    }
    assert [(row["characteristic"], row["n"]) for row in found] == [(name, 20) for name in CHARACTERISTICS]
    assert [row["mean"] for row in found] == pytest.approx([mean(wanted[name]) for name in CHARACTERISTICS])

    receipts = await owner.exchange.wait_receipts(owner.did, agreement)
    (job,) = await jobs(owner)
    assert receipts[0].state == "acknowledged"
    assert receipts[0].record_id == job.id
    assert receipts[0].record["rows"] == 3
    assert await owner.exchange.verify_receipts(owner.did, agreement) == ()
    assert job.outcome == "answered"
    assert job.agreement_id == agreement
    assert job.facts["snapshot"].startswith("sha256:")
    (leaf,) = owner.leaves("exchange.query-answered")
    assert leaf["template"] == job.facts["template"]
    assert leaf["answer"] == job.facts["answer"]

    # 2: without a group; 3: extremes that were approved; 4: arithmetic over aggregates; 5: a range of numbers
    whole = await contract(template("SELECT count(*) AS n, stddev(value_f64) AS s FROM data"), id="b", dataset_id="d:b")
    assert (await ask_template(asker.exchange, asker.did, whole, {})).to_pylist()[0]["n"] == PARTS * 3
    ends = await contract(
        template("SELECT model, max(value_f64) AS top FROM data GROUP BY model ORDER BY model", extremes=True),
        id="c",
        dataset_id="d:c",
    )
    assert [row["top"] for row in (await ask_template(asker.exchange, asker.did, ends, {})).to_pylist()] == [
        max(row["value_f64"] for row in rows if row["model"] == model) for model in ("box", "cover", "plate")
    ]
    sums = await contract(
        template(
            "SELECT shift, round(sum(value_f64) / count(value_f64), 6) AS m FROM data GROUP BY shift ORDER BY shift"
        ),
        id="d",
        dataset_id="d:d",
    )
    assert [row["m"] for row in (await ask_template(asker.exchange, asker.did, sums, {})).to_pylist()] == [
        round(mean([row["value_f64"] for row in rows if row["shift"] == shift]), 6) for shift in (1, 2)
    ]
    ranged = await contract(
        template(
            "SELECT count(DISTINCT serial) AS n FROM data WHERE value_f64 BETWEEN $low AND $high",
            parameters={"low": {"type": "number"}, "high": {"type": "number"}},
        ),
        id="e",
        dataset_id="d:e",
    )
    found = (await ask_template(asker.exchange, asker.did, ranged, {"low": "10", "high": "10.255"})).to_pylist()
    assert found == [{"n": 26}]


ESCAPES = {
    "copy out": "COPY (SELECT * FROM data) TO '/tmp/leak.csv'",
    "attach": "ATTACH '/tmp/other.db' AS other",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "pragma": "PRAGMA database_list",
    "set": "SET enable_external_access = true",
    "two statements": "SELECT count(*) FROM data; SELECT 1",
    "read a file": "SELECT count(*) FROM read_csv('/etc/passwd')",
    "read text": "SELECT max(content) FROM read_text('/etc/passwd')",
    "a file by name": "SELECT count(*) FROM '/etc/passwd'",
    "glob": "SELECT count(*) FROM glob('/*')",
    "another table": "SELECT count(*) FROM readings",
    "the engine's own tables": "SELECT count(*) FROM duckdb_settings()",
    "the schema": "SELECT count(*) FROM information_schema.tables",
    "getenv": "SELECT max(getenv('HOME')) FROM data",
    "a setting": "SELECT count(*) FROM data WHERE current_setting('memory_limit') = 'x'",
    "rows": "SELECT serial, value_f64 FROM data",
    "every column": "SELECT * FROM data",
    "an undeclared column": "SELECT count(*) FROM data WHERE operator = 'Li Lei'",
    "values as a list": "SELECT list(value_f64) FROM data",
    "values as a text": "SELECT string_agg(serial, ',') FROM data",
    "the first value": "SELECT first(value_f64) FROM data",
    "extremes that nobody approved": "SELECT max(value_f64) FROM data",
    "one part within a large group": "SELECT avg(CASE WHEN serial = 'S001' THEN value_f64 END) FROM data",
    "one part by arithmetic": "SELECT sum(value_f64 * (serial = 'S001')) FROM data",
    "one part by a filter": "SELECT avg(value_f64) FILTER (WHERE serial = 'S001') FROM data",
    "a window": "SELECT count(*) OVER (ORDER BY serial) FROM data",
    "a subquery": "SELECT count(*) FROM (SELECT * FROM data WHERE serial = 'S001')",
    "a subquery in a condition": "SELECT count(*) FROM data WHERE value_f64 > (SELECT max(value_f64) FROM data)",
    "a common table": "WITH one AS (SELECT * FROM data) SELECT count(*) FROM one",
    "a recursion": "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "a join with itself": "SELECT count(*) FROM data a, data b, data c",
    "a union": "SELECT count(*) FROM data UNION ALL SELECT 1",
    "groups chosen by what they hold": "SELECT model, count(*) FROM data GROUP BY model HAVING max(value_f64) > 5",
    "sums of sets of groups": "SELECT model, count(*) FROM data GROUP BY ROLLUP (model)",
    "a chosen number of rows": "SELECT model, count(*) FROM data GROUP BY model LIMIT 1",
    "a cast that fails on some values": "SELECT count(*) FROM data WHERE serial::INTEGER > 1",
    "a memory bomb": "SELECT count(*) FROM data WHERE repeat(serial, 1000000000) = 'x'",
    "an endless range": "SELECT count(*) FROM range(100000000000)",
}


ENGINE = frozenset(
    {"copy out", "attach", "install", "load", "pragma", "set", "two statements", "read a file", "read text"}
    | {"a file by name", "glob", "getenv", "a memory bomb", "another table"}
)


async def test_a_statement_that_reaches_further_is_refused_before_it_runs(firms: Any) -> None:
    owner, asker, _ = firms
    passed = []
    for name, statement in ESCAPES.items():
        signed = asker.exchange.queries.sign(asker.did, template(statement))
        try:
            await owner.exchange.queries.approve(owner.did, signed.document())
        except Refused as refusal:
            if refusal.code != "exchange.template-refused":
                passed.append(f"{name}: {refusal.code}")
        else:
            passed.append(name)

    assert passed == []
    assert await owner.exchange.queries.templates(owner.did) == []
    assert len(owner.leaves("exchange.template-refused")) == len(ESCAPES)

    # and where no check stood before it, the engine itself reaches nothing
    reached = []
    for name in sorted(ENGINE):
        try:
            await owner.exchange.queries._engine("sql", {"data": owner.table}, statement=ESCAPES[name], limit=10)
        except (Refused, Skippable):
            continue
        reached.append(name)
    assert reached == []


async def test_a_template_is_its_authors_or_it_is_refused(firms: Any) -> None:
    owner, asker, _ = firms
    signed = asker.exchange.queries.sign(asker.did, MEANS).document()
    changed = copy.deepcopy(signed)
    changed["template"]["min_group"] = 1

    for document in (changed, {**signed, "author": owner.did}, {**signed, "signature": "AAAA"}, {}):
        with pytest.raises(Refused, match="template"):
            await owner.exchange.queries.approve(owner.did, document)


async def test_groups_of_few_units_are_suppressed_and_what_is_new_is_not_singled_out(firms: Any) -> None:
    owner, asker, contract = firms
    few = [{**row, "model": "rare"} for row in owner.table.to_pylist() if row["serial"] in ("S000", "S001")]
    owner.table = pa.concat_tables([owner.table, pa.Table.from_pylist(few, owner.table.schema)])
    agreement = await contract(template("SELECT model, avg(value_f64) AS m FROM data GROUP BY model ORDER BY model"))

    found = await ask_template(asker.exchange, asker.did, agreement, {})

    assert found.column("model").to_pylist() == ["box", "cover", "plate"]
    (job,) = await jobs(owner)
    assert job.facts["suppressed"] == 1

    # where nothing is large enough, the answer has no rows
    owner.table, whole = owner.table.slice(0, 6), owner.table
    few = await contract(template("SELECT count(*) AS n FROM data"), id="few", dataset_id="d:few")
    assert (await ask_template(asker.exchange, asker.did, few, {})).to_pylist() == []
    owner.table = whole

    # a part that came since would be the difference of the two answers
    new = pa.Table.from_pylist([{**owner.table.to_pylist()[0], "serial": "S999"}], owner.table.schema)
    owner.table = pa.concat_tables([owner.table, new])
    with pytest.raises(Refused, match="differencing"):
        await ask_template(asker.exchange, asker.did, agreement, {})
    assert "3 of 4 groups" in job.facts["rules"]["group"]


async def test_shifting_parameters_that_would_single_out_a_few_are_refused_by_what_was_answered(firms: Any) -> None:
    owner, asker, contract = firms
    document = template(
        "SELECT avg(value_f64) AS m, count(*) AS n FROM data WHERE serial <= $to",
        parameters={"to": {"type": "text"}},
    )
    agreement = await contract(document)
    other = await contract(
        template("SELECT sum(value_f64) AS s FROM data WHERE serial < $to", parameters={"to": {"type": "text"}}),
        id="second",
        dataset_id="d:second",
    )

    assert (await ask_template(asker.exchange, asker.did, agreement, {"to": "S029"})).to_pylist()[0]["n"] == 90
    assert (await ask_template(asker.exchange, asker.did, agreement, {"to": "S029"})).num_rows == 1  # the same again
    for contract_id, to in ((agreement, "S030"), (agreement, "S028"), (other, "S032")):
        with pytest.raises(Refused, match="differencing"):
            await ask_template(asker.exchange, asker.did, contract_id, {"to": to})
    assert (await ask_template(asker.exchange, asker.did, agreement, {"to": "S039"})).num_rows == 1

    outcomes = [job.outcome for job in reversed(await jobs(owner))]
    assert outcomes == ["answered", "answered", "refused", "refused", "refused", "answered"]
    assert [leaf["rule"] for leaf in owner.leaves("exchange.query-answered")].count("differencing") == 3
    assert len(owner.leaves("exchange.delivery-refused")) == 3
    assert await owner.exchange.deliveries(owner.did, agreement) == 3  # a refused run uses nothing up


async def test_under_a_contract_on_a_template_no_row_leaves(firms: Any) -> None:
    owner, asker, contract = firms
    agreement = await contract(MEANS)
    floor = {"leftOperand": "https://w3id.org/guantong/ns/aggregationFloor", "operator": "gteq", "rightOperand": "6"}
    above = await contract({**MEANS, "version": "2"}, floor=floor, id="b", dataset_id="d:b")
    met = await contract({**MEANS, "version": "3", "min_group": 6}, floor=floor, id="c", dataset_id="d:c")
    with pytest.raises(Refused, match="at least 6"):
        await ask_template(asker.exchange, asker.did, above, {"model": "box"})
    assert (await ask_template(asker.exchange, asker.did, met, {"model": "box"})).num_rows == 3

    for given in ({}, {"model": "box' OR 1=1 --"}, {"model": "box", "statement": "SELECT 1"}):
        with pytest.raises(Refused, match="parameters"):
            await ask_template(asker.exchange, asker.did, agreement, given)

    (used,) = (one for one in await owner.exchange.queries.templates(owner.did) if one.template.version == "1")
    await owner.exchange.queries.withdraw(owner.did, used.template.digest)
    with pytest.raises(Refused, match="digest"):
        await ask_template(asker.exchange, asker.did, agreement, {"model": "box"})


async def test_an_endless_query_and_one_that_eats_memory_are_ended_and_on_record(
    companies: Callable[..., Any], agreed: Callable[..., Any]
) -> None:
    asker = await companies("localhost:7004")
    serials = np.arange(600_000)
    table = pa.table({"serial": serials, "value_f64": serials / 7})

    async def run(owner: Any, statement: str) -> Any:
        document = template(statement, columns=["serial", "value_f64"], extremes=True)
        approved = await owner.exchange.queries.approve(
            owner.did, asker.exchange.queries.sign(asker.did, document).document()
        )
        name = approved.template.digest
        policy = bound({"permission": [{"action": "use"}]}, QUERY_TERM, name)
        agreement = await agreed(owner, asker, policy=policy, id=name[-8:], dataset_id=f"d:{name[-8:]}")
        try:
            return (await ask_template(asker.exchange, asker.did, agreement, {})).to_pylist()
        except Refused as refusal:
            return refusal.message()

    patient = await companies("localhost:7003", query_memory_bytes=24 * 1024**2)
    patient.table = table
    said = await run(patient, "SELECT serial, median(value_f64) AS m FROM data GROUP BY serial")
    (bomb,) = await jobs(patient)
    assert bomb.outcome == "failed"
    assert bomb.facts["reason"].startswith("keep.query-too-large")
    # the partner hears that it failed, not what the engine said
    assert bomb.id in said
    assert "MiB" not in said + str(patient.leaves("exchange.query-answered"))

    hasty = await companies("localhost:7005", query_seconds=0.3)
    hasty.table = table
    long = "+".join(f"round(value_f64-{at},3)" for at in range(380))
    assert "job record" in await run(hasty, f"SELECT count(*) AS n FROM data WHERE {_balanced(long)} > 0")
    (endless,) = await jobs(hasty)
    assert endless.outcome == "failed"
    assert endless.facts["reason"].startswith("keep.query-too-long")

    # the same process answers the next
    patient.table = table.slice(0, 50)
    assert await run(patient, "SELECT count(*) AS n FROM data") == [{"n": 50}]


def _balanced(text: str) -> str:
    """A long sum as a shallow tree of brackets, so that its depth is not what refuses it."""
    parts = text.split("+")
    while len(parts) > 1:
        parts = [f"({'+'.join(parts[at : at + 2])})" for at in range(0, len(parts), 2)]
    return parts[0]


async def test_a_template_that_keeps_failing_waits_to_be_approved_again(firms: Any) -> None:
    owner, asker, contract = firms
    agreement = await contract(
        template(
            "SELECT count(*) AS n FROM data WHERE shift * 9000000000000000 * $k > 0",
            parameters={"k": {"type": "integer"}},
        )
    )
    for _ in range(3):
        with pytest.raises(Refused, match="job record"):
            await ask_template(asker.exchange, asker.did, agreement, {"k": "9000000000000000"})
    with pytest.raises(Refused, match="approved again"):
        await ask_template(asker.exchange, asker.did, agreement, {"k": "1"})

    (signed,) = await owner.exchange.queries.templates(owner.did)
    await owner.exchange.queries.approve(owner.did, signed.document())
    assert (await ask_template(asker.exchange, asker.did, agreement, {"k": "1"})).to_pylist() == [{"n": 180}]


async def test_a_small_firm_runs_a_platforms_template_at_home_and_each_run_is_metered(
    firms: Any, agreed: Callable[..., Any]
) -> None:
    firm, platform, _ = firms
    signed = platform.exchange.queries.sign(platform.did, MEANS)
    await platform.exchange.queries.approve(platform.did, signed.document())
    count = {"leftOperand": "count", "operator": "lteq", "rightOperand": "2"}
    agreement = await agreed(
        platform,
        firm,
        policy={"permission": [{"action": "use", "constraint": [count]}]},
        dataset_id=TEMPLATE_DATASET + signed.template.digest,
    )

    for model in ("box", "plate"):
        answer = await run_at_home(firm.exchange, firm.did, agreement, "own", {"model": model})
        assert answer.column("n").to_pylist() == [20, 20, 20]
    with pytest.raises(Refused, match="2"):
        await run_at_home(firm.exchange, firm.did, agreement, "own", {"model": "box"})

    receipts = await platform.exchange.wait_receipts(platform.did, agreement, count=2)
    assert [receipt.state for receipt in receipts] == ["acknowledged", "acknowledged"]
    assert [job.facts["rules"]["output"] for job in await jobs(firm)] == ["at home", "at home"]
    assert await jobs(platform) == []  # it knows that there was a run, nothing more
