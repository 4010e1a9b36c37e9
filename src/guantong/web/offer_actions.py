"""What a person does with offers, query templates and found copies. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson

from guantong.base.errors import Skippable
from guantong.exchange.borrowing import ask_template, run_at_home
from guantong.exchange.deliveries import FINGERPRINT_TERM, QUERY_TERM, bound
from guantong.exchange.fingerprint import read_marking
from guantong.exchange.model import Product
from guantong.web.ask import Ask, go, text, texts
from guantong.web.rooms import Rooms

__all__ = [
    "approve_template",
    "ask_query",
    "document_of",
    "offer_product",
    "product_of",
    "run_template",
    "sign_template",
    "trace_copy",
    "withdraw_template",
]

ROWS_SHOWN = 1000


def document_of(ask: Ask, name: str) -> dict[str, Any]:
    """A JSON object of the request, empty where it is not given."""
    given: Any = ask.query.get(name) or "{}"
    try:
        found = orjson.loads(given) if isinstance(given, str) else given
    except orjson.JSONDecodeError as error:
        raise Skippable("web.field-missing", field=name, reason="not JSON") from error
    if not isinstance(found, dict):
        raise Skippable("web.field-missing", field=name, reason="a JSON object is wanted")
    return found


def product_of(ask: Ask) -> Product:
    """The product that a form describes. Raises Refused ``exchange.fingerprint-refused`` where no resolution is declared."""
    dataset_id = text(ask, "dataset", limit=100)
    policy = document_of(ask, "policy") or {"permission": [{"action": "use"}]}
    template = text(ask, "query", required=False, limit=100)
    if template:
        policy = bound(policy, QUERY_TERM, template)
    marking = document_of(ask, "fingerprint")
    if marking:
        policy = bound(policy, FINGERPRINT_TERM, read_marking(marking).text())
    return Product(
        text(ask, "id", required=False, limit=100) or dataset_id,
        dataset_id,
        policy,
        text(ask, "title_en", required=False, limit=200),
        text(ask, "title_zh", required=False, limit=200),
        text(ask, "terms", required=False, limit=10_000),
        document_of(ask, "price"),
        tuple(did for item in texts(ask, "visible_to") for did in item.split()),
    )


async def offer_product(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Put a dataset on offer, with a policy, terms in plain words and a price, once its rehearsal was seen."""
    product = product_of(ask)
    for term in (one["rightOperand"] for one in _constraints(product) if one.get("leftOperand") == QUERY_TERM):
        await rooms.exchange.queries.template(rooms.participant, str(term))
    return go("/products", offer=await rooms.exchange.publish(rooms.participant, product))


def _constraints(product: Product) -> list[dict[str, Any]]:
    return [one for rule in product.policy.get("permission") or () for one in rule.get("constraint") or ()]


async def sign_template(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Sign a query template of our own; what comes back is the file to hand on."""
    signed = rooms.exchange.queries.sign(rooms.participant, document_of(ask, "document"))
    return go("/queries", digest=signed.template.digest, signed=signed.document())


async def approve_template(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Check a signed query template and let contracts name it."""
    signed = await rooms.exchange.queries.approve(rooms.participant, document_of(ask, "document"))
    return go("/queries", template=signed.template.digest, name=signed.template.name, author=signed.author)


async def withdraw_template(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Run a query template no more."""
    await rooms.exchange.queries.withdraw(rooms.participant, text(ask, "template", limit=100))
    return go("/queries", withdrawn=text(ask, "template", limit=100))


async def ask_query(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Ask the template of a contract of a partner's data."""
    agreement = text(ask, "agreement", limit=200)
    given = _parameters(ask)
    purpose = text(ask, "purpose", required=False, limit=300)
    found = await ask_template(rooms.exchange, rooms.participant, agreement, given, purpose=purpose)
    return go("/queries", agreement=agreement, columns=found.schema.names, rows=_shown(found))


async def run_template(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Run a platform's template over a dataset of our own."""
    agreement, dataset = text(ask, "agreement", limit=200), text(ask, "dataset", limit=100)
    found = await run_at_home(rooms.exchange, rooms.participant, agreement, dataset, _parameters(ask))
    return go("/queries", agreement=agreement, dataset=dataset, columns=found.schema.names, rows=_shown(found))


async def trace_copy(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Whose copy a found table is: a CSV or Parquet file on the node's machine, its columns named as they were delivered."""
    path = Path(text(ask, "path", limit=1000))
    table = await asyncio.to_thread(_read, path)
    found = await rooms.exchange.marks.search(rooms.participant, table)
    agreements = {one.id: one for one in await rooms.exchange.agreements(rooms.participant)}
    rows = [
        {
            "agreement": one.agreement_id,
            "partner": agreements[one.agreement_id].partner if one.agreement_id in agreements else "",
            "named": one.named,
            "rows": one.rows,
            "agree": one.agree,
            "chance": one.chance,
        }
        for one in found[:20]
    ]
    return go("/queries", searched=len(found), found=rows)


def _parameters(ask: Ask) -> dict[str, str]:
    return {
        str(name): value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in document_of(ask, "parameters").items()
    }


def _shown(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.slice(0, ROWS_SHOWN).to_pylist()
    return [
        {
            name: value if isinstance(value, str | int | float | bool | None) else str(value)
            for name, value in row.items()
        }
        for row in rows
    ]


def _read(path: Path) -> Any:
    import pyarrow as pa

    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(path)
        from pyarrow import csv

        found = csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise Skippable("web.field-missing", field="path", reason=str(error).splitlines()[0][:200]) from error
    for place, field in enumerate(found.schema):
        # CSV keeps no type: whole numbers of a marked column are read as such, and local times mean UTC
        if pa.types.is_integer(field.type) and field.name.startswith("value"):
            found = found.set_column(place, field.name, found.column(place).cast(pa.float64()))
        elif pa.types.is_timestamp(field.type) and field.type.tz is None:
            found = found.set_column(place, field.name, found.column(place).cast(pa.timestamp("ns", tz="UTC")))
    return found
