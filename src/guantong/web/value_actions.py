"""What a person does with what data cost, are worth and warn of. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

from typing import Any

from guantong.base.errors import Skippable
from guantong.web.ask import Ask, decimal, go, text
from guantong.web.rooms import Rooms

__all__ = ["SUPPLY_COLUMNS", "add_rate", "appraise", "read_meters", "state_supply", "survive"]

SUPPLY_COLUMNS = frozenset(
    {
        *("component", "stock", "usage_per_day", "inputs", "partner", "agreement"),
        *("partner_component", "end_product", "capacity_per_day"),
    }
)
"""Columns of a table of stocks; the first three must be there. ``inputs`` are separated by blanks."""


async def appraise(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Appraise a dataset by the cost approach. Never a booking figure."""
    made = await rooms.value.appraise(rooms.participant, text(ask, "dataset", limit=100))
    return go("/value", appraisal=made.appraisal_id)


async def add_rate(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """State what one unit of a meter costs, with the source of that price."""
    from guantong.value.model import Rate

    rate = Rate(
        text(ask, "meter", limit=100),
        decimal(ask, "price"),
        text(ask, "currency", limit=3).upper(),
        text(ask, "source", limit=255),
        voucher=text(ask, "voucher", required=False, limit=255),
        grade="high" if text(ask, "voucher", required=False, limit=255) else "medium",
    )
    kept = [one for one in await rooms.value.rates(rooms.participant) if one.meter != rate.meter]
    await rooms.value.set_rates(rooms.participant, [*kept, rate])
    return go("/value", meter=rate.meter)


async def read_meters(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Add what was used since the last reading to the cost evidence ledger."""
    added = await rooms.value.meter(rooms.participant)
    return go("/value", added=len(added))


async def state_supply(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """State stocks and usage as a table: CSV with a head line, in the columns of ``SUPPLY_COLUMNS``."""
    import csv
    import io

    from guantong.watch.model import Supply

    rows = csv.DictReader(io.StringIO(text(ask, "table", limit=200_000).lstrip("\ufeff")))
    if not {"component", "stock", "usage_per_day"} <= set(rows.fieldnames or ()) <= SUPPLY_COLUMNS:
        raise Skippable("web.field-missing", field="table", reason=f"columns are {', '.join(sorted(SUPPLY_COLUMNS))}")
    supplies = []
    for line, row in enumerate(rows, 2):
        try:
            supplies.append(
                Supply(
                    str(row["component"]).strip(),
                    float(row["stock"]),
                    float(row["usage_per_day"]),
                    tuple((row.get("inputs") or "").split()),
                    (row.get("partner") or "").strip(),
                    (row.get("agreement") or "").strip(),
                    (row.get("partner_component") or "").strip(),
                    (row.get("end_product") or "").strip().lower() in ("1", "yes", "true", "是"),
                    float(row["capacity_per_day"]) if row.get("capacity_per_day") else None,
                    rooms.records.clock.now(),
                )
            )
        except (TypeError, ValueError) as error:
            raise Skippable("web.field-missing", field="table", reason=f"line {line} is not usable") from error
    await rooms.watch.set_supply(rooms.participant, supplies)
    return go("/watch", components=len(supplies))


async def survive(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """For how long each end product lasts when a component stops; partners are asked for one figure each."""
    from guantong.web.loaders.watch import survival_of

    component = text(ask, "component", limit=200)
    found = await rooms.watch.time_to_survive(rooms.participant, component)
    return {"component": component, "survivals": [survival_of(one) for one in found]}
