"""The watch's shell: reads keep and fuse, applies the rules, records warnings and the scalars traded with partners."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import delete, select

from guantong.base.canonical import canonical_bytes
from guantong.base.clock import NS, Clock, iso
from guantong.base.entry import Entry
from guantong.base.errors import ConfigProblem, Refused, Skippable
from guantong.base.finding import Finding
from guantong.base.ids import NewId, new_uuid
from guantong.records import Records
from guantong.watch import machine, survival
from guantong.watch.model import (
    ANSWERED,
    ASKED,
    DAYS_OF_SUPPLY,
    WARNED,
    Availability,
    Carbon,
    Chart,
    EnergyFactor,
    Figure,
    Supply,
    Survival,
    WatchSettings,
)
from guantong.watch.tables import SCALARS, SUPPLIES, WARNINGS

if TYPE_CHECKING:
    from guantong.exchange.model import Answer, Question
    from guantong.fuse.model import Signal
    from guantong.fuse.service import Fuse
    from guantong.keep.service import Keep

__all__ = ["Ask", "Watch"]

Ask = Callable[[str, str, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""``ask(participant, agreement_id, kind, body)`` puts a question to the agreement's partner and gives the answer's body: exchange's."""

_EXCLUDE = ("frozen", "unit")
_LOOK_BACK_NS = 86_400 * NS
_QUESTIONS_MAX = 1000


async def _nobody(participant: str, agreement_id: str, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    raise Refused("watch.partner-silent", agreement=agreement_id, reason="no exchange is wired")


class Watch:
    """Figures, warnings and survival times of the participants of this node."""

    def __init__(
        self,
        records: Records,
        keep: Keep,
        fuse: Fuse,
        clock: Clock,
        settings: WatchSettings | None = None,
        *,
        ask: Ask | None = None,
        new_id: NewId = new_uuid,
    ) -> None:
        self.records = records
        self.keep = keep
        self.fuse = fuse
        self.clock = clock
        self.settings = settings or WatchSettings()
        self._ask = ask or _nobody
        self._new_id = new_id

    # machines

    async def availability(
        self,
        participant: str,
        *,
        start: int | None = None,
        end: int | None = None,
        planned: Sequence[tuple[int, int]] = (),
    ) -> list[Availability]:
        """State intervals and availability of each machine that has an execution signal.

        planned: planned busy time from the order calendar (half-open intervals, ns); without it the observed time stands for it.
        """
        start, end = await self._window(participant, start, end, self.settings.window_s)
        signals = await self.fuse.signals(participant)
        executions = [signal for signal in signals if _is_execution(signal)]
        if not executions or end <= start:
            return []
        gaps = await self.fuse.gaps(participant)
        result = []
        for execution in executions:
            name = _machine(execution)
            conditions = [
                signal
                for signal in signals
                if signal.source == execution.source
                and _machine(signal) == name
                and signal.category.lower() in ("condition", "")
                and signal.type in ("text", "")
            ]
            wanted = [execution.id, *(signal.id for signal in conditions if signal.id != execution.id)]
            found = await self._texts(participant, wanted, None, end)
            stated = {
                signal.native_id: found[signal.id]
                for signal in conditions
                if signal.id != execution.id and signal.id in found and _are_levels(found[signal.id])
            }
            missing = [
                (gap.start, gap.end)
                for gap in gaps
                if gap.source == execution.source and gap.signal in ("", execution.native_id) and gap.end > gap.start
            ]
            observed = found.get(execution.id, [])
            states = machine.intervals(observed, stated, start=start, end=end, gaps=missing)
            source = f"{execution.source}: {execution.native_id}" + (f" and {len(stated)} conditions" if stated else "")
            figure, seconds = machine.availability(states, source=source, start=start, end=end, planned=planned)
            result.append(
                Availability(
                    name or execution.source,
                    tuple(states),
                    figure,
                    seconds,
                    machine.faults_in(stated, start=start, end=end),
                )
            )
        return result

    # quality

    async def spc(
        self, participant: str, *, model: str | None = None, characteristic: str | None = None
    ) -> list[Chart]:
        """Charts of individuals and moving range of inspection results, one for each characteristic of a part design, in part order.

        Characteristics with fewer than two values have no chart.
        """
        from guantong.watch import inspection

        table = await self.keep.measurements(participant, model=model)
        return await asyncio.to_thread(inspection.charts, table, characteristic)

    # early warning

    async def warnings(self, participant: str, *, start: int | None = None, end: int | None = None) -> list[Finding]:
        """Look for drift in each source with enough history; new warnings are recorded. Returns what was found in this window.

        The first part of the window is taken as normal (``training_share``); stretches that fuse found frozen or in a wrong unit are
        kept out, channel by channel.
        """
        start, end = await self._window(participant, start, end, self.settings.history_s)
        signals = await self.fuse.signals(participant)
        doubtful = await self.fuse.findings(participant, kinds=_EXCLUDE)
        found: list[Finding] = []
        for source in sorted({signal.source for signal in signals}):
            channels = [signal for signal in signals if signal.source == source and _is_channel(signal)]
            if len(channels) < self.settings.min_channels or (end - start) / NS < self.settings.min_history_s:
                continue
            exclude = {
                signal.id: [
                    (item.start, item.end)
                    for item in doubtful
                    if item.source == source and item.signal in ("", signal.native_id)
                ]
                for signal in channels
            }
            found += await self._drift(participant, source, channels, exclude, start, end)
        known = {row["id"]: row for row in await self._warning_rows(participant)}
        result = []
        fresh = []
        for item in found:
            same = next(
                (
                    row
                    for row in known.values()
                    if row["source"] == item.source
                    and row["signal"] == item.signal
                    and row["start"] <= item.end
                    and item.start <= row["end"]
                ),
                None,
            )
            identity = same["id"] if same else self._new_id()
            item = Finding(item.kind, item.source, item.signal, item.start, item.end, item.facts, identity)
            result.append(item)
            if same is None or (same["start"], same["end"]) != (item.start, item.end):
                fresh.append((item, same is None))
        if fresh:
            async with self.records.step(participant) as step:
                for item, is_new in fresh:
                    step.upsert(
                        WARNINGS,
                        id=item.id,
                        source=item.source,
                        signal=item.signal,
                        start=item.start,
                        end=item.end,
                        facts=canonical_bytes(dict(item.facts)),
                        found_at=step.at,
                    )
                    if is_new:
                        step.record(
                            Entry(
                                WARNED,
                                {
                                    "id": item.id,
                                    "source": item.source,
                                    "signal": item.signal,
                                    "from": iso(item.start),
                                    "to": iso(item.end),
                                    "statistic": str(item.facts["statistic"]),
                                    "ratio": str(item.facts["ratio"]),
                                },
                            )
                        )
        return result

    async def recorded_warnings(self, participant: str) -> list[Finding]:
        """Warnings on record, newest first, without computing anything."""
        return [
            Finding(
                "drift", row["source"], row["signal"], row["start"], row["end"], orjson.loads(row["facts"]), row["id"]
            )
            for row in await self._warning_rows(participant)
        ]

    async def _drift(
        self,
        participant: str,
        source: str,
        signals: Sequence[Signal],
        exclude: Mapping[int, Sequence[tuple[int, int]]],
        start: int,
        end: int,
    ) -> list[Finding]:
        from guantong.watch import drifting, series

        ids = [signal.id for signal in signals]
        try:
            table = await self.keep.range(participant, ids, start, end)
            by_signal = await asyncio.to_thread(series.numbers, table)
        except Refused as error:
            if error.code != "keep.query-too-large":
                raise
            # more readings than one answer holds: as many buckets as the grid would have rows anyway, or as the answer has room for
            room = int(0.9 * self.keep.settings.query_rows_max) // len(ids)
            every_s = max(1e-3, (end - start) / NS / max(1, min(self.settings.grid_points, room)))
            table = await self.keep.downsample(participant, ids, start, end, every_s, how=("last",))
            by_signal = series.buckets(table, every_s)
        return await asyncio.to_thread(drifting.findings, source, signals, by_signal, exclude, self.settings)

    # energy

    async def energy(
        self,
        participant: str,
        *,
        start: int | None = None,
        end: int | None = None,
        factor: str | EnergyFactor | None = None,
    ) -> list[Carbon]:
        """Energy and emissions of each signal whose unit is one of energy (a counter) or active power.

        factor: an id of :data:`guantong.watch.carbon.FACTORS` or a factor of the participant's own.
        """
        import numpy as np

        from guantong.watch import carbon, series

        chosen = factor if isinstance(factor, EnergyFactor) else carbon.named(factor or self.settings.factor)
        start, end = await self._window(participant, start, end, self.settings.window_s)
        result = []
        for signal in await self.fuse.signals(participant):
            kind = carbon.kwh_per(signal.unit or signal.declared_unit)
            if kind is None or end <= start:
                continue
            table = await self.keep.range(participant, [signal.id], start - _LOOK_BACK_NS, end)
            found = series.numbers(table).get(signal.id)
            if found is None:
                continue
            readings = [
                (int(at), None if np.isnan(value) else float(value))
                for at, value in zip(*found, strict=True)
                if at < end
            ]
            source = f"{signal.source}: {signal.native_id}"
            resets = 0
            if kind[0] == "counter":
                figure, resets = carbon.from_counter(readings, start=start, end=end, source=source, scale=kind[1])
            else:
                hold = int(self.settings.stale_after_s * NS)
                figure = carbon.from_power(readings, start=start, end=end, source=source, hold_ns=hold, scale=kind[1])
            result.append(carbon.carbon(signal.name or signal.native_id, figure, chosen, resets))
        return result

    # survival

    async def set_supply(self, participant: str, supplies: Sequence[Supply]) -> None:
        """Replace the input table of stocks and usage rates. Raises ConfigProblem ``watch.supply-invalid``."""
        for component, reason in survival.check_supplies(supplies):
            raise ConfigProblem("watch.supply-invalid", component=component, reason=reason)
        async with self.records.step(participant) as step:
            step.apply(
                lambda connection: _none(
                    connection.execute(delete(SUPPLIES).where(SUPPLIES.c.participant == participant))
                )
            )
            for supply in supplies:
                step.insert(SUPPLIES, component=supply.component, document=orjson.dumps(asdict(supply)))

    async def supply(self, participant: str) -> list[Supply]:
        """The input table, by component."""
        rows = await self.records.rows(
            select(SUPPLIES).where(SUPPLIES.c.participant == participant).order_by(SUPPLIES.c.component)
        )
        loaded = [orjson.loads(row["document"]) for row in rows]
        return [Supply(**{**item, "inputs": tuple(item["inputs"])}) for item in loaded]

    async def time_to_survive(self, participant: str, disrupted: str) -> list[Survival]:
        """For each affected end product (or, where none is marked, each affected component that feeds no other): at least how many
        days it lasts when ``disrupted`` stops. Partners are asked for one scalar each, under their agreements.

        disrupted: a component of our own table (a bought one stops at its maker), or a name that only partners know.
        Raises Skippable ``watch.component-unknown``.
        """
        supplies = await self.supply(participant)
        own = {supply.component: supply for supply in supplies}
        stopped: dict[str, float | None] = {}
        asked: list[Mapping[str, Any]] = []
        if disrupted in own and not own[disrupted].partner:
            stopped[disrupted] = None
        bought = [own[disrupted]] if disrupted in own else supplies
        for supply in bought:
            if not supply.partner:
                continue
            name = supply.partner_component or supply.component
            answer = await self.ask_days(
                participant, supply, disrupted=name if supply.component == disrupted else disrupted
            )
            asked.append(answer)
            if answer["days"] is not None:
                stopped[supply.component] = float(answer["days"])
        if disrupted not in own and not asked:
            raise Skippable("watch.component-unknown", component=disrupted)
        days = survival.survive(supplies, stopped)
        feeding = {name for supply in supplies for name in supply.inputs}
        ends = [supply for supply in supplies if supply.end_product] or [
            supply for supply in supplies if supply.component not in feeding
        ]
        now = self.clock.now()
        exact = survival.is_tree(supplies) and not asked
        result = []
        for supply in ends:
            if supply.component not in days:
                continue
            sources = ["stocks and usage rates of the supply table"]
            sources += [f"days of supply of {item['component']} told by {item['partner']}" for item in asked]
            figure = Figure(
                name="time to survive",
                value=days[supply.component],
                unit="d",
                source="; ".join(sources),
                start=min([item.as_of for item in supplies if item.as_of] or [now]),
                end=now,
                coverage=1.0,
                definition="T_x = stock / usage; T_j = min over affected inputs T_i + stock_j / usage_j; at least T days",
                facts={"answers": len(asked)},
            )
            affected = dict(sorted(days.items()))
            result.append(Survival(supply.component, disrupted, figure, affected, tuple(asked), not exact))
        return result

    async def ask_days(self, participant: str, supply: Supply, *, disrupted: str) -> dict[str, Any]:
        """Ask the partner that supplies a component for how many days it can, and record the scalar that came back."""
        component = supply.partner_component or supply.component
        body = await self._ask(
            participant, supply.agreement_id, DAYS_OF_SUPPLY, {"component": component, "disrupted": disrupted}
        )
        days = body.get("days")
        if body.get("component") != component or not (days is None or _is_days(days)):
            raise Refused(
                "watch.partner-silent", agreement=supply.agreement_id, reason="its answer is not a number of days"
            )
        async with self.records.step(participant) as step:
            self._note(step, "heard", supply.partner, supply.agreement_id, component, disrupted, days)
            step.record(
                Entry(
                    ASKED,
                    {
                        "agreementId": supply.agreement_id,
                        "partner": supply.partner,
                        "component": component,
                        "days": days or "",
                    },
                )
            )
        return {
            "partner": supply.partner,
            "agreementId": supply.agreement_id,
            "component": component,
            "days": days,
            "asOf": body.get("asOf"),
            "at": iso(step.at),
        }

    async def answer(self, participant: str, question: Question) -> Answer:
        """Answer a partner's days-of-supply question with one scalar, recorded before it leaves: exchange's ``Answerer``.

        Body: ``component`` (ours) and ``disrupted`` (ours or of our own suppliers; the component itself where absent). Answer:
        ``component``, ``days`` (text with three decimals, cut; null where it is not affected), ``unit`` d, ``lowerBound``, ``asOf``.
        Nothing else of the table leaves. A partner gets at most ``questions_per_day`` answers a day under one agreement, since every
        further scenario tells more about the chain.
        """
        from guantong.exchange.model import Answer

        component = question.body.get("component")
        disrupted = question.body.get("disrupted", component)
        if not (isinstance(component, str) and isinstance(disrupted, str) and len(disrupted) <= 200):
            raise Skippable("watch.question-unusable")
        supplies = await self.supply(participant)
        own = {supply.component: supply for supply in supplies}
        if component not in own:
            raise Skippable("watch.component-unknown", component=component[:200])
        if disrupted in own and not own[disrupted].partner:
            days = survival.survive(supplies, {disrupted: None}).get(component)
        else:
            days = await self._days_through(participant, supplies, component, disrupted)
        text = None if days is None else survival.days_text(days)
        now = self.clock.now()
        async with self.records.step(participant) as step:
            day = now // _LOOK_BACK_NS
            step.count(f"watch.told/{question.agreement.id[-150:]}/{day}", limit=self.settings.questions_per_day)
            self._note(step, "told", question.partner, question.agreement.id, component, disrupted, text)
            step.record(
                Entry(
                    ANSWERED,
                    {
                        "agreementId": question.agreement.id,
                        "partner": question.partner,
                        "component": component,
                        "days": text or "",
                    },
                )
            )
        return Answer(
            {
                "component": component,
                "days": text,
                "unit": "d",
                "lowerBound": True,
                "asOf": iso(own[component].as_of or now),
            }
        )

    async def _days_through(
        self, participant: str, supplies: Sequence[Supply], component: str, disrupted: str
    ) -> float | None:
        # what we buy ourselves is asked for one tier further up, again one scalar for each
        stopped: dict[str, float | None] = {}
        for supply in supplies:
            if supply.partner and (
                supply.component == disrupted or disrupted not in {item.component for item in supplies}
            ):
                name = supply.partner_component or supply.component
                heard = await self.ask_days(
                    participant, supply, disrupted=name if supply.component == disrupted else disrupted
                )
                if heard["days"] is not None:
                    stopped[supply.component] = float(heard["days"])
        return survival.survive(supplies, stopped).get(component) if stopped else None

    async def scalars(self, participant: str) -> list[Mapping[str, Any]]:
        """Every scalar told to or heard from partners, newest first: the transcript of what crossed the border."""
        return await self.records.rows(
            select(SCALARS)
            .where(SCALARS.c.participant == participant)
            .order_by(SCALARS.c.at.desc(), SCALARS.c.id)
            .limit(_QUESTIONS_MAX)
        )

    # reading

    def _note(
        self,
        step: Any,
        direction: str,
        partner: str,
        agreement_id: str,
        component: str,
        disrupted: str,
        days: str | None,
    ) -> None:
        step.insert(
            SCALARS,
            id=self._new_id(),
            direction=direction,
            partner=partner,
            agreement_id=agreement_id,
            component=component,
            disrupted=disrupted,
            days=days or "",
            at=step.at,
        )

    async def _window(self, participant: str, start: int | None, end: int | None, length_s: float) -> tuple[int, int]:
        """The window asked for; its open ends are those of the data, reaching back no further than ``length_s``."""
        if start is not None and end is not None:
            return start, end
        stats = await self.keep.stats(participant)
        last = end if end is not None else (stats.last_time or 0) + 1
        return start if start is not None else max(stats.first_time or 0, last - int(length_s * NS)), last

    async def _texts(
        self, participant: str, signal_ids: Iterable[int], start: int | None, end: int
    ) -> dict[int, list[tuple[int, str | None]]]:
        from guantong.watch import series

        return series.texts(await self.keep.range(participant, list(signal_ids), start, end))

    async def _warning_rows(self, participant: str) -> list[Mapping[str, Any]]:
        return await self.records.rows(
            select(WARNINGS).where(WARNINGS.c.participant == participant).order_by(WARNINGS.c.start.desc())
        )


def _is_execution(signal: Signal) -> bool:
    last = re.split(r"[/.:;]", signal.name or signal.native_id)[-1]
    return last.lower() in ("execution", "exec") and signal.type in ("text", "", "mixed")


def _is_channel(signal: Signal) -> bool:
    return signal.type in ("f64", "i64", "mixed") and signal.category.lower() not in ("event", "condition")


def _machine(signal: Signal) -> str:
    """The device that a signal belongs to: the first step of its path, empty where the source states none."""
    return signal.path.strip("/").split("/")[0]


def _are_levels(observations: Sequence[tuple[int, str | None]]) -> bool:
    found = {machine.level(value) for _, value in observations}
    return found <= {"NORMAL", "WARNING", "FAULT", "UNAVAILABLE"} and found != {"UNAVAILABLE"}


def _is_days(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\d{1,9}(\.\d{1,3})?", value) is not None


def _none(_: object) -> None:
    return None
