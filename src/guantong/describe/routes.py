"""The read API of Asset Administration Shells, and the readings behind their linked time series.

Source: IDTA-01002 v3.1.2, paths of the AAS and Submodel Repository (read). Errors are exactly ``{"messages": [...]}``. Every request is
decided before anything is looked up; without a wired decision everything is denied. No profile is claimed in ``/description`` whose
operations are not all here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from guantong.base.canonical import b64url, unb64url
from guantong.base.clock import iso, parse_iso
from guantong.base.errors import GuantongError, Refused, Skippable
from guantong.describe.documents import after
from guantong.describe.paths import children, encode, find, metadata, parse_path, path_list, value_only
from guantong.describe.service import Describe

__all__ = ["PROFILES", "Who", "aas_routes"]

Who = Callable[[Request], tuple[str, str]]
"""(participant served, subject who asks); the subject is empty where nobody signed in."""

Answer = Callable[[Request], Awaitable[Response]]

PROFILES: tuple[str, ...] = ()
"""Service profiles of which every operation is served."""

_PREFIXES = ("/api/v3.1", "/api/v3")
_SERIES_LIMIT = 10_000
_FORMS = ("", "$metadata", "$value", "$reference", "$path")


class _Unauthorised(Exception):
    pass


def aas_routes(describe: Describe, who: Who) -> list[Route]:
    """Routes of the read API under ``/api/v3.1`` (alias ``/api/v3``) and of ``/guantong/series``."""
    api = _Api(describe, who)
    routes: list[Route] = []
    for prefix in _PREFIXES:
        for path, answer in api.table():
            routes.append(Route(prefix + path, api.guarded(answer), methods=["GET"]))
    routes.append(Route("/guantong/series/{submodel}", api.guarded(api.series), methods=["GET"]))
    return routes


class _Api:
    def __init__(self, describe: Describe, who: Who) -> None:
        self._describe = describe
        self._who = who

    def table(self) -> list[tuple[str, Answer]]:
        """Paths and their answers; more specific paths stand first."""
        rows: list[tuple[str, Answer]] = [
            ("/description", self.description),
            ("/shells", self.shells),
            ("/shells/$reference", self.shell_references),
            ("/shells/{shell}", self.shell),
            ("/shells/{shell}/$reference", self.shell_reference),
            ("/shells/{shell}/asset-information", self.asset_information),
            ("/shells/{shell}/submodel-refs", self.submodel_refs),
        ]
        for form in _FORMS:
            tail = f"/{form}" if form else ""
            rows.append((f"/submodels{tail}", self._formed(self._submodels, form)))
        for base in ("/submodels/{submodel}", "/shells/{shell}/submodels/{submodel}"):
            for form in reversed(_FORMS):
                tail = f"/{form}" if form else ""
                rows.append((f"{base}{tail}", self._formed(self._submodel, form)))
                rows.append((f"{base}/submodel-elements{tail}", self._formed(self._elements, form)))
            for form in reversed(_FORMS):
                tail = f"/{form}" if form else ""
                rows.append((f"{base}/submodel-elements/{{path}}{tail}", self._formed(self._element, form)))
        return rows

    def guarded(self, answer: Answer) -> Answer:
        """The answer, with every error of ours as ``{"messages": [...]}``."""

        async def run(request: Request) -> Response:
            try:
                return await answer(request)
            except _Unauthorised:
                return _messages(401, "describe.denied", "Sign in or present a token.", self._describe.now())
            except GuantongError as error:
                return _messages(error.status, error.code, f"{error.message()} {error.hint()}", self._describe.now())

        return run

    @staticmethod
    def _formed(answer: Callable[[Request, str], Awaitable[Response]], form: str) -> Answer:
        async def run(request: Request) -> Response:
            return await answer(request, form)

        return run

    # who may

    def _allow(self, request: Request, action: str, object: str) -> str:
        participant, subject = self._who(request)
        if not self._describe.decide(participant, subject, action, object):
            if not subject:
                raise _Unauthorised
            raise Refused("describe.denied", action=action, object=object[:200])
        return participant

    def _visible(self, request: Request, kind: str) -> Callable[[str], bool]:
        participant, subject = self._who(request)
        return lambda id: self._describe.decide(participant, subject, "read", f"{kind}:{id}")

    # answers

    async def description(self, request: Request) -> Response:
        """Which profiles are served."""
        self._allow(request, "list", "node:aas")
        return _json({"profiles": list(PROFILES)})

    async def _shell_page(self, request: Request) -> tuple[list[Mapping[str, Any]], str | None]:
        participant = self._allow(request, "list", "node:aas")
        limit, cursor = _paging(request)
        wanted = [_asset_id(text) for text in request.query_params.getlist("assetIds")]

        def accepts(shell: Mapping[str, Any]) -> bool:
            information = shell["assetInformation"]
            named = {(item["name"], item["value"]) for item in information.get("specificAssetIds", ())}
            named.add(("globalAssetId", information.get("globalAssetId")))
            return all(one in named for one in wanted)

        page = await self._describe.page(
            participant,
            "shell",
            limit=limit,
            cursor=cursor,
            id_short=request.query_params.get("idShort"),
            allowed=self._visible(request, "shell"),
            accepts=accepts if wanted else None,
        )
        return list(page.items), page.cursor

    async def shells(self, request: Request) -> Response:
        """GetAllAssetAdministrationShells, with ``assetIds`` and ``idShort``."""
        return _paged(*await self._shell_page(request))

    async def shell_references(self, request: Request) -> Response:
        """GetAllAssetAdministrationShells-Reference."""
        items, cursor = await self._shell_page(request)
        return _paged([_reference(("AssetAdministrationShell", item["id"])) for item in items], cursor)

    async def _shell(self, request: Request) -> dict[str, Any]:
        id = _decoded(request.path_params["shell"], "aasIdentifier")
        participant = self._allow(request, "read", f"shell:{id}")
        return await self._describe.document(participant, "shell", id)

    async def shell(self, request: Request) -> Response:
        """GetAssetAdministrationShellById."""
        return _json(await self._shell(request))

    async def shell_reference(self, request: Request) -> Response:
        """GetAssetAdministrationShellById-Reference."""
        return _json(_reference(("AssetAdministrationShell", (await self._shell(request))["id"])))

    async def asset_information(self, request: Request) -> Response:
        """GetAssetInformation."""
        return _json((await self._shell(request))["assetInformation"])

    async def submodel_refs(self, request: Request) -> Response:
        """GetAllSubmodelReferences."""
        limit, cursor = _paging(request)
        shell = await self._shell(request)
        return _paged(*after("submodel-refs", shell.get("submodels", []), cursor, self._limit(limit)))

    async def _submodels(self, request: Request, form: str) -> Response:
        participant = self._allow(request, "list", "node:aas")
        limit, cursor = _paging(request)
        level = _level(request, form)
        meaning = request.query_params.get("semanticId")
        page = await self._describe.page(
            participant,
            "submodel",
            limit=limit,
            cursor=cursor,
            id_short=request.query_params.get("idShort"),
            semantic_id=None if meaning is None else _semantic(meaning),
            allowed=self._visible(request, "submodel"),
        )
        shaped = [self._shape(_leveled(dict(item), level), form, dict(item), "") for item in page.items]
        return _paged(shaped, page.cursor)

    async def _find_submodel(self, request: Request) -> dict[str, Any]:
        id = _decoded(request.path_params["submodel"], "submodelIdentifier")
        participant = self._allow(request, "read", f"submodel:{id}")
        if "shell" in request.path_params:
            shell = await self._shell(request)
            if all(reference["keys"][-1]["value"] != id for reference in shell.get("submodels", [])):
                raise Skippable("describe.unknown", what="submodel", id=id[:100])
        return await self._describe.document(participant, "submodel", id)

    async def _submodel(self, request: Request, form: str) -> Response:
        level = _level(request, form)
        whole = await self._find_submodel(request)
        return _json(self._shape(_leveled(whole, level), form, whole, ""))

    async def _elements(self, request: Request, form: str) -> Response:
        limit, cursor = _paging(request)
        level = _level(request, form)
        whole = await self._find_submodel(request)
        page, more = after("elements", children(whole), cursor, self._limit(limit))
        if form == "$value":
            # since 3.0.4 the result is an object keyed by idShort
            return _paged(value_only({"modelType": "Submodel", "submodelElements": page}), more)
        shaped = [self._shape(_leveled(item, level), form, whole, item["idShort"]) for item in page]
        return _paged([path for paths in shaped for path in paths] if form == "$path" else shaped, more)

    async def _element(self, request: Request, form: str) -> Response:
        level = _level(request, form)
        path = request.path_params["path"]
        whole = await self._find_submodel(request)
        element = find(whole, path)
        if element is None:
            raise Skippable("describe.unknown", what="element", id=path[:100])
        if form == "$path" and not _is_container(element):
            raise Skippable(
                "describe.bad-request", name="$path", reason=f"a {element['modelType']} has no elements below"
            )
        return _json(self._shape(_leveled(element, level), form, whole, path))

    def _shape(self, element: dict[str, Any], form: str, whole: dict[str, Any], path: str) -> Any:
        if form == "$value":
            return value_only(element)
        if form == "$metadata":
            return metadata(element)
        if form == "$path":
            return path_list(element, path)
        if form == "$reference":
            return _element_reference(whole, path)
        return element

    def _limit(self, limit: int | None) -> int:
        settings = self._describe.settings
        return settings.page_limit if limit is None else min(limit, settings.page_limit_max)

    async def series(self, request: Request) -> Response:
        """Readings behind a LinkedSegment: ``signals`` (ids or ``all``), ``start``, ``end`` (RFC 3339, end excluded), ``limit``, ``cursor``."""
        id = _decoded(request.path_params["submodel"], "submodelIdentifier")
        participant = self._allow(request, "read", f"submodel:{id}")
        query = request.query_params
        signals: list[int] | None = None
        if query.get("signals", "all") != "all":
            try:
                signals = [int(text) for text in query["signals"].split(",")]
            except ValueError as error:
                raise Skippable("describe.bad-request", name="signals", reason="not a list of numbers") from error
        limit, cursor = _paging(request)
        place = None if cursor is None else _read_place(cursor)
        records, more = await self._describe.series(
            participant,
            id,
            signals=signals,
            start=parse_iso(query["start"]) if "start" in query else None,
            end=parse_iso(query["end"]) if "end" in query else None,
            limit=min(limit or 1000, _SERIES_LIMIT),
            after=place,
        )
        following = None if more is None else b64url(orjson.dumps(["series", *more]))
        return _json({"paging_metadata": {} if following is None else {"cursor": following}, "records": records})


def _read_place(cursor: str) -> tuple[int, int, int]:
    try:
        value = orjson.loads(unb64url(cursor))
    except ValueError as error:
        raise Skippable("describe.bad-cursor") from error
    if not (
        isinstance(value, list) and len(value) == 4 and value[0] == "series" and all(type(n) is int for n in value[1:])
    ):
        raise Skippable("describe.bad-cursor")
    return value[1], value[2], value[3]


def _is_container(element: Mapping[str, Any]) -> bool:
    return element["modelType"] in (
        "AnnotatedRelationshipElement",
        "Entity",
        "SubmodelElementCollection",
        "SubmodelElementList",
    )


def _paging(request: Request) -> tuple[int | None, str | None]:
    text = request.query_params.get("limit")
    limit: int | None = None
    if text is not None:
        if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
            raise Skippable("describe.bad-request", name="limit", reason="must be a whole number of at least 1")
        limit = int(text)
    cursor = request.query_params.get("cursor")
    return limit, cursor or None


def _level(request: Request, form: str) -> str:
    level = request.query_params.get("level")
    if level is None:
        return "deep"
    if level not in ("core", "deep"):
        raise Skippable("describe.bad-request", name="level", reason="must be core or deep")
    if form in ("$metadata", "$reference"):
        raise Skippable("describe.bad-request", name="level", reason=f"does not apply to {form}")
    return level


def _leveled(element: dict[str, Any], level: str) -> dict[str, Any]:
    """``core``: the element and its direct children, containers among them emptied."""
    if level == "deep":
        return element
    body = dict(element)
    for name in ("submodelElements", "value", "statements", "annotations"):
        members = body.get(name)
        if isinstance(members, list) and members and isinstance(members[0], dict) and "modelType" in members[0]:
            body[name] = [_emptied(member) for member in members]
    return body


def _emptied(element: dict[str, Any]) -> dict[str, Any]:
    if not _is_container(element):
        return element
    dropped = {"value", "statements", "annotations"}
    return {name: value for name, value in element.items() if name not in dropped}


def _decoded(text: str, name: str) -> str:
    try:
        return unb64url(text.rstrip("=")).decode("utf-8")
    except ValueError as error:
        raise Skippable("describe.bad-request", name=name, reason="not base64url") from error


def _asset_id(text: str) -> tuple[str, str]:
    try:
        value = orjson.loads(_decoded(text, "assetIds"))
        name, wanted = value["name"], value["value"]
    except (ValueError, KeyError, TypeError) as error:
        raise Skippable("describe.bad-request", name="assetIds", reason="not a specific asset id") from error
    return str(name), str(wanted)


def _semantic(text: str) -> str:
    try:
        value = orjson.loads(_decoded(text, "semanticId"))
        return str(value["keys"][-1]["value"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Skippable("describe.bad-request", name="semanticId", reason="not a reference") from error


def _reference(*keys: tuple[str, str]) -> dict[str, Any]:
    return {"type": "ModelReference", "keys": [{"type": kind, "value": value} for kind, value in keys]}


def _element_reference(whole: dict[str, Any], path: str) -> dict[str, Any]:
    keys = [("Submodel", whole["id"])]
    here = whole
    for step in parse_path(path) if path else ():
        members = children(here)
        here = members[step] if isinstance(step, int) else next(one for one in members if one.get("idShort") == step)
        keys.append((here["modelType"], str(step)))
    return _reference(*keys)


def _json(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


def _paged(result: Any, cursor: str | None) -> Response:
    return _json({"paging_metadata": {} if cursor is None else {"cursor": cursor}, "result": result})


def _messages(status: int, code: str, text: str, now: int) -> Response:
    body = {
        "messages": [
            {
                "code": code[:32],
                "messageType": "Error",
                "text": text,
                "timestamp": iso(now, digits=3),
            }
        ]
    }
    return Response(orjson.dumps(body), status, media_type="application/json")
