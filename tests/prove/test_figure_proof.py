"""Figures with proof, without a node: functions, traces, draws, openings, and who is caught."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.canonical import sha256
from guantong.base.chunks import ChunkTree, chunk_salt
from guantong.base.clock import NS
from guantong.keep.model import clean_schema
from guantong.prove import figure_proof
from guantong.prove.figure import NOT_SHOWN
from guantong.prove.figure_chunks import READINGS_A_CHUNK, cut, texts_of
from guantong.prove.figure_functions import FUNCTIONS, Window, Wrong, function_hash, run_example
from guantong.prove.figure_proof import Chunk, Unit, check_opening, draws, figure_document, openings, trace
from guantong.watch import control_chart, machine

SECRET = sha256(b"secret")


def measured(parts: int, seed: int = 1) -> list[bytes]:
    noise = random.Random(seed)
    return [
        orjson.dumps(
            {
                "v": 1, "table": "measurements", "stream": "s", "at": at, "of": parts,
                "row": {
                    "report": "r", "result": "1", "part": f"A{at}", "name": "D", "value": round(10 + noise.gauss(0, 0.01), 4),
                    "unit": "mm", "lower": 9.9, "upper": 10.1, "form": "absolute", "time": None, "revision": 0,
                },
            }
        )
        for at in range(parts)
    ]  # fmt: skip


def units_of(tree: ChunkTree, texts: list[bytes], role: str = "value", stream: str = "s") -> list[Unit]:
    return [
        Unit(role, stream, (Chunk(0, at, chunk_salt(SECRET, at), text, lambda at=at: tree.path(at)),))
        for at, text in enumerate(texts)
    ]


DEFINITION = {
    "v": 1, "type": "figure-definition", "id": "cpk", "function": "cpk@1", "title": {"en": "", "zh": ""}, "openings": 300,
    "inputs": [{"role": "value", "table": "measurements", "streams": ["s"]}],
    "parameters": {"lower": "9.9", "upper": "10.1", "unit": "mm"},
}  # fmt: skip


def figure_of(made: figure_proof.Trace, tree: ChunkTree, definition: dict[str, Any] = DEFINITION) -> dict[str, Any]:
    return figure_document(
        seller="did:web:seller.example", definition=definition, window=Window(0, 1), made=made, openings=300, made_at=0,
        commits=[{"entry": 0, "table": "measurements", "chunks": len(tree.leaves), "root": "sha256:" + tree.root.hex()}],
        nonce_hash="", agreement_id="", buyer="",
    )  # fmt: skip


def caught(figure: dict[str, Any], made: figure_proof.Trace, units: list[Unit], seed: bytes, count: int) -> bool:
    """Whether a challenge of so many draws finds something wrong; positions are opened one by one, as they are drawn."""
    for number in draws(seed, count, made.weights[-1]):
        (opening,) = openings_of(made, units, number)
        try:
            check_opening(figure, opening)
        except Wrong:
            return True
    return False


def openings_of(made: figure_proof.Trace, units: list[Unit], number: int) -> list[dict[str, Any]]:
    return openings(made, units, [number])


class Seller:
    """A seller with committed chunks, who may alter some of them before the figure is made; openings are made once each."""

    def __init__(self, texts: list[bytes], altered: dict[int, bytes], tree: ChunkTree) -> None:
        self.units = units_of(tree, [altered.get(at, text) for at, text in enumerate(texts)])
        self.made = trace(FUNCTIONS["cpk@1"], DEFINITION["parameters"], Window(0, 1), self.units, SECRET)
        self.figure = figure_of(self.made, tree)
        hashes = [figure_proof.leaf_hash(leaf) for leaf in self.made.leaves]
        self.node = figure_proof.nodes_of(hashes)
        self.verdicts: dict[int, bool] = {}

    def is_wrong(self, position: int) -> bool:
        found = self.verdicts.get(position)
        if found is None:
            shown = [figure_proof._shown(self.made, self.node, at) for at in (position - 1, position)]
            chunk = self.units[position - 1].chunks[0]
            opened = {
                "text": chunk.text.decode(),
                "salt": figure_proof.b64(chunk.salt),
                "path": [figure_proof.b64(item) for item in chunk.path()],
            }
            try:
                check_opening(self.figure, {"before": shown[0], "after": shown[1], "chunks": [opened]})
                found = False
            except Wrong:
                found = True
            self.verdicts[position] = found
        return found

    def is_caught(self, seed: bytes, count: int) -> bool:
        weights = self.made.weights
        return any(self.is_wrong(figure_proof._position(weights, number)) for number in draws(seed, count, weights[-1]))


CHUNKS, SHARE, DRAWS, RUNS, SELLERS = 150, 0.02, 300, 1_000, 40


def better(text: bytes) -> bytes:
    """A value moved to the nominal: the figure looks better."""
    chunk = orjson.loads(text)
    chunk["row"]["value"] = 10.0
    return orjson.dumps(chunk)


def test_who_alters_two_per_cent_after_the_commitment_is_caught_in_990_of_1000_runs_and_the_honest_never() -> None:
    texts = measured(CHUNKS)
    tree = ChunkTree.of(SECRET, texts)
    honest = Seller(texts, {}, tree)
    sellers = []
    for number in range(SELLERS):
        chosen = random.Random(number).sample(range(CHUNKS), round(CHUNKS * SHARE))
        sellers.append(Seller(texts, {at: better(texts[at]) for at in chosen}, tree))
    found = wronged = 0
    for run in range(RUNS):
        seed = sha256(b"seed %d" % run)
        found += sellers[run % SELLERS].is_caught(seed, DRAWS)
        wronged += honest.is_caught(seed, DRAWS)

    assert found >= 0.99 * RUNS, f"{found} of {RUNS}"
    assert wronged == 0


def test_who_alters_before_the_commitment_is_not_caught_and_the_text_says_so() -> None:
    texts = [better(text) if at % 50 == 0 else text for at, text in enumerate(measured(CHUNKS))]
    tree = ChunkTree.of(SECRET, texts)
    seller = Seller(texts, {}, tree)

    assert not any(seller.is_caught(sha256(b"%d" % run), DRAWS) for run in range(50))
    assert any("before the commitment is not caught" in en for en, _ in NOT_SHOWN)
    assert any("承诺写入之前改动数据" in zh for _, zh in NOT_SHOWN)


def test_a_step_that_does_not_follow_from_its_chunk_is_wrong_where_it_is_drawn() -> None:
    """The chunks are true, the arithmetic is not: one state is replaced, and all that follow are built on it."""
    texts = measured(20)
    tree = ChunkTree.of(SECRET, texts)
    units = units_of(tree, texts)
    lying = FUNCTIONS["cpk@1"]

    def step(*given: Any) -> Any:
        state, weight = lying.step(*given)
        return ({**state, "sum": "100.5"}, weight) if state["n"] == 10 else (state, weight)

    import dataclasses

    made = trace(dataclasses.replace(lying, step=step), DEFINITION["parameters"], Window(0, 1), units, SECRET)
    figure = figure_of(made, tree)
    wrong = []
    for position in range(1, 21):
        (opening,) = openings(made, units, [made.weights[position] - 1])
        try:
            check_opening(figure, opening)
        except Wrong as error:
            wrong.append((position, str(error)))

    assert wrong == [(10, "position 10: the step does not follow from its chunks")]


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_function_gives_what_the_test_that_travels_with_it_says(name: str) -> None:
    function = FUNCTIONS[name]

    assert run_example(function) == function.example[3]
    assert function_hash(function).startswith("sha256:")
    assert function.definition
    assert any("\u4e00" <= letter <= "\u9fff" for letter in function.zh)


def fold(name: str, steps: list[tuple[str, str, list[Any]]], parameters: dict[str, Any], window: Window) -> Any:
    function = FUNCTIONS[name]
    state = function.begin(parameters, window)
    for role, stream, rows in steps:
        state, _ = function.step(state, role, stream, rows, parameters, window)
    return function.finish(state, parameters, window)


numbers = st.decimals(min_value=-1000, max_value=1000, places=4, allow_nan=False)
limits = st.one_of(st.none(), numbers)


@given(st.lists(numbers, max_size=30), limits, limits)
@settings(max_examples=150, deadline=None)
def test_cpk_is_the_watchs_cpk(values: list[Decimal], lower: Decimal | None, upper: Decimal | None) -> None:
    parameters = {"lower": None if lower is None else str(lower), "upper": None if upper is None else str(upper)}
    rows = [
        {"part": str(at), "value": value, "lower": lower, "upper": upper, "time": None, "revision": 0}
        for at, value in enumerate(values)
    ]
    ours = fold("cpk@1", [("value", "s", [row]) for row in rows], parameters, Window(0, 1))
    theirs = control_chart.capability(
        [float(value) for value in values],
        None if lower is None else float(lower),
        None if upper is None else float(upper),
        unit="mm", source="", start=0, end=1,
    )[1]  # fmt: skip

    assert (ours.value is None) == (theirs.value is None)
    if ours.value is None:
        assert ours.reason == theirs.reason
    else:
        assert float(ours.value) == pytest.approx(theirs.value, rel=1e-6, abs=1e-6)


instants = st.integers(min_value=-50, max_value=150)
executions = st.sampled_from(["ACTIVE", "READY", "STOPPED", None])
levels = st.sampled_from(["FAULT|1||x", "NORMAL", "WARNING", None])


@given(
    st.lists(st.tuples(instants, executions), min_size=1, max_size=20, unique_by=lambda one: one[0]),
    st.lists(st.tuples(instants, levels), max_size=10, unique_by=lambda one: one[0]),
    st.integers(1, 5),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_availability_is_the_watchs_availability_however_the_readings_are_cut(
    execution: list[tuple[int, str | None]], condition: list[tuple[int, str | None]], size: int, planned: bool
) -> None:
    window = Window(0, 100 * NS)
    execution, condition = sorted(execution, key=lambda one: one[0]), sorted(condition, key=lambda one: one[0])
    plan, gaps = [(10, 70)] if planned else [], [(30, 40)]

    def text(seconds: int) -> str:
        return figure_proof.iso(seconds * NS)

    parameters: dict[str, Any] = {"gaps": [[text(low), text(high)] for low, high in gaps]}
    if planned:
        parameters["planned"] = [[text(low), text(high)] for low, high in plan]

    def pieces(role: str, stream: str, pairs: list[tuple[int, str | None]]) -> list[tuple[str, str, list[Any]]]:
        rows = [[at * NS, None, 0, 0, value] for at, value in pairs]
        return [(role, stream, rows[low : low + size]) for low in range(0, len(rows), size)]

    ours = fold(
        "availability@1",
        pieces("condition", "signal/2", condition) + pieces("execution", "signal/1", execution),
        parameters,
        window,
    )
    states = machine.intervals(
        [(at * NS, value) for at, value in execution],
        {"c": [(at * NS, value) for at, value in condition]} if condition else {},
        start=window.start, end=window.end, gaps=[(low * NS, high * NS) for low, high in gaps],
    )  # fmt: skip
    theirs, _ = machine.availability(
        states, source="", start=window.start, end=window.end, planned=[(low * NS, high * NS) for low, high in plan]
    )

    assert (ours.value is None) == (theirs.value is None)
    if theirs.value is not None:
        assert float(ours.value) == pytest.approx(theirs.value, abs=1e-6)
    assert float(ours.coverage) == pytest.approx(theirs.coverage, abs=1e-6)


def test_energy_per_part_is_the_watchs_energy_and_larger_increases_are_drawn_more_often() -> None:
    from guantong.watch.carbon import from_counter

    noise = random.Random(3)
    counts = list(itertools.accumulate((Decimal(noise.randint(1, 900)) / 100 for _ in range(300)), initial=Decimal(5)))
    counts[150:] = [value - counts[150] + 1 for value in counts[150:]]  # a reset
    energy = [[at * NS, None, 0, 0, value] for at, value in enumerate(counts, -10)]
    parts = [[at * NS, None, 0, 0, at // 10] for at in range(0, 290, 10)]
    window = Window(0, 290 * NS)
    ours = fold(
        "energy-per-part@1",
        [
            ("parts", "signal/1", parts),
            *(("energy", "signal/2", energy[at : at + 7]) for at in range(0, len(energy), 7)),
        ],
        {},
        window,
    )
    theirs, resets = from_counter(
        [(row[0], float(row[4])) for row in energy], start=window.start, end=window.end, source=""
    )
    made = [1, 2, 102, 103]

    assert float(ours.value) == pytest.approx(theirs.value / 28, abs=1e-5)
    assert (resets, ours.facts["resets"]) == (1, "1")
    assert [figure_proof._position([0, *made], at) for at in (0, 1, 2, 50, 101, 102)] == [1, 2, 3, 3, 3, 4]


def readings(rows: int, signals: int = 2) -> pa.Table:
    noise = random.Random(4)
    columns: dict[str, list[Any]] = {name: [] for name in clean_schema().names}
    for at in range(rows):
        kind = at % 4
        row = dict.fromkeys(columns) | {
            "signal_id": at % signals, "source_time": at * 1000, "source_ns": at % 1000, "receive_time": at, "status": 0,
            "revision": 0, "log_position": 1 + at // 10, "day": 0, "sequence": at if kind == 1 else None,
            "value_f64": noise.random() if kind == 0 or signals == 1 else None, "value_i64": at if kind == 1 and signals > 1 else None,
            "value_text": "ACTIVE" if kind == 2 and signals > 1 else None, "value_bool": True if kind == 3 and signals > 1 else None,
        }  # fmt: skip
        for name, value in row.items():
            columns[name].append(value)
    return pa.table(columns, schema=clean_schema())


@pytest.mark.parametrize("signals", [1, 2, 3])
def test_rows_are_cut_the_same_whatever_order_they_come_in(signals: int) -> None:
    table = readings(1_500, signals)
    order = list(range(table.num_rows))
    random.Random(5).shuffle(order)
    stretches, texts = cut("readings", table)
    again = cut("readings", table.take(order))

    assert (stretches, texts) == again
    assert sum(len(orjson.loads(text)["time"]) for text in texts) == 1_500
    assert all(len(orjson.loads(text)["time"]) <= READINGS_A_CHUNK for text in texts)
    for one in stretches:
        alone = table.filter(pa.compute.field("signal_id") == int(one.stream.removeprefix("signal/")))
        (found,) = texts_of("readings", alone)
        assert found[3] == texts[one.start : one.start + one.count]


def flipped(data: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    copy = orjson.loads(orjson.dumps(data))
    at = copy
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = change(at[path[-1]])
    return copy


@pytest.mark.parametrize(
    ("path", "change", "reason"),
    [
        (("chunks", 0, "text"), lambda text: text.replace("A4", "A5"), "not the one that was taken in"),
        (("chunks", 0, "salt"), lambda salt: figure_proof.b64(bytes(16)), "not the one that was taken in"),
        (("chunks", 0, "path"), lambda path: path[:-1], "not what was committed"),
        (("after", "path"), lambda path: path[::-1], "not under the figure's root"),
        (("before", "leaf"), lambda leaf: leaf.replace('"n":4', '"n":3'), "not under the figure's root"),
        (("chunks",), lambda chunks: [], "not every chunk"),
    ],
)
def test_an_opening_with_anything_changed_is_refused_with_its_reason(path: Any, change: Any, reason: str) -> None:
    texts = measured(9)
    tree = ChunkTree.of(SECRET, texts)
    units = units_of(tree, texts)
    made = trace(FUNCTIONS["cpk@1"], DEFINITION["parameters"], Window(0, 1), units, SECRET)
    figure = figure_of(made, tree)
    (opening,) = openings(made, units, [4])

    assert check_opening(figure, opening) == (5, 4, 5)
    with pytest.raises(Wrong, match=reason):
        check_opening(figure, flipped(opening, path, change))


def test_an_opening_shows_the_drawn_chunk_and_no_other_text() -> None:
    texts = measured(64)
    tree = ChunkTree.of(SECRET, texts)
    made = trace(FUNCTIONS["cpk@1"], DEFINITION["parameters"], Window(0, 1), units_of(tree, texts), SECRET)
    shown = orjson.dumps(openings(made, units_of(tree, texts), [7]))

    assert b'\\"part\\":\\"A7\\"' in shown
    assert not any(b'\\"part\\":\\"A%d\\"' % at in shown for at in range(64) if at != 7)


def test_three_over_n_bounds_the_share_of_wrong_chunks() -> None:
    assert [round(figure_proof.bound(n), 4) for n in (1, 100, 300, 1000)] == [0.95, 0.0295, 0.0099, 0.003]


def test_a_part_counted_twice_or_left_in_another_place_is_wrong() -> None:
    texts = measured(6)
    tree = ChunkTree.of(SECRET, texts)
    units = units_of(tree, texts)
    for order in ([0, 1, 1], [0, 2, 1]):
        with pytest.raises(Wrong, match="out of order"):
            trace(FUNCTIONS["cpk@1"], DEFINITION["parameters"], Window(0, 1), [units[at] for at in order], SECRET)
