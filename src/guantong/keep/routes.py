"""Export and SQL over HTTP, for a person of the node: rows stream as they are read, and reading stops when the client leaves.

``GET /api/export/{kind}?format=parquet|csv|arrow&signal=1&signal=2&from=…&to=…&revisions=1``: ``kind`` is ``readings``,
``measurements`` or the name of a table; times are RFC 3339. ``POST /api/sql?format=…`` with ``{"statement": …}``. Errors before the
first byte are RFC 9457 problem documents; after it, the connection is cut, so that half a file is never taken for a whole one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from guantong.base.clock import parse_iso
from guantong.base.errors import GuantongError, Refused, Skippable
from guantong.keep.export import FORMATS, schema_of, written
from guantong.keep.model import Filter
from guantong.keep.service import Keep
from guantong.keep.sql import STATEMENT_MAX

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["keep_routes"]

Who = Callable[[Request], Awaitable[str]]
"""The participant whose person asks; empty where nobody signed in. Raises for a forged request."""

SIGNALS_MAX = 10_000


def keep_routes(keep: Keep, who: Who) -> list[Route]:
    """Routes under ``/api/export`` and ``/api/sql``."""

    def guarded(answer: Callable[[str, Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def run(request: Request) -> Response:
            language = "zh" if request.headers.get("accept-language", "").startswith("zh") else "en"
            try:
                participant = await who(request)
                if not participant:
                    raise Refused("web.not-signed-in")
                return await answer(participant, request)
            except GuantongError as error:
                return JSONResponse(error.problem(language), error.status, media_type="application/problem+json")

        return run

    async def export(participant: str, request: Request) -> Response:
        form, kind = request.query_params.get("format", "parquet"), request.path_params["kind"]
        wanted = _filter(request)
        if kind not in ("readings", "measurements") and kind not in await keep.table_names(participant):
            raise Skippable("keep.query-invalid", reason=f"there is no table {kind[:60]!r}")
        return await _file(keep.scan(participant, kind, wanted), form, kind, schema_of(kind))

    async def sql(participant: str, request: Request) -> Response:
        form = request.query_params.get("format", "arrow")
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > STATEMENT_MAX * 4:
                raise Skippable("keep.query-invalid", reason=f"a statement of more than {STATEMENT_MAX} characters")
        # JSON only: no page of another site can send it without being asked first (CORS)
        if not request.headers.get("content-type", "").startswith("application/json"):
            raise Skippable("keep.query-invalid", reason="the body is a JSON object with a statement")
        try:
            statement = orjson.loads(bytes(body))["statement"]
        except (ValueError, KeyError, TypeError) as error:
            raise Skippable("keep.query-invalid", reason="the body is a JSON object with a statement") from error
        rows = await keep.sql(participant, str(statement))

        async def batches() -> AsyncIterator[pa.RecordBatch]:
            for batch in rows.to_batches():
                yield batch

        return await _file(batches(), form, "answer", rows.schema)

    return [
        Route("/api/export/{kind}", guarded(export), methods=["GET"]),
        Route("/api/sql", guarded(sql), methods=["POST"]),
    ]


async def _file(batches: AsyncIterator[pa.RecordBatch], form: str, name: str, schema: pa.Schema | None) -> Response:
    pieces = written(batches, form, schema)
    # the first piece before the answer begins: what is wrong with the question becomes a status, not a broken file
    first = await anext(pieces, b"")

    async def whole() -> AsyncIterator[bytes]:
        try:
            yield first
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()  # type: ignore[attr-defined]

    ending = "arrows" if form == "arrow" else form
    safe = "".join(one if one.isascii() and (one.isalnum() or one in "-_.") else "_" for one in name)[:60]
    headers = {"content-disposition": f'attachment; filename="{safe}.{ending}"', "cache-control": "no-store"}
    return StreamingResponse(whole(), media_type=FORMATS[form], headers=headers)


def _filter(request: Request) -> Filter:
    given: Any = request.query_params
    signals = given.getlist("signal")
    try:
        ids = tuple(int(one) for one in signals[: SIGNALS_MAX + 1])
    except ValueError as error:
        raise Skippable("keep.query-invalid", reason="signal is the number of a signal") from error
    if len(ids) > SIGNALS_MAX:
        raise Skippable("keep.query-invalid", reason=f"more than {SIGNALS_MAX} signals")
    start, end = (parse_iso(given[name]) if given.get(name) else None for name in ("from", "to"))
    return Filter(
        signal_ids=ids,
        start=start,
        end=end,
        serials=tuple(given.getlist("serial")),
        models=tuple(given.getlist("model")),
        reports=tuple(given.getlist("report")),
        revisions=given.get("revisions", "") in ("1", "true", "yes"),
    )
