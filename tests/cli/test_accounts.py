"""Figures and accounts on the command line: what needs no node runs without one, the rest reaches the node's actions."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from guantong.cli import main
from guantong.settle.clearing import clear
from guantong.settle.netting import Obligation


def run(*words: str, code: int = 0) -> Any:
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if done.stdout.strip() else done.stderr


def test_the_published_functions_are_listed_with_their_hash() -> None:
    found = {one["function"]: one for one in run("figure", "functions")}

    assert {
        "availability@1",
        "carbon-per-part@1",
        "cpk@1",
        "energy-per-part@1",
        "oee@1",
        "on-time-delivery@1",
        "order-cover@1",
    } <= set(found)
    assert all(one["hash"].startswith("sha256:") and one["unit"] for one in found.values())


def test_a_file_that_is_no_figure_is_wrong_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "figure.json"
    file.write_text('{"v": 1}')
    found = run("figure", "verify", str(file), code=1)

    assert found["verdict"] == "wrong"
    assert found["notShown"]


@pytest.mark.parametrize(
    ("document", "rule", "code"),
    [
        ({"currency": "CNY", "charges": [{"per": "row", "price": "1"}]}, "", 0),
        ({"currency": "CNY", "charges": [{"per": "row", "tiers": [{"from": "0", "price": "1"}, {"from": "10", "price": "5"}]}]}, "arbitrage", 1),
        (
            {"offers": [
                {"id": "day", "contains": ["mon", "tue"], "price": "9"}, {"id": "mon", "contains": ["mon"], "price": "3"},
                {"id": "tue", "contains": ["tue"], "price": "4"},
            ]},
            "arbitrage", 1,
        ),
        ({"offers": [{"id": "all", "contains": ["a", "b"], "price": "2"}, {"id": "a", "contains": ["a"], "price": "3"}]}, "monotone", 1),
    ],
)  # fmt: skip
def test_a_price_list_is_checked_and_the_cheapest_cover_shown(
    tmp_path: Path, document: Any, rule: str, code: int
) -> None:
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(document))
    found = run("invoices", "lint", str(file), code=code)

    assert {one["rule"] for one in found} == ({rule} if rule else set())
    assert all(one["instead"] for one in found)


def test_a_netting_certificate_is_checked_without_a_node_and_refused_after_one_cent(tmp_path: Path) -> None:
    made = clear([Obligation("a", "b", 100), Obligation("b", "c", 80), Obligation("c", "a", 50)], currency="CNY")
    file = tmp_path / "netting.json"
    file.write_text(json.dumps([made]))
    good = run("netting", "check", str(file))
    made["obligations"][0][3] = "51"
    file.write_text(json.dumps([made]))
    bad = run("netting", "check", str(file), code=1)

    assert good[0]["problems"] == []
    assert bad[0]["problems"]


def test_shares_are_computed_again_and_compared(tmp_path: Path) -> None:
    file, shares = tmp_path / "rule.json", tmp_path / "shares.json"
    file.write_text(
        json.dumps(
            {
                "total": 1000,
                "currency": "CNY",
                "rule": "proportional",
                "owners": ["a", "b"],
                "weights": {"a": "2", "b": "1"},
            }
        )
    )
    made = run("share", str(file))
    shares.write_text(json.dumps(made))
    run("share", str(file), "--check", str(shares))
    made["shares"][0]["share"] = "668"
    shares.write_text(json.dumps(made))
    run("share", str(file), "--check", str(shares), code=1)

    assert [row["share"] for row in made["shares"]] == ["668", "333"]


def test_a_figure_is_made_challenged_exported_and_verified_and_debts_are_netted_by_commands_alone(
    tmp_path: Path,
) -> None:
    """Half an hour of a machine's states from a file: twenty minutes ACTIVE of thirty."""
    place = ("--directory", str(tmp_path / "node"))
    states = tmp_path / "states.csv"
    states.write_text(
        "time,execution\n"
        + "".join(f"2026-11-24T08:{minute:02}:00Z,{'ACTIVE' if minute % 3 else 'READY'}\n" for minute in range(31))
    )
    debts = tmp_path / "debts.csv"
    debts.write_text("debtor,creditor,amount,currency\na,b,10.00,CNY\nb,a,4.00,CNY\na,b,5,EUR\n")
    run("sources", "import", str(states), *place)
    (stream,) = run("figure", "streams", *place)["streams"]
    run("figure", "define", "shift", "availability@1", "--input", f"execution=readings:{stream['stream']}", *place)
    window = ("--from", "2026-11-24T08:00:00Z", "--to", "2026-11-24T08:30:00Z")
    made = run("figure", "make", "shift", *window, *place)
    checked = run("figure", "challenge", made["figure"], "--count", "20", *place)
    bundle = tmp_path / "figure.json"
    run("figure", "export", made["figure"], "--out", str(bundle), *place)
    stranger = run("figure", "verify", str(bundle), code=6)
    listed = run("figure", "list", *place)
    netted = run("netting", "clear", str(debts), *place)
    found = run("audit", "search", "--kind", "prove.figure-made", *place)
    told = CliRunner().invoke(main, ["audit", "search", "--kind", "prove.figure-made", "--csv", *place])
    (row,) = csv.DictReader(io.StringIO(told.stdout))

    assert (made["value"], made["coverage"], made["unit"]) == ("0.666667", "1.000000", "1")
    assert (checked["verdict"], checked["opened"], checked["problems"]) == ("clean", 20, [])
    assert (stranger["verdict"], stranger["problems"]) == ("signer-unknown", [])
    assert [one["id"] for one in listed["definitions"]] == ["shift"]
    assert (
        [one["body"]["figure"] for one in found["entries"]] == [json.loads(row["body"])["figure"]] == [made["figure"]]
    )
    assert [(one["currency"], one["cancelled"]) for one in netted["certificates"]] == [("CNY", "800"), ("EUR", "0")]
