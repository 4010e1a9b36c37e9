"""Valuation's shell: keeps the cost evidence ledger and, apart from it, the appraisals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Any

import orjson
from sqlalchemy import delete, select

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import Clock, iso
from guantong.base.entry import Entry
from guantong.base.errors import ConfigProblem, Refused
from guantong.base.ids import NewId, new_uuid
from guantong.records import Edge, Records, Step
from guantong.records.service import Row
from guantong.value import rules
from guantong.value.model import (
    APPRAISED,
    COST_RECORDED,
    STAMP_EN,
    STAMP_ZH,
    Appraisal,
    CostEntry,
    CostSheet,
    Factor,
    Meter,
    Meters,
    QualityFact,
    Range,
    Rate,
    Sensitivity,
    ValueSettings,
)
from guantong.value.tables import APPRAISALS, COSTS, METERS, RATES

__all__ = ["ReadMeters", "ReadQuality", "Value", "appraisal_document", "costs_document"]

ReadMeters = Callable[[str], Awaitable[Meters]]
"""Meters of a participant as they stand now; node makes it from keep's statistics and connect's scorecards."""

ReadQuality = Callable[[str, str], Awaitable[QualityFact | None]]
"""Quality of a participant's dataset; node makes it from govern's score. None where nothing was scored."""


class Value:
    """Cost evidence and appraisals of the participants of this node."""

    def __init__(
        self,
        records: Records,
        meters: ReadMeters,
        quality: ReadQuality,
        clock: Clock,
        settings: ValueSettings | None = None,
        *,
        new_id: NewId = new_uuid,
    ) -> None:
        self.records = records
        self.clock = clock
        self.settings = settings or ValueSettings()
        self._meters = meters
        self._quality = quality
        self._new_id = new_id

    async def set_rates(self, participant: str, rates: Sequence[Rate]) -> None:
        """Replace the configured rates; lines already in the ledger keep theirs. Raises ConfigProblem ``value.rate-invalid``."""
        for meter, reason in rules.check_rates(rates):
            raise ConfigProblem("value.rate-invalid", meter=meter, reason=reason)
        async with self.records.step(participant) as step:
            step.apply(
                lambda connection: _none(connection.execute(delete(RATES).where(RATES.c.participant == participant)))
            )
            for rate in rates:
                step.insert(
                    RATES,
                    meter=rate.meter,
                    price=format(rate.price, "f"),
                    per=format(rate.per, "f"),
                    currency=rate.currency,
                    source=rate.source,
                    voucher=rate.voucher,
                    grade=rate.grade,
                )

    async def rates(self, participant: str) -> list[Rate]:
        """The configured rates, by meter."""
        rows = await self.records.rows(select(RATES).where(RATES.c.participant == participant).order_by(RATES.c.meter))
        return [
            Rate(
                row["meter"],
                Decimal(row["price"]),
                row["currency"],
                row["source"],
                Decimal(row["per"]),
                row["voucher"],
                row["grade"],
            )
            for row in rows
        ]

    async def meter(self, participant: str, subject: str = "") -> list[CostEntry]:
        """Read the meters and add what was used since their last reading to the ledger; nothing used, nothing added.

        subject: dataset id that the use is for, empty for the participant's data as a whole.
        """
        now = await self._meters(participant)
        rows = await self.records.rows(select(METERS).where(METERS.c.participant == participant))
        before = {
            row["name"]: (
                int(row["at"]),
                Meter(row["name"], Decimal(row["value"]), row["unit"], "", bool(row["cumulative"])),
            )
            for row in rows
        }
        rates = {rate.meter: rate for rate in await self.rates(participant)}
        entries = [
            rules.price(
                self._new_id(),
                subject,
                meter,
                quantity,
                unit,
                since,
                now.at,
                rates.get(meter.name) or rates.get(meter.name.partition("/")[0]),
                self.settings.decimals,
            )
            for meter, quantity, unit, since in rules.used(before, now)
        ]
        async with self.records.step(participant) as step:
            for meter in now.meters:
                if meter.name in before:
                    # two readings at once must not count the same use twice
                    step.update(
                        METERS,
                        {"name": meter.name},
                        {
                            "value": format(meter.value, "f"),
                            "unit": meter.unit,
                            "cumulative": meter.cumulative,
                            "at": now.at,
                        },
                        expect={"at": before[meter.name][0]},
                    )
                else:
                    step.insert(
                        METERS,
                        name=meter.name,
                        value=format(meter.value, "f"),
                        unit=meter.unit,
                        cumulative=meter.cumulative,
                        at=now.at,
                    )
            if entries:
                _add(step, entries)
        return entries

    async def purchase(
        self,
        participant: str,
        item: str,
        amount: Decimal,
        currency: str,
        *,
        voucher: str,
        start: int,
        end: int,
        source: str,
        subject: str = "",
        corrects: str = "",
    ) -> CostEntry:
        """Add a cost by voucher (rights attestation, quality assessment, licences, labour), or correct an earlier line by a new one.

        Without a voucher the line is an estimate of low evidence. Raises ConfigProblem ``value.cost-invalid`` and, where the corrected
        line does not exist, Refused ``value.cost-unknown``.
        """
        if not isinstance(amount, Decimal) or not amount.is_finite() or len(currency) != 3 or not item or end < start:
            raise ConfigProblem("value.cost-invalid", item=item or "–")
        if corrects and not any(entry.entry_id == corrects for entry in await self._entries(participant, None)):
            raise Refused("value.cost-unknown", entry=corrects)
        entry = CostEntry(
            entry_id=self._new_id(),
            subject=subject,
            item=item,
            quantity=Decimal(1),
            unit="1",
            start=start,
            end=end,
            source=source,
            currency=currency,
            rate=amount,
            rate_source=f"voucher {voucher}" if voucher else "estimate",
            amount=amount,
            voucher=voucher,
            grade="high" if voucher else "low",
            corrects=corrects,
        )
        async with self.records.step(participant) as step:
            _add(step, [entry])
        return entry

    async def costs(self, participant: str, subject: str | None = None) -> CostSheet:
        """The ledger, summed; of one dataset, or of everything."""
        return rules.sheet(await self._entries(participant, subject))

    async def appraise(
        self, participant: str, dataset_id: str, *, delta: tuple[str, str, str] | None = None, delta_source: str = ""
    ) -> Appraisal:
        """Appraise a dataset by the cost approach and record that it was done. The ledger is read, never written.

        Costs: those of the dataset and those of the participant's data as a whole. delta: low, likely, high, with where they come from;
        the settings' value where absent.
        """
        entries = [entry for entry in await self._entries(participant, None) if entry.subject in ("", dataset_id)]
        default = f"setting value.delta ({'none declared' if set(self.settings.delta) == {'1'} else 'declared'})"
        found = rules.appraise(
            rules.sheet(entries),
            await self._quality(participant, dataset_id),
            appraisal_id=self._new_id(),
            subject=dataset_id,
            delta=delta or self.settings.delta,
            delta_source=delta_source or ("declared with the appraisal" if delta else default),
            spread=self.settings.cost_spread,
            decimals=self.settings.decimals,
            at=self.clock.now(),
        )
        document = appraisal_document(found)
        async with self.records.step(participant) as step:
            step.insert(
                APPRAISALS,
                appraisal_id=found.appraisal_id,
                subject=dataset_id,
                document=canonical_bytes(document),
                at=found.at,
            )
            step.record(
                Entry(
                    APPRAISED,
                    {
                        "appraisal": found.appraisal_id,
                        "subject": dataset_id,
                        "currency": found.currency,
                        "low": document["value"]["low"],
                        "likely": document["value"]["likely"],
                        "high": document["value"]["high"],
                        "coverage": document["coverage"],
                        "digest": digest(document),
                        "stamp": f"{STAMP_EN} / {STAMP_ZH}",
                    },
                )
            )
            step.link(Edge(f"describe:dataset:{dataset_id}", f"value:appraisal:{found.appraisal_id}", "appraised"))
        return found

    async def appraisals(self, participant: str, dataset_id: str | None = None) -> list[Appraisal]:
        """Appraisals, newest first."""
        statement = select(APPRAISALS).where(APPRAISALS.c.participant == participant)
        if dataset_id is not None:
            statement = statement.where(APPRAISALS.c.subject == dataset_id)
        rows = await self.records.rows(statement.order_by(APPRAISALS.c.at.desc(), APPRAISALS.c.appraisal_id))
        return [_appraisal(orjson.loads(row["document"])) for row in rows]

    async def _entries(self, participant: str, subject: str | None) -> list[CostEntry]:
        statement = select(COSTS).where(COSTS.c.participant == participant)
        if subject is not None:
            statement = statement.where(COSTS.c.subject == subject)
        return [_entry(row) for row in await self.records.rows(statement.order_by(COSTS.c.end, COSTS.c.entry_id))]


def appraisal_document(appraisal: Appraisal) -> dict[str, Any]:
    """JSON of an appraisal: amounts as text, instants as RFC 3339, the stamp in both languages."""
    document: dict[str, Any] = _plain(asdict(appraisal))
    return {**document, **{name: iso(document[name]) for name in ("start", "end", "at")}}


def costs_document(sheet: CostSheet) -> dict[str, Any]:
    """JSON of the cost ledger: amounts as text, instants as RFC 3339, sums by currency, item and grade."""

    def line(entry: CostEntry) -> dict[str, Any]:
        return {**_plain(asdict(entry)), "start": iso(entry.start), "end": iso(entry.end)}

    return {
        "entries": [line(entry) for entry in sheet.entries],
        "totals": _plain(sheet.totals),
        "by_item": [
            {"currency": currency, "item": item, "amount": format(amount, "f")}
            for (currency, item), amount in sorted(sheet.by_item.items())
        ],
        "by_grade": [
            {"currency": currency, "grade": grade, "amount": format(amount, "f")}
            for (currency, grade), amount in sorted(sheet.by_grade.items())
        ],
        "unpriced": [entry.entry_id for entry in sheet.unpriced],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _appraisal(document: Mapping[str, Any]) -> Appraisal:
    from guantong.base.clock import parse_iso

    def span(value: Mapping[str, str]) -> Range:
        return Range(Decimal(value["low"]), Decimal(value["likely"]), Decimal(value["high"]))

    return Appraisal(
        appraisal_id=document["appraisal_id"],
        subject=document["subject"],
        method=document["method"],
        currency=document["currency"],
        value=span(document["value"]),
        factors=tuple(
            Factor(item["name"], item["symbol"], span(item["value"]), item["unit"], item["source"])
            for item in document["factors"]
        ),
        sensitivity=tuple(
            Sensitivity(item["factor"], Decimal(item["at_low"]), Decimal(item["at_high"]), Decimal(item["swing"]))
            for item in document["sensitivity"]
        ),
        coverage=Decimal(document["coverage"]),
        start=parse_iso(document["start"]),
        end=parse_iso(document["end"]),
        at=parse_iso(document["at"]),
        cost_digest=document["cost_digest"],
        stamp=(document["stamp"][0], document["stamp"][1]),
    )


def _add(step: Step, entries: Sequence[CostEntry]) -> None:
    for entry in entries:
        if type(entry) is not CostEntry:
            raise TypeError(f"{type(entry).__name__} is no line of the cost ledger")
        step.insert(
            COSTS,
            entry_id=entry.entry_id,
            subject=entry.subject,
            item=entry.item,
            quantity=format(entry.quantity, "f"),
            unit=entry.unit,
            start=entry.start,
            end=entry.end,
            source=entry.source,
            currency=entry.currency,
            rate=None if entry.rate is None else format(entry.rate, "f"),
            rate_source=entry.rate_source,
            amount=None if entry.amount is None else format(entry.amount, "f"),
            voucher=entry.voucher,
            grade=entry.grade,
            corrects=entry.corrects,
            recorded_at=step.at,
        )
    step.record(
        Entry(
            COST_RECORDED,
            {
                "entries": len(entries),
                "digest": rules.costs_digest(entries),
                "from": iso(min(entry.start for entry in entries)),
                "to": iso(max(entry.end for entry in entries)),
            },
        )
    )


def _entry(row: Row) -> CostEntry:
    return CostEntry(
        entry_id=row["entry_id"],
        subject=row["subject"],
        item=row["item"],
        quantity=Decimal(row["quantity"]),
        unit=row["unit"],
        start=row["start"],
        end=row["end"],
        source=row["source"],
        currency=row["currency"],
        rate=None if row["rate"] is None else Decimal(row["rate"]),
        rate_source=row["rate_source"],
        amount=None if row["amount"] is None else Decimal(row["amount"]),
        voucher=row["voucher"],
        grade=row["grade"],
        corrects=row["corrects"],
    )


def _none(_: object) -> None:
    return None
