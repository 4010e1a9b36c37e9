"""What the page of value shows: cost evidence and appraisal, two sheets that never mix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from guantong.web.ask import Ask, cut, time_of
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    from guantong.value.model import Appraisal, CostEntry, Range

__all__ = ["appraisal_of", "overview"]


def _range(one: Range) -> dict[str, str]:
    return {"low": str(one.low), "likely": str(one.likely), "high": str(one.high)}


def appraisal_of(one: Appraisal) -> dict[str, Any]:
    """An appraisal with every factor."""
    return {
        "id": one.appraisal_id,
        "subject": one.subject,
        "method": one.method,
        "currency": one.currency,
        "value": _range(one.value),
        "factors": [
            {
                "name": item.name,
                "symbol": item.symbol,
                "value": _range(item.value),
                "unit": item.unit,
                "source": item.source,
            }
            for item in one.factors
        ],
        "sensitivity": [
            {"factor": item.factor, "at_low": str(item.at_low), "at_high": str(item.at_high), "swing": str(item.swing)}
            for item in one.sensitivity
        ],
        "coverage": str(one.coverage),
        "start": time_of(one.start),
        "end": time_of(one.end),
        "at": time_of(one.at),
        "cost_digest": one.cost_digest,
        "stamp": {"en": one.stamp[0], "zh": one.stamp[1]},
    }


def _cost(one: CostEntry) -> dict[str, Any]:
    return {
        "id": one.entry_id,
        "subject": one.subject,
        "item": one.item,
        "quantity": str(one.quantity),
        "unit": one.unit,
        "start": time_of(one.start),
        "end": time_of(one.end),
        "source": one.source,
        "currency": one.currency,
        "rate": None if one.rate is None else str(one.rate),
        "rate_source": one.rate_source,
        "amount": None if one.amount is None else str(one.amount),
        "voucher": one.voucher,
        "grade": one.grade,
        "corrects": one.corrects,
    }


async def overview(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Both sheets."""
    me = rooms.participant
    sheet = await rooms.value.costs(me)
    return {
        "costs": {
            "entries": cut([_cost(one) for one in reversed(sheet.entries)], ask, 25),
            "totals": {currency: str(amount) for currency, amount in sheet.totals.items()},
            "by_item": [
                {"currency": currency, "item": item, "amount": str(amount)}
                for (currency, item), amount in sheet.by_item.items()
            ],
            "by_grade": [
                {"currency": currency, "grade": grade, "amount": str(amount)}
                for (currency, grade), amount in sheet.by_grade.items()
            ],
            "unpriced": [_cost(one) for one in sheet.unpriced][:50],
        },
        "rates": [
            {
                "meter": one.meter,
                "price": str(one.price),
                "per": str(one.per),
                "currency": one.currency,
                "source": one.source,
                "voucher": one.voucher,
                "grade": one.grade,
            }
            for one in await rooms.value.rates(me)
        ],
        "appraisals": [appraisal_of(one) for one in await rooms.value.appraisals(me)][:20],
        "datasets": [
            {"id": one.id, "title": {"en": one.title_en, "zh": one.title_zh}}
            for one in await rooms.describe.datasets(me)
        ],
    }
