"""The OpenAPI 3.1 document of the node, built from the tables that serve it: pages, actions and the routes of the stages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from starlette.routing import BaseRoute, Mount, Route

from guantong.web.actions import ACTIONS, Action
from guantong.web.pages import PAGES
from guantong.web.rooms import Rooms
from guantong.web.texts import say

__all__ = ["document"]

_PLACE = re.compile(r"\{(\w+)(?::(\w+))?\}")


def _plain(path: str) -> str:
    return _PLACE.sub(r"{\1}", path)


def _parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer" if kind == "int" else "string"},
        }
        for name, kind in _PLACE.findall(path)
    ]


_PROBLEM = {"$ref": "#/components/responses/Problem"}
_LANG = {"name": "lang", "in": "query", "schema": {"type": "string", "enum": ["en", "zh-CN"]}}


def document(rooms: Rooms, extra: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document."""
    paths: dict[str, dict[str, Any]] = {}
    for page in PAGES:
        path = "/api" if page.path == "/" else "/api" + page.path
        paths.setdefault(_plain(path), {})["get"] = {
            "operationId": f"read-{page.name}",
            "summary": say("en", f"{page.name}.title"),
            "tags": [page.stage],
            "parameters": [*_parameters(page.path), _LANG],
            "security": [{"session": []}],
            "responses": {
                "200": {
                    "description": "What the page shows, as plain JSON",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
                "default": _PROBLEM,
            },
        }
    for action in ACTIONS:
        paths.setdefault(_plain("/api" + action.path), {})["post"] = _operation(action)
    for name, summary, kind in (
        ("/healthz", "Whether the process lives", "application/json"),
        ("/readyz", "Whether every task runs", "application/json"),
        ("/metrics", "Counts in the Prometheus text format", "text/plain"),
    ):
        paths[name] = {
            "get": {
                "operationId": name.strip("/"),
                "summary": summary,
                "tags": ["operation"],
                "responses": {"200": {"description": summary, "content": {kind: {}}}, "default": _PROBLEM},
            }
        }
    for prefix, route in _routes(extra, ""):
        entry = paths.setdefault(_plain(prefix), {})
        for method in sorted(route.methods or ()):
            if method not in ("HEAD", "OPTIONS"):
                words = (route.endpoint.__doc__ or route.name or "").strip().splitlines()
                entry.setdefault(
                    method.lower(),
                    {
                        "summary": words[0] if words else route.name,
                        "tags": ["protocol"],
                        "parameters": _parameters(prefix),
                        "responses": {"default": {"description": "As the protocol states"}},
                    },
                )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"guantong: {rooms.name}",
            "version": rooms.version,
            "summary": "Every page of the node as JSON, every action, and the protocols it speaks",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": rooms.base_url or "/"}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "guantong-…",
                    "description": "The cookie of a sign-in link; unsafe requests also carry its token in X-CSRF-Token",
                }
            },
            "responses": {
                "Problem": {
                    "description": "What went wrong, its code and the next step (RFC 9457)",
                    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            },
            "schemas": {
                "Problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail", "code"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "code": {"type": "string"},
                    },
                }
            },
        },
    }


def _operation(action: Action) -> dict[str, Any]:
    text: dict[str, Any] = {"type": "string"}
    properties: dict[str, Any] = {
        field.name: {"type": "array", "items": text} if field.many else {**text, "maxLength": field.limit}
        for field in action.fields
    }
    schema = {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in action.fields if field.required],
    }
    answer = "application/zip" if action.path == "/evidence/package" else "application/json"
    return {
        "operationId": action.path.strip("/").replace("/", "-").replace("{", "").replace("}", ""),
        "summary": action.summary,
        "tags": [action.path.split("/")[1]],
        "parameters": [
            *_parameters(action.path),
            {"name": "X-CSRF-Token", "in": "header", "required": True, "schema": {"type": "string"}},
        ],
        "security": [{"session": []}],
        "requestBody": {"content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "Done", "content": {answer: {}}}, "default": _PROBLEM},
    }


def _routes(routes: Sequence[BaseRoute], prefix: str) -> list[tuple[str, Route]]:
    found: list[tuple[str, Route]] = []
    for route in routes:
        if isinstance(route, Route):
            found.append((prefix + route.path, route))
        elif isinstance(route, Mount):
            found += _routes(route.routes or [], prefix + route.path)
    return found
