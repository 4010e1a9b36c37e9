"""The commands about keys, on two real directories: show, rotate, lost, confirm, confirmed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from guantong.base import keychange
from guantong.cli import main
from guantong.exchange.keyring import load_keys


def run(*words: str) -> dict:
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def make(name: str) -> tuple[str, ...]:
        directory = tmp_path / name
        directory.mkdir()
        (directory / "port").write_text({"supplier": "8443", "customer": "8444"}[name])
        load_keys(directory / "keys.json")
        return ("--directory", str(directory))

    return make


def test_a_rotation_is_stated_and_shown(node) -> None:
    at = node("supplier")
    before = run("keys", "show", *at)
    after = run("keys", "rotate", *at)

    assert before["participant"] == after["participant"] == "did:web:127.0.0.1%3A8443"
    assert before["evidence"] != after["evidence"]
    assert run("keys", "show", *at) == after
    assert f"rotated {before['evidence']} -> {after['evidence']}" in after["changes"][0]
    assert load_keys(Path(at[1]) / "keys.json").former is not None
    run("keys", "rotate", "--overlap-days", "0", *at)
    assert load_keys(Path(at[1]) / "keys.json").former is None


def test_a_loss_is_declared_by_one_and_confirmed_by_the_other(node, tmp_path: Path) -> None:
    supplier, customer = node("supplier"), node("customer")
    (Path(supplier[1]) / "keys.json").unlink()
    refused = CliRunner().invoke(main, ["keys", "show", *supplier])
    assert (refused.exit_code, "guantong keys lost" in refused.stderr) == (2, True)
    made = run("keys", "lost", "--out", str(tmp_path / "s.json"), "--yes", *supplier)
    wrong = CliRunner().invoke(
        main, ["keys", "confirm", str(tmp_path / "s.json"), "--key", "AAAA", "--out", str(tmp_path / "c"), *customer]
    )
    assert (wrong.exit_code, "base.key-change-refused" in wrong.stderr) == (1, True)
    run(
        "keys",
        "confirm",
        str(tmp_path / "s.json"),
        "--key",
        made["evidence"],
        "--out",
        str(tmp_path / "c.json"),
        *customer,
    )
    run("keys", "confirmed", str(tmp_path / "c.json"), *supplier)
    (document,) = load_keys(Path(supplier[1]) / "keys.json").changes
    witness = load_keys(Path(customer[1]) / "keys.json").evidence.public
    did = "did:web:127.0.0.1%3A8444"

    assert keychange.confirmed_by(keychange.parse(document), {did: {witness}}) == (did,)
