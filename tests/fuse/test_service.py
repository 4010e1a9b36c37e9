"""The way from the log to clean rows, with real keep and real records: the account, restarts, revisions, findings."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from guantong.base.batch import Batch, measurement_schema, reading_schema
from guantong.base.clock import NS
from guantong.base.errors import Skippable
from guantong.fuse import Fuse, FuseSettings
from guantong.fuse import Mapping as SignalMapping
from guantong.fuse.aimc import signal_reference
from guantong.fuse.model import MapSink, MapSource, Unit
from guantong.fuse.quality import limits_from
from guantong.keep.service import Keep
from guantong.records import METADATA, Records
from guantong.records.tables import EDGES, LEAVES

WHO = "did:web:mill.example"
START = 1_795_500_000 * NS


def batch(
    rows: list[tuple[Any, ...]], source: str = "mill", *, live: bool = False, note: Mapping[str, Any] | None = None
) -> Batch:
    """Readings of (signal, source time ns, value, sequence?, receive time ns?, status?)."""
    columns: dict[str, list[Any]] = {field.name: [] for field in reading_schema()}
    for row in rows:
        signal, time, value, sequence, receive, status = (*row, *(None,) * 6)[:6]
        columns["signal"].append(signal)
        columns["source_time"].append(time)
        columns["server_time"].append(None)
        columns["receive_time"].append(time + 5_000_000 if receive is None else receive)
        kind = {float: "value_f64", int: "value_i64", str: "value_text", bool: "value_bool"}.get(type(value), "")
        for name in ("value_f64", "value_i64", "value_text", "value_bool"):
            columns[name].append(value if name == kind else None)
        columns["status"].append(status or 0)
        columns["sequence"].append(sequence)
    arrays = [
        pa.array(columns[field.name], pa.int64()).cast(field.type)
        if pa.types.is_timestamp(field.type)
        else pa.array(columns[field.name], field.type)
        for field in reading_schema()
    ]
    given_note = dict(note or {})
    if not live:
        given_note.setdefault("file", "day.shdr")
    return Batch(source, "readings", pa.RecordBatch.from_arrays(arrays, schema=reading_schema()), given_note)


class FixedClock:
    """Stands still; the property test can't take a fixture that lasts for one function."""

    def now(self) -> int:
        return START

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        return None


class Shop:
    """Keep and fuse over one folder; can be closed as in a crash and opened again."""

    def __init__(self, folder: Path, clock: Any, fuse_settings: FuseSettings | None = None) -> None:
        self.folder, self.clock, self.settings = folder, clock, fuse_settings

    async def open(self) -> Shop:
        self.records = Records(f"sqlite:///{self.folder}/records.db", self.clock, inline=True)
        self.records.open(METADATA.create_all)
        self.keep = Keep(self.folder / "keep", self.records, self.clock, inline=True)
        self.keep.open()
        self.fuse = Fuse(self.records, self.keep, self.clock, self.settings)
        return self

    async def close(self, *, crash: bool = False) -> None:
        if crash:
            await self.keep.abandon()
        else:
            await self.keep.stop()
        self.records.close()

    async def take(self, *batches: Batch) -> None:
        for one in batches:
            await self.keep.take(WHO, one)
        await self.fuse.drain(WHO)

    async def rows(self) -> pl.DataFrame:
        table = await self.keep.range(WHO, None, None, None, revisions=True, durable=True)
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame.sort("signal_id", "source_time", "source_ns", "sequence", "revision")

    async def sound(self) -> None:
        counts = await self.fuse.counts(WHO, kind="readings")
        assert counts.received == counts.kept + counts.duplicates + counts.quarantined
        assert (await self.rows()).height == counts.kept + counts.corrected


@pytest.fixture
async def shop(tmp_path: Path, clock: Any) -> AsyncIterator[Shop]:
    opened = await Shop(tmp_path, clock).open()
    yield opened
    await opened.close()


def series(
    name: str, rows: int, value: Callable[[int], float], *, start: int = START, step_s: float = 1.0
) -> list[tuple[Any, ...]]:
    return [(name, start + int(index * step_s * NS), value(index)) for index in range(rows)]


def noisy(seed: int, level: float, spread: float) -> Callable[[int], float]:
    dice = random.Random(seed)
    return lambda _: round(level + dice.gauss(0, spread), 6)


async def test_clean_rows_hold_every_digit_of_time_and_value(shop: Shop) -> None:
    at = START + 123_456_789
    await shop.take(
        batch(
            [
                ("f", at, 0.1 + 0.2),
                ("i", at, 2**53 + 1),
                ("t", at, "ACTIVE"),
                ("b", at, True),
                ("bad", at, None, 7, at + NS, 0x80000000),
            ],
            note={
                "units": {"f": "CELSIUS"},
                "names": {"f": {"name": "Spindle", "path": "Axes/C", "type": "TEMPERATURE", "category": "SAMPLE"}},
            },
        )
    )
    rows = await shop.rows()
    signals = {one.native_id: one for one in await shop.fuse.signals(WHO)}

    assert signals["f"].unit == "Cel"
    assert (signals["f"].declared_unit, signals["f"].name, signals["f"].path) == ("CELSIUS", "Spindle", "Axes/C")
    assert {name: one.type for name, one in signals.items()} == {
        "f": "f64",
        "i": "i64",
        "t": "text",
        "b": "bool",
        "bad": "",
    }
    of = {name: rows.filter(pl.col("signal_id") == one.id).row(0, named=True) for name, one in signals.items()}
    assert of["f"]["value_f64"] == 0.1 + 0.2
    assert of["i"]["value_i64"] == 2**53 + 1
    assert of["t"]["value_text"] == "ACTIVE"
    assert of["b"]["value_bool"] is True
    assert (of["bad"]["status"], of["bad"]["sequence"]) == (0x80000000, 7)
    assert all(row["source_ns"] == 789 and row["source_time"].microsecond == 123_456 for row in of.values())
    await shop.sound()


async def test_a_repeated_stretch_is_counted_not_kept_and_found_with_its_interval(shop: Shop) -> None:
    rows = series("a", 200, noisy(1, 5, 1)) + series("b", 200, noisy(2, 9, 1))
    again = [row for row in rows if START + 50 * NS <= row[1] <= START + 80 * NS]
    await shop.take(batch(rows), batch(again))
    counts = await shop.fuse.counts(WHO)
    (found,) = await shop.fuse.findings(WHO)

    assert (counts.received, counts.kept, counts.duplicates) == (462, 400, 62)
    assert (found.kind, found.source, found.signal) == ("duplicate", "mill", "")
    assert (found.start, found.end) == (START + 50 * NS, START + 80 * NS)
    assert found.facts["rows"] == 62
    assert found.facts["signals"] == ["a", "b"]
    await shop.sound()


async def test_another_value_for_the_same_time_is_a_revision_with_a_reason(shop: Shop) -> None:
    await shop.take(
        batch([("a", START, 1.0)]), batch([("a", START, 2.0)]), batch([("a", START, 2.0, None, None, 0x40000000)])
    )
    await shop.take(batch([("a", START, 1.0), ("a", START, 1.0, 5)]))
    rows = (await shop.rows()).filter(pl.col("sequence").is_null())

    assert rows["value_f64"].to_list() == [1.0, 2.0, 2.0]
    assert rows["revision"].to_list() == [0, 1, 2]
    assert rows["reason"].to_list() == [None, "value differs", "status differs"]
    counts = await shop.fuse.counts(WHO)
    assert (counts.kept, counts.duplicates) == (4, 1)  # with a sequence of its own it is another reading
    newest = await shop.keep.range(WHO, None, None, None)
    assert newest.num_rows == 2
    await shop.sound()


async def test_duplicates_older_than_memory_are_recognised_from_the_tables(tmp_path: Path, clock: Any) -> None:
    shop = await Shop(tmp_path, clock, FuseSettings(recent_rows=100, lookup_rows=64)).open()
    rows = series("a", 1000, noisy(1, 5, 1))
    await shop.take(*(batch(rows[at : at + 100]) for at in range(0, 1000, 100)))
    await shop.take(batch(rows[100:400]), batch([(name, time, value + 1) for name, time, value in rows[500:510]]))
    counts = await shop.fuse.counts(WHO)

    assert (counts.kept, counts.duplicates) == (1010, 300)
    assert (await shop.rows())["revision"].sum() == 10
    await shop.sound()
    await shop.close()


@pytest.mark.parametrize("crash", [False, True])
async def test_a_restart_neither_loses_nor_doubles_a_row_or_a_count(tmp_path: Path, clock: Any, crash: bool) -> None:
    rows = series("a", 300, noisy(1, 5, 1)) + series("b", 300, noisy(2, 5, 1))
    shop = await Shop(tmp_path, clock).open()
    await shop.take(batch(rows[:200], note={"quarantined": [{"offset": 0, "reason": "truncated", "text": "x"}]}))
    await shop.keep.flush(WHO)
    await shop.take(batch(rows[150:450], note={"gaps": [_gap(7)]}))
    before = await shop.fuse.counts(WHO)
    await shop.close(crash=crash)
    shop = await Shop(tmp_path, clock).open()
    await shop.fuse.drain(WHO)
    assert await shop.fuse.counts(WHO) == before
    await shop.take(batch(rows[400:]), batch(rows[:10]))
    counts = await shop.fuse.counts(WHO)

    assert (counts.kept, counts.duplicates, counts.quarantined, counts.gaps) == (600, 110, 1, 7)
    assert len(await shop.fuse.gaps(WHO)) == 1
    assert [one.native_id for one in await shop.fuse.signals(WHO)] == ["a", "b"]
    await shop.sound()
    await shop.close()


@pytest.mark.parametrize("dies_before", ["measurements", "record"])
async def test_rows_that_a_cut_commit_left_in_a_table_are_not_duplicates_of_themselves(
    tmp_path: Path, clock: Any, dies_before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await Shop(tmp_path, clock).open()

    class Died(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Died

    await shop.keep.take(WHO, batch(series("a", 50, noisy(1, 5, 1))))
    await shop.keep.take(WHO, measured("one.qif", ["1", "2"]))
    await shop.fuse.drain(WHO)
    with monkeypatch.context() as patch:
        if dies_before == "record":
            patch.setattr(shop.keep, "_record", die)
        else:
            patch.setattr(shop.keep._table(shop.keep._states[WHO], dies_before), "append", die)
        with pytest.raises(Died):
            await shop.keep.flush(WHO)
    await shop.close(crash=True)
    shop = await Shop(tmp_path, clock).open()
    await shop.fuse.drain(WHO)
    counts = await shop.fuse.counts(WHO)

    assert (counts.received, counts.kept, counts.duplicates) == (54, 54, 0)
    assert (await shop.keep.measurements(WHO)).num_rows == 4
    await shop.sound()
    await shop.close()


def _gap(count: int) -> dict[str, Any]:
    return {
        "signal": None, "from": 10, "to": 9 + count, "count": count, "unit": "sequence", "reason": "out-of-range",
        "start": START, "end": START + 3 * NS,
    }  # fmt: skip


ROW = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(0, 4).map(lambda second: START + second * NS),
    st.sampled_from([1.0, 2.0, float("nan"), 3, "x", True, None]),
    st.sampled_from([None, 1]),
)


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ROW, max_size=12), min_size=1, max_size=5), st.integers(0, 3), st.data())
async def test_received_is_kept_and_duplicates_and_quarantined_whatever_comes(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[Any]], bad: int, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shop")
    shop = await Shop(folder, FixedClock()).open()
    for piece in pieces:
        note = {"quarantined": [{"offset": number, "reason": "x", "text": ""} for number in range(bad)]}
        await shop.take(batch(piece, note=note))
        if data.draw(st.booleans()):
            await shop.close(crash=data.draw(st.booleans()))
            shop = await Shop(folder, FixedClock()).open()
    await shop.fuse.drain(WHO)
    counts = await shop.fuse.counts(WHO)

    assert counts.received == sum(map(len, pieces)) + bad * len(pieces)
    assert counts.quarantined == bad * len(pieces)
    # as many rows as there are different (identity, value): said plainly, by another way
    assert counts.kept == len({(s, t, q, type(v), repr(v)) for piece in pieces for s, t, v, q in piece})
    await shop.sound()
    await shop.close()


async def test_a_stretch_in_another_unit_becomes_revisions_under_a_correction(shop: Shop) -> None:
    dice = random.Random(5)
    rows = [("p", START + index * NS, round(6.2 + dice.gauss(0, 0.05), 4)) for index in range(600)]
    mixed = [(n, t, v * 14.503773773 if 300 <= (t - START) // NS < 400 else v) for n, t, v in rows]
    # the stretch goes over three batches, fused one by one
    for at in range(0, 600, 150):
        await shop.take(batch(mixed[at : at + 150], note={"units": {"p": "bar"}}))
    (found,) = await shop.fuse.findings(WHO)
    (fix,) = await shop.fuse.corrections(WHO)
    newest = pl.from_arrow(await shop.keep.range(WHO, None, None, None))
    counts = await shop.fuse.counts(WHO)

    assert (found.kind, found.signal, found.start, found.end) == ("unit", "p", START + 300 * NS, START + 399 * NS)
    assert (found.facts["written"], found.facts["declared"], found.facts["correction"]) == ("[psi]", "bar", fix.id)
    assert (counts.kept, counts.corrected) == (600, 100)
    assert isinstance(newest, pl.DataFrame)
    values = newest.sort("source_time")["value_f64"].to_numpy()
    assert np.allclose(values, [value for _, _, value in rows], rtol=1e-9)
    everything = await shop.rows()
    added = everything.filter(pl.col("revision") == 1)
    assert set(added["reason"]) == {"corrected: [psi] to bar"}
    assert set(added["corrections"]) == {fix.id}
    assert everything.filter(pl.col("revision") == 0)["value_f64"].max() > 80  # what came stays
    edges = {(row["source"], row["target"]) for row in await shop.records.rows(select(EDGES))}
    assert (f"fuse:correction:{fix.id}", "fuse:signal:1") in edges
    kinds = [row["kind"] for row in await shop.records.rows(select(LEAVES.c.kind))]
    assert kinds.count("fuse.correction-made") == kinds.count("fuse.finding-made") == 1
    # the same stretch again, as it came: nothing new
    await shop.take(batch(mixed[280:420], note={"units": {"p": "bar"}}))
    assert (await shop.fuse.counts(WHO)).corrected == 100
    await shop.sound()


def live(shop: Shop, seconds: int, plan: Callable[[int, str], tuple[int, int]]) -> list[Batch]:
    """Live batches, four a second, of two signals; ``plan`` gives (clock offset ns, delay ns) of a tick and signal."""
    sent = []
    dice = random.Random(9)
    for tick in range(seconds * 4):
        at = START + tick * NS // 4
        for name in ("x", "y"):
            offset, delay = plan(tick, name)
            sent.append(
                (at + delay + 8_000_000, (name, at + offset, round(dice.gauss(5, 1), 6), None, at + delay + 8_000_000))
            )
    sent.sort(key=lambda one: one[0])
    return [batch([row for _, row in sent[at : at + 6]], live=True) for at in range(0, len(sent), 6)]


async def test_a_clock_that_is_off_is_corrected_and_source_time_stays(shop: Shop) -> None:
    off = range(40, 80)
    await shop.take(*live(shop, 30, lambda tick, _: (-37 * NS if tick in off else 0, 0)))
    (found,) = await shop.fuse.findings(WHO)
    (fix,) = await shop.fuse.corrections(WHO)
    rows = await shop.rows()

    assert (found.kind, found.signal) == ("clock", "")
    assert found.facts["offset_s"] == pytest.approx(-37, abs=0.05)
    assert abs(found.start - (START + 10 * NS)) < NS
    assert abs(found.end - (START + 20 * NS)) < NS
    moved = rows.filter(pl.col("aligned_time").is_not_null())
    assert set(moved["corrections"]) == {fix.id}
    assert moved.height >= 60
    shift = (moved["aligned_time"] - moved["source_time"]).dt.total_milliseconds()
    assert shift.min() == pytest.approx(37_000, abs=50)
    await shop.sound()


async def test_history_from_a_file_says_nothing_about_clocks(shop: Shop) -> None:
    rows = [("a", START + index * NS, float(index % 7), None, START + 10**6 * NS) for index in range(500)]
    await shop.take(batch(rows))

    assert await shop.fuse.findings(WHO) == []


async def test_late_readings_are_found_and_cuts_are_not_taken_for_them(shop: Shop) -> None:
    await shop.take(*live(shop, 30, lambda tick, name: (0, 7 * NS if name == "x" and 40 <= tick < 50 else 0)))
    (found,) = await shop.fuse.findings(WHO)

    assert (found.kind, found.source, found.signal) == ("late", "mill", "")
    assert found.facts["rows"] == 10
    assert found.facts["signals"] == ["x"]
    assert found.start <= START + 17 * NS <= found.end + NS
    await shop.sound()


async def test_late_readings_that_come_one_by_one_are_judged_together(shop: Shop) -> None:
    """As a running node does it: fused as they come, judged in between."""
    shop.clock.at = START
    for piece in live(shop, 30, lambda tick, name: (0, 7 * NS if name == "x" and 40 <= tick < 50 else 0)):
        await shop.keep.take(WHO, piece)
        shop.clock.at = max(shop.clock.at, *piece.rows["receive_time"].cast(pa.int64()).to_pylist())
        while await shop.fuse._advance(WHO):
            pass
        await (await shop.fuse._stream(WHO)).settle(final=False)
    (found,) = await shop.fuse.findings(WHO)

    assert (found.kind, found.facts["rows"]) == ("late", 10)


async def test_a_cut_is_found_from_what_the_connection_says(shop: Shop) -> None:
    pieces = live(shop, 10, lambda tick, name: (0, 0))
    lost = {"connection": {"event": "lost", "at": START + 4 * NS, "reason": "connect.closed"}}
    back = {
        "connection": {"event": "back", "at": START + 9 * NS, "reason": ""},
        "gaps": [_gap(12) | {"start": START + 4 * NS, "end": START + 9 * NS}],
    }
    await shop.take(*pieces[:6], batch([], live=True, note=lost), batch([], live=True, note=back), *pieces[6:])
    (found,) = await shop.fuse.findings(WHO)

    assert (found.kind, found.signal, found.start, found.end) == ("cut", "", START + 4 * NS, START + 9 * NS)
    assert (await shop.fuse.counts(WHO)).gaps == 12


async def test_quiet_live_data_gives_no_finding(shop: Shop) -> None:
    await shop.take(*live(shop, 60, lambda tick, name: (0, (tick * 37 % 11) * 20_000_000)))

    assert await shop.fuse.findings(WHO) == []
    await shop.sound()


async def test_a_frozen_value_is_found_and_a_machine_that_stands_is_not(shop: Shop) -> None:
    frozen = range(400, 600)
    rows: list[tuple[Any, ...]] = []
    for number, name in enumerate("abcd"):
        value = noisy(number, 10.0 * (number + 1), 1.0)
        for index in range(1500):
            now = value(index)
            if name == "b" and index in frozen:
                now = 20.25
            if 900 <= index < 1100:
                now = float(number + 3)  # all stand: the machine is idle
            rows.append((name, START + index * NS, now))
    await shop.take(batch(sorted(rows, key=lambda row: row[1])))
    found = await shop.fuse.findings(WHO)

    assert [(one.kind, one.signal) for one in found] == [("frozen", "b")]
    assert (found[0].start, found[0].end) == (START + 400 * NS, START + 599 * NS)


async def test_a_mapping_converts_what_comes_after_it(shop: Shop) -> None:
    await shop.take(batch([("p", START, 6.0)], note={"units": {"p": "bar"}}))
    mapping = SignalMapping(
        "pressure",
        (MapSource("p", signal_reference("mill", "p")),),
        (MapSink("p", (("Submodel", "urn:x"), ("Property", "Pressure"))),),
        (Unit("bar", "kPa"),),
    )
    await shop.fuse.set_mapping(WHO, mapping)
    await shop.take(batch([("p", START + NS, 6.0), ("q", START, 1)]))
    rows = await shop.rows()
    (fix,) = await shop.fuse.corrections(WHO)

    assert rows["value_f64"].to_list()[:2] == [6.0, 600.0]
    assert rows["corrections"].to_list() == [None, fix.id, None]
    assert await shop.fuse.mappings(WHO) == [mapping]
    assert (await shop.fuse.signals(WHO))[0].unit == "kPa"


def measured(report: str, serials: list[str | None], *, bump: float = 0.0) -> Batch:
    rows = [
        {
            "report": report, "result": str(number), "model": "housing-7", "serial": serial, "source_uri": None,
            "characteristic": f"c{item}", "feature": None, "name": f"Diameter {item}", "kind": "diameter",
            "value_f64": 10.0 + number / 100 + bump, "unit": "mm", "nominal": 10.0, "lower": 9.0, "upper": 11.0,
            "limit_form": "absolute", "receive_time": START + 100 * NS,
        }
        for number, serial in enumerate(serials)
        for item in (1, 2)
    ]  # fmt: skip
    schema = measurement_schema()
    columns = [
        pa.array([row.get(field.name) for row in rows], pa.int64()).cast(field.type)
        if pa.types.is_timestamp(field.type)
        else pa.array([row.get(field.name) for row in rows], field.type)
        for field in schema
    ]
    return Batch("gauge", "measurements", pa.RecordBatch.from_arrays(columns, schema=schema), {"file": report})


async def test_measurements_get_their_part_and_a_serial_written_two_ways_is_found(shop: Shop) -> None:
    plain = [f"{number:02d}" for number in range(1, 9)]
    other = [*plain[:4], "05of8", *plain[5:]]
    await shop.take(
        measured("in-process", other), measured("final", plain, bump=0.001), measured("final", plain, bump=0.001)
    )
    counts = await shop.fuse.counts(WHO, kind="measurements")
    parts = await shop.fuse.parts(WHO)
    (found,) = await shop.fuse.findings(WHO)
    rows = pl.from_arrow(await shop.keep.measurements(WHO, durable=True))

    assert (counts.received, counts.kept, counts.duplicates) == (48, 32, 16)
    assert [part.id for part in parts] == [f"housing-7/{number}" for number in range(1, 9)]
    assert (found.kind, found.source, found.signal) == ("serial", "gauge", "05")
    assert found.facts["written"] == ["05", "05of8"]
    assert isinstance(rows, pl.DataFrame)
    assert rows.filter(pl.col("part") == "housing-7/5").height == 4


async def test_a_report_that_comes_again_after_a_restart_is_all_duplicates(tmp_path: Path, clock: Any) -> None:
    shop = await Shop(tmp_path, clock).open()
    await shop.take(measured("final", ["1", "2", "3"]))
    await shop.close()
    shop = await Shop(tmp_path, clock).open()
    await shop.take(measured("final", ["1", "2", "3"]), measured("other", ["1", "2", "3"]))
    counts = await shop.fuse.counts(WHO)

    assert (counts.received, counts.kept, counts.duplicates) == (18, 12, 6)
    await shop.close()


async def test_a_corrected_report_is_a_revision(shop: Shop) -> None:
    await shop.take(measured("final", ["1", "2"]))
    await shop.take(measured("final", ["1", "2"], bump=0.5))
    rows = pl.from_arrow(await shop.keep.measurements(WHO, revisions=True, durable=True))

    assert isinstance(rows, pl.DataFrame)
    assert sorted(rows["revision"].to_list()) == [0, 0, 0, 0, 1, 1, 1, 1]


async def test_tables_pass_through_and_are_counted(shop: Shop) -> None:
    table = pa.RecordBatch.from_pydict({"order": ["A", "B"], "hours": [1.5, 2.0]})
    await shop.take(Batch("erp", "table", table, {"table": "orders", "file": "orders.csv"}))
    counts = await shop.fuse.counts(WHO, kind="table")

    assert (counts.received, counts.kept) == (2, 2)
    assert (await shop.keep.table(WHO, "orders", durable=True)).num_rows == 2


async def test_lineage_leads_from_batch_to_signal(shop: Shop) -> None:
    await shop.take(batch(series("a", 10, noisy(1, 5, 1))))
    edges = {(row["source"], row["target"]) for row in await shop.records.rows(select(EDGES))}

    assert any(source.startswith("keep:batch:mill/") and target == "fuse:signal:1" for source, target in edges)


async def test_fusion_follows_the_log_and_stops_when_told(tmp_path: Path) -> None:
    import asyncio

    from guantong.base.clock import SystemClock

    clock = SystemClock()
    records = Records(f"sqlite:///{tmp_path}/r.db", clock)
    records.open(METADATA.create_all)
    async with Keep(tmp_path / "keep", records, clock) as keep:
        fuse = Fuse(records, keep, clock)
        await fuse.start([WHO])
        await keep.take(WHO, batch(series("a", 50, noisy(1, 5, 1))))
        for _ in range(200):
            if (await fuse.counts(WHO)).kept == 50:
                break
            await asyncio.sleep(0.02)
        await fuse.stop()
        assert (await fuse.counts(WHO)).kept == 50
    records.close()


@pytest.mark.parametrize(
    "folder, findings",
    [("FAIR", []), ("QIF-IncomingInspection", [("tolerance", "DIAMETER7"), ("zone", "PERPENDICULARITY1")])],
)
async def test_real_inspection_reports_give_no_false_alarm_and_two_true_ones(
    shop: Shop, data_dir: Path, folder: str, findings: list[tuple[str, str]]
) -> None:
    from guantong.connect.qif import read_qif

    for path in sorted((data_dir / "nist_smstestbed" / "tdp_mtc" / folder).iterdir()):
        if path.suffix.lower() == ".qif":
            report = read_qif(path.read_bytes(), name=path.name, receive=START, limit=2**30)
            await shop.take(Batch("gauge", "measurements", report.rows, {"file": path.name, "report": report.facts}))
    counts = await shop.fuse.counts(WHO, kind="measurements")

    assert counts.received == counts.kept > 0
    assert len(await shop.fuse.parts(WHO)) == 39
    assert [(one.kind, one.signal) for one in await shop.fuse.findings(WHO)] == findings


async def test_a_signal_is_judged_by_the_limits_stated_for_it_and_the_statement_is_on_record(shop):
    dice = np.random.default_rng(7)
    values = [float(value) for value in 20 + dice.normal(0, 1, 300)]
    values[100] = 99.0
    await shop.take(batch([("t", START + index * NS, value) for index, value in enumerate(values)]))
    signal = (await shop.fuse.signals(WHO))[0].id
    before = await shop.fuse.quality(WHO, signal)
    version = await shop.fuse.set_limits(WHO, signal, {"fail_span": [0, 50], "suspect_span": [10, 30]})
    after = await shop.fuse.quality(WHO, signal)
    window = await shop.fuse.quality(WHO, signal, START, START + 50 * NS)
    judged = {one.check: one for one in after.checks}["gross_range"]
    leaves = await shop.records.rows(select(LEAVES.c.kind))

    assert {one.check: one.evaluated for one in before.checks}["gross_range"] == 0
    assert (judged.passed, judged.evaluated, judged.flags[4]) == (299, 300, 1)
    assert [row["time"] for row in after.worst] == [START + 100 * NS]
    assert (window.rows, version, await shop.fuse.limits(WHO, signal)) == (
        50,
        1,
        (limits_from({"fail_span": [0, 50], "suspect_span": [10, 30]}), 1),
    )
    assert "fuse.limits-set" in {row["kind"] for row in leaves}
    with pytest.raises(Skippable) as caught:
        await shop.fuse.quality(WHO, signal + 1)

    assert caught.value.code == "fuse.no-such-signal"


async def test_readings_are_read_as_they_were_known_by_position_and_by_time_of_arrival(shop):
    first = [("t", START + index * NS, float(index), index, START + (index + 1) * NS) for index in range(5)]
    await shop.take(batch(first))
    await shop.take(batch([("t", START + 2 * NS, 99.0, 2, START + 60 * NS)]))  # a correction by the source
    signal = (await shop.fuse.signals(WHO))[0].id

    async def known(**when: int) -> list[float]:
        return (await shop.fuse.as_of(WHO, [signal], **when))["value_f64"].to_pylist()

    assert await known() == [0, 1, 99, 3, 4]
    assert await known(position=1) == [0, 1, 2, 3, 4]
    assert await known(received=START + 30 * NS) == [0, 1, 2, 3, 4]
    assert await known(received=START + 3 * NS) == [0, 1, 2]


async def test_a_source_has_a_watermark_with_the_lateness_allowed_to_it(tmp_path, clock):
    shop = await Shop(tmp_path, clock, FuseSettings(late_sources=("slow=60",))).open()
    rows = [("t", START + index * NS, float(index), index, START + index * NS + 5_000_000) for index in range(10)]
    await shop.take(batch(rows, live=True), batch(rows, "slow", live=True))
    marks = {one.source: one for one in await shop.fuse.watermarks(WHO)}
    await shop.close()

    assert marks["mill"].watermark == START + 9 * NS - 3 * NS
    assert marks["slow"].watermark == START + 9 * NS - 60 * NS
    assert marks["slow"].newest == marks["mill"].newest == START + 9 * NS


async def test_aggregates_lag_and_clock_are_worked_out_on_what_keep_holds(shop):
    dice = np.random.default_rng(9)
    walk = np.cumsum(dice.normal(0, 1, 600))
    rows = [("a", START + index * NS, float(value)) for index, value in enumerate(walk)]
    rows += [("b", START + (index + 4) * NS, float(value)) for index, value in enumerate(walk)]
    await shop.take(batch(rows))
    one, other = (signal.id for signal in await shop.fuse.signals(WHO))
    made = await shop.fuse.aggregate(WHO, one, START, START + 600 * NS, 60, ["Average", "Count"])
    late = await shop.fuse.lag(WHO, one, other, START, START + 700 * NS, every_s=1.0, max_lag_s=30)
    offset, pieces = await shop.fuse.clock_of(WHO, "mill")

    assert made["Count"].to_list() == [60.0] * 10
    assert made["Average"].to_list() == pytest.approx(walk.reshape(10, 60).mean(axis=1).tolist())
    assert abs(late.lag_s - 4) <= late.uncertainty_s
    assert offset.offset_s == pytest.approx(0.005)
    assert [abs(piece.ppm) < 1 for piece in pieces] == [True]


async def test_a_suggestion_is_confirmed_as_a_mapping_and_a_rejected_one_is_not_made_again(shop):
    rows = [
        ("Spindle_Speed", START, 1200.0),
        ("coolant_temp", START, 68.0),
        ("Feed_Pressure", START, 3.0),
        ("note", START, "x"),
    ]
    units = {"Spindle_Speed": "rpm", "coolant_temp": "°F", "Feed_Pressure": "mm"}
    await shop.take(batch(rows, note={"units": units}))
    names = {one.id: one.native_id for one in await shop.fuse.signals(WHO)}
    made = {names[one.signal]: one for one in await shop.fuse.suggestions(WHO)}
    await shop.fuse.decide(WHO, made["coolant_temp"].id, confirm=True)
    await shop.fuse.decide(WHO, made["Spindle_Speed"].id, confirm=False)
    await shop.take(batch([("coolant_temp", START + NS, 212.0)]))
    (mapping,) = await shop.fuse.mappings(WHO)

    assert {name: (one.target, one.confidence) for name, one in made.items()} == {
        "Spindle_Speed": ("ROTARY_VELOCITY", 1.0),
        "coolant_temp": ("TEMPERATURE", 1.0),
    }  # a pressure in millimetres is none
    assert made["coolant_temp"].reasons == ("name: temp", "unit: [degF]", "range")
    assert mapping.transformations == (Unit("[degF]", "Cel"),)
    assert (await shop.rows()).filter(pl.col("source_time") > pl.col("source_time").min())[
        "value_f64"
    ].to_list() == pytest.approx([100.0])
    assert await shop.fuse.suggestions(WHO) == []
    with pytest.raises(Skippable) as caught:
        await shop.fuse.decide(WHO, made["Spindle_Speed"].id, confirm=True)
    assert caught.value.code == "fuse.no-such-suggestion"


async def test_the_bound_of_a_signal_is_never_below_its_rows_and_is_not_written_with_each_chunk(shop):
    """After a restart whatever is not above the bound is looked up: one below the truth would let a repeat pass for news."""
    from guantong.fuse.tables import SIGNALS

    bounds: list[int] = []
    for second in range(40):
        await shop.take(batch([("Xpos", START + second * NS, float(second), second)], live=True))
        await shop.fuse.drain(WHO)
        row = await shop.records.row(select(SIGNALS.c.newest))
        bounds.append(row["newest"])

        assert bounds[-1] >= START + second * NS

    assert len(set(bounds)) <= 5
