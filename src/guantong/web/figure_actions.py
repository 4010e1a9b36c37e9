"""What a person does with figures: define, make, order, challenge, list, take away. Rows of :data:`guantong.web.actions.ACTIONS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from guantong.base.clock import iso, parse_iso
from guantong.base.errors import Skippable
from guantong.web.ask import Ask, text
from guantong.web.rooms import Rooms

if TYPE_CHECKING:
    from guantong.prove.figure import Made

__all__ = [
    "challenge_figure",
    "define_figure",
    "export_figure",
    "list_figures",
    "list_streams",
    "make_figure",
    "order_figure",
]


def _json(ask: Ask, name: str, kind: type, default: Any) -> Any:
    given: Any = ask.query.get(name)
    if given is None or given == "":
        return default
    try:
        found = orjson.loads(given) if isinstance(given, str) else given
    except orjson.JSONDecodeError as error:
        raise Skippable("web.field-missing", field=name, reason="it is not JSON") from error
    if not isinstance(found, kind):
        raise Skippable("web.field-missing", field=name, reason="it is JSON of another form")
    return found


def _count(ask: Ask, name: str, default: int) -> int:
    given = ask.query.get(name)
    if given is None or given == "":
        return default
    try:
        return int(str(given))
    except ValueError as error:
        raise Skippable("web.field-missing", field=name, reason="a whole number is wanted") from error


def shown(made: Made) -> dict[str, Any]:
    """A figure in a line."""
    figure = made.proof["figure"]
    return {
        "figure": made.digest,
        "role": made.role,
        "definition": made.definition_id,
        "value": made.value,
        "unit": made.unit,
        "reason": figure.get("reason", ""),
        "window": figure.get("window"),
        "coverage": figure.get("coverage"),
        "positions": figure.get("positions"),
        "function": figure["function"]["name"],
        "verdict": made.verdict,
        "partner": made.partner,
        "agreement": made.agreement_id,
        "facts": figure.get("facts", {}),
        "made_at": iso(made.made_at),
    }


def _there(made: Made) -> dict[str, Any]:
    return {**shown(made), "next": f"/figures/{made.digest}"}


async def define_figure(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Define a figure: function, inputs and parameters, and how far it may be opened."""
    from guantong.prove.figure import Definition, Input

    inputs = tuple(
        Input(str(one["role"]), str(one["table"]), tuple(str(stream) for stream in one["streams"]))
        for one in _json(ask, "inputs", list, [])
        if isinstance(one, dict) and {"role", "table", "streams"} <= set(one)
    )
    agreements: Any = ask.query.get("agreements", ())
    made = await rooms.figures.define(
        rooms.participant,
        Definition(
            text(ask, "id", limit=200),
            text(ask, "function", limit=200),
            inputs,
            text(ask, "title_en", required=False, limit=200),
            text(ask, "title_zh", required=False, limit=200),
            _json(ask, "parameters", dict, {}),
            _count(ask, "openings", 300),
            (agreements,) if isinstance(agreements, str) and agreements else tuple(agreements),
        ),
    )
    return {"id": made.id, "function": made.function, "parameters": dict(made.parameters), "openings": made.openings}


async def make_figure(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Make a defined figure for a window, or a figure of figures."""
    cited: Any = ask.query.get("figures", ())
    if cited:
        names = [cited] if isinstance(cited, str) else list(cited)
        return _there(await rooms.figures.make_of(rooms.participant, text(ask, "function", limit=200), names))
    start, end = parse_iso(text(ask, "from", limit=200)), parse_iso(text(ask, "to", limit=200))
    return _there(await rooms.figures.make(rooms.participant, text(ask, "definition", limit=200), start, end))


async def order_figure(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Order a figure from the partner of an agreement."""
    start, end = parse_iso(text(ask, "from", limit=200)), parse_iso(text(ask, "to", limit=200))
    made = await rooms.trade.order(
        rooms.participant, text(ask, "agreement", limit=200), text(ask, "definition", limit=200), start, end
    )
    return _there(made)


async def challenge_figure(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Challenge a figure: chunks are drawn and opened, and the verdict says what that shows."""
    name, count = text(ask, "figure", limit=200), _count(ask, "count", 300)
    made = await rooms.figures.figure(rooms.participant, name)
    if made.role == "buyer":
        found = await rooms.trade.challenge_partner(rooms.participant, name, count)
    else:
        found = await rooms.figures.challenge(rooms.participant, name, count)
    return {**found.document(), "next": f"/figures/{name}"}


async def list_figures(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Definitions and figures, newest first."""
    return {
        "definitions": [
            {**one.document(), "agreements": list(one.agreements)}
            for one in await rooms.figures.definitions(rooms.participant)
        ],
        "figures": [shown(one) for one in await rooms.figures.figures(rooms.participant)],
    }


async def list_streams(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Streams that figures can be made of."""
    table = text(ask, "table", required=False, limit=200) or None
    return {"streams": await rooms.figures.streams(rooms.participant, table)}


async def export_figure(rooms: Rooms, ask: Ask) -> bytes:
    """A figure with its proof, as a file that verifies without either node."""
    made = await rooms.figures.figure(rooms.participant, text(ask, "figure", limit=200))
    return orjson.dumps(made.proof, option=orjson.OPT_INDENT_2)
