"""Stored documents: writing shells and submodels with their element index, and reading them in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, and_, delete, func, insert, select

from guantong.base.canonical import b64url, canonical_bytes, unb64url
from guantong.base.errors import Skippable
from guantong.describe.elements import verified_bytes
from guantong.describe.machine import Live
from guantong.describe.paths import walk
from guantong.describe.tables import DOCUMENTS, ELEMENTS
from guantong.records import Step

__all__ = ["Draft", "index_rows", "read_cursor", "write_cursor", "write_documents"]

_NUMERIC = frozenset(
    ("xs:double", "xs:float", "xs:decimal", "xs:integer", "xs:int", "xs:long", "xs:short", "xs:unsignedInt")
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A document to be written: metamodel JSON, the asset it is of, and what is filled at read."""

    asset: str
    body: Mapping[str, Any]
    live: tuple[Live, ...] = ()
    signals: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """``shell`` or ``submodel``."""
        return "submodel" if self.body["modelType"] == "Submodel" else "shell"

    def live_bytes(self) -> bytes:
        """Canonical JSON of what is filled at read."""
        return canonical_bytes({"items": [list(item) for item in self.live], "signals": list(self.signals)})


def index_rows(submodel: dict[str, Any]) -> list[dict[str, Any]]:
    """The flat element index of a submodel: path, kind, semantic ids and typed value of every element."""
    rows = []
    for path, element in walk(submodel):
        value = element.get("value")
        text = value if isinstance(value, str) else None
        kind = element.get("valueType", "")
        number = None
        if text is not None and kind in _NUMERIC:
            try:
                number = float(text)
            except ValueError:
                number = None
            if number is not None and number not in (number, float("inf"), float("-inf")):
                number = None
        rows.append(
            {
                "submodel": submodel["id"],
                "path": path,
                "model_type": element["modelType"],
                "semantic_ids": " ".join(_ids(element)),
                "value_type": kind,
                "value_text": text,
                "value_number": number,
            }
        )
    return rows


def _ids(element: Mapping[str, Any]) -> list[str]:
    references = [element["semanticId"]] if "semanticId" in element else []
    references += element.get("supplementalSemanticIds", [])
    return [reference["keys"][-1]["value"].strip() for reference in references]


def write_documents(
    step: Step, drafts: Iterable[Draft], known: Mapping[str, tuple[bytes, bytes]]
) -> list[tuple[str, bytes]]:
    """Write those drafts that differ from what is known (body and live bytes by id); ids and bytes of those written.

    Every document is verified before the step is handed over, so one bad document writes nothing.
    """
    written: list[tuple[str, bytes]] = []
    for draft in drafts:
        body = verified_bytes(dict(draft.body))
        live = draft.live_bytes()
        identity = str(draft.body["id"])
        if known.get(identity) == (body, live):
            continue
        written.append((identity, body))
        value = orjson.loads(body)
        step.apply(_put(step.participant, draft, identity, body, live, value, step.at))
    return written


def _put(
    participant: str, draft: Draft, identity: str, body: bytes, live: bytes, value: dict[str, Any], at: int
) -> Callable[[Connection], None]:
    rows = [{"participant": participant, **row} for row in index_rows(value)] if draft.kind == "submodel" else []
    semantic = _ids(value)
    columns = {
        "kind": draft.kind,
        "id_short": value.get("idShort", ""),
        "asset": draft.asset,
        "semantic_id": semantic[0] if semantic else "",
        "body": body,
        "live": live,
        "changed_at": at,
    }

    def run(connection: Connection) -> None:
        mine = and_(DOCUMENTS.c.participant == participant, DOCUMENTS.c.id == identity)
        if not connection.execute(DOCUMENTS.update().where(mine), columns).rowcount:
            last = connection.execute(
                select(func.max(DOCUMENTS.c.number)).where(DOCUMENTS.c.participant == participant)
            ).scalar()
            number = 0 if last is None else int(last) + 1
            connection.execute(
                insert(DOCUMENTS), {"participant": participant, "id": identity, "number": number, **columns}
            )
        if draft.kind == "submodel":
            connection.execute(
                delete(ELEMENTS).where(and_(ELEMENTS.c.participant == participant, ELEMENTS.c.submodel == identity))
            )
            if rows:
                connection.execute(insert(ELEMENTS), rows)

    return run


def write_cursor(kind: str, number: int) -> str:
    """Opaque cursor behind the document with that number."""
    return b64url(canonical_bytes([kind, number]))


def read_cursor(kind: str, cursor: str) -> int:
    """The number in a cursor. Raises Skippable ``describe.bad-cursor``."""
    try:
        value = orjson.loads(unb64url(cursor))
    except ValueError as error:
        raise Skippable("describe.bad-cursor") from error
    if not (
        isinstance(value, list) and len(value) == 2 and value[0] == kind and type(value[1]) is int and value[1] >= -1
    ):
        raise Skippable("describe.bad-cursor")
    number: int = value[1]
    return number


def after(kind: str, items: Sequence[Any], cursor: str | None, limit: int) -> tuple[list[Any], str | None]:
    """A page of a sequence that is at hand, by place."""
    start = 0 if cursor is None else read_cursor(kind, cursor) + 1
    page = list(items[start : start + limit])
    more = start + limit < len(items)
    return page, write_cursor(kind, start + limit - 1) if more else None
