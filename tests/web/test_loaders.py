"""What the pages make of policies and of entries of the evidence log."""

from __future__ import annotations

from typing import Any

import pytest

from guantong.web.loaders.exchange import constraints_of
from guantong.web.loaders.prove import _about


def policy(*constraints: dict[str, Any]) -> dict[str, Any]:
    return {"permission": [{"action": "use", "constraint": list(constraints)}]}


def test_a_term_is_marked_as_exchange_marks_it() -> None:
    lines = constraints_of(
        policy(
            {"leftOperand": "purpose", "operator": "eq", "rightOperand": "quality"},
            {"leftOperand": "count", "operator": "lteq", "rightOperand": "3"},
        )
    )
    assert {one["left"]: one["enforced"] for one in lines if one["left"]} == {"purpose": False, "count": True}
    assert {one["left"]: one["at"] for one in lines if one["left"]} == {"purpose": [], "count": ["access"]}
    assert {one["says"]["zh"] for one in lines} >= {"仅用于：quality", "最多交付 3 次"}


@pytest.mark.parametrize(
    ("foreign", "term"),
    [
        (policy({"leftOperand": "fileFormat", "operator": "eq", "rightOperand": "csv"}), "fileFormat"),
        ({}, "permission"),
        ({"permission": 5}, "permission"),
        ({"permission": {"action": "use"}}, "permission"),
        ({"permission": [{"action": "use", "constraint": 7}]}, "permission"),
    ],
)
def test_a_foreign_policy_names_the_refused_term(foreign: dict[str, Any], term: str) -> None:
    (line,) = constraints_of(foreign)
    assert term in line["refused"]["en"]
    assert term in line["refused"]["zh"]
    assert not line["enforced"]


def test_entries_of_one_kind_are_told_apart_by_state_and_subject() -> None:
    assert _about({"pid": "urn:uuid:0a1b2c3d-77", "state": "AGREED"}) == {
        "state": "AGREED",
        "subject": "0a1b2c3d",
        "total": "",
    }
    assert _about({"number": "2026-1", "currency": "CNY", "total": "12.50", "agreementId": "a"})["total"] == "CNY 12.50"
    assert _about({"record": {"dataset": "mill-load"}, "state": "offered"})["subject"] == "mill-load"
    assert _about("not an object")["subject"] == ""
