"""Govern's values as JSON and back: what the tables store, what evidence digests, what the pages show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from guantong.base.clock import iso, parse_iso
from guantong.base.errors import GuantongError
from guantong.govern.model import Check, Graded, Impact, Quality, Reason, Rights

__all__ = [
    "graded_from_json",
    "graded_to_json",
    "period",
    "quality_from_json",
    "quality_to_json",
    "rights_from_json",
    "rights_problems",
    "rights_to_json",
]


def graded_to_json(one: Graded) -> dict[str, Any]:
    """Plain JSON; the instant as text."""
    body = asdict(one)
    body["elements"] = dict(one.elements)
    body["graded_at"] = iso(one.graded_at)
    return {key: _lists(value) for key, value in body.items()}


def graded_from_json(body: Mapping[str, Any]) -> Graded:
    """The value that :func:`graded_to_json` wrote."""
    row = dict(body)
    row["impacts"] = tuple(Impact(**item) for item in row["impacts"])
    row["reasons"] = tuple(Reason(**item) for item in row["reasons"])
    for name in ("personal", "rules", "unverified", "flags", "members"):
        row[name] = tuple(row[name])
    row["graded_at"] = parse_iso(row["graded_at"])
    return Graded(**row)


def quality_to_json(one: Quality) -> dict[str, Any]:
    """Plain JSON; instants as text."""
    body = asdict(one)
    body["dimensions"] = dict(one.dimensions)
    for name in ("window_start", "window_end", "scored_at"):
        body[name] = iso(body[name])
    return {key: _lists(value) for key, value in body.items()}


def quality_from_json(body: Mapping[str, Any]) -> Quality:
    """The value that :func:`quality_to_json` wrote."""
    row = dict(body)
    row["checks"] = tuple(Check(**item) for item in row["checks"])
    row["unverified"] = tuple(row["unverified"])
    for name in ("window_start", "window_end", "scored_at"):
        row[name] = parse_iso(row[name])
    return Quality(**row)


def rights_to_json(one: Rights) -> dict[str, Any]:
    """Plain JSON."""
    return asdict(one)


def rights_from_json(body: Mapping[str, Any]) -> Rights:
    """The value that :func:`rights_to_json` wrote."""
    return Rights(**body)


def rights_problems(one: Rights) -> Iterator[str]:
    """Every field of a rights statement that is missing or wrong."""
    for name in ("dataset_id", "holder", "processor", "operator", "source", "evidence", "valid_from"):
        if not getattr(one, name).strip():
            yield name
    wrong = False
    for name in ("valid_from", "valid_to"):
        text = getattr(one, name)
        if text:
            try:
                parse_iso(text if "T" in text else text + "T00:00:00Z")
            except GuantongError:
                wrong = True
                yield name
    if not wrong and one.valid_from.strip() and one.valid_to:
        start, end = period(one)
        if end is not None and end < start:
            yield "valid_to"
    for name, text in asdict(one).items():
        if len(text) > 2000:
            yield name


def period(one: Rights) -> tuple[int, int | None]:
    """First and last instant of a statement, both included; a date means the whole day (UTC)."""
    start = one.valid_from if "T" in one.valid_from else one.valid_from + "T00:00:00Z"
    if not one.valid_to:
        return parse_iso(start), None
    return parse_iso(start), parse_iso(one.valid_to if "T" in one.valid_to else one.valid_to + "T23:59:59.999999999Z")


def _lists(body: Any) -> Any:
    if isinstance(body, dict):
        return {key: _lists(value) for key, value in body.items()}
    if isinstance(body, (list, tuple)):
        return [_lists(value) for value in body]
    return body
