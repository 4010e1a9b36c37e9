"""Plain MQTT over mosquitto: JSON and UNS paths, both versions, nothing acknowledged before it is durable, passwords from the store."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from connect_peers import QUICK, SUPPLIER, ListSink, until, value_of
from protocol_peers import Mosquitto

from guantong.base.clock import SystemClock
from guantong.connect.model import Form, Interface, Property
from guantong.connect.mqtt import topic_of
from guantong.connect.secrets import Secrets
from guantong.connect.service import Connect


@pytest.fixture
async def broker(tool: Any, tmp_path: Any) -> Any:
    peer = Mosquitto(tool("mosquitto"), tmp_path)
    await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
async def stage(memory: Any, sink: ListSink) -> Any:
    made = Connect(memory, sink, SystemClock(), None, replace(QUICK))  # type: ignore[arg-type]
    await made.start()
    yield made
    await made.stop()


def publish(tool: Any, broker: Mosquitto, topic: str, *lines: str, more: tuple[str, ...] = ()) -> None:
    command = [tool("mosquitto_pub"), "-p", str(broker.port), "-q", "1", "-t", topic, "-l", *more]
    subprocess.run(command, input="\n".join(lines) + "\n", text=True, check=True)


@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_values_objects_and_unified_namespace_paths_become_signals(stage, broker, sink, tool, version):
    base = f"mqtt://127.0.0.1:{broker.port}/"
    await stage.add(
        SUPPLIER, Interface("plant", "mqtt", base, terms=(("topics", "umh/# plain/#"), ("version", version)))
    )
    await until(lambda: stage.scorecards(SUPPLIER)[0].connected, 20)
    publish(
        tool, broker, "umh/v1/acme/berlin/_historian/temp", '{"timestamp_ms": 1764000000123, "oven": 200.5, "on": true}'
    )
    publish(tool, broker, "plain/count", "9007199254740993", "text")
    publish(tool, broker, "other/topic", "1")
    await until(lambda: len(sink.readings()) == 4)
    found = [(one["signal"], value_of(one)) for one in sink.readings()]

    assert found == [
        ("umh/v1/acme/berlin/_historian/temp/oven", 200.5),
        ("umh/v1/acme/berlin/_historian/temp/on", True),
        ("plain/count", 9007199254740993),
        ("plain/count", "text"),
    ]
    assert sink.readings()[0]["source_time"] == 1764000000123_000_000


async def test_what_is_not_durable_is_not_acknowledged_and_the_broker_sends_it_again(memory, broker, sink, tool):
    base = f"mqtt://127.0.0.1:{broker.port}/"
    first = Connect(memory, sink, SystemClock(), None, replace(QUICK, stop_wait_s=0.2))  # type: ignore[arg-type]
    await first.start()
    await first.add(SUPPLIER, Interface("plant", "mqtt", base, terms=(("topics", "a"),)))
    await until(lambda: first.scorecards(SUPPLIER)[0].connected, 20)
    sink.refuse = 10_000  # the disk is full
    publish(tool, broker, "a", *(str(n) for n in range(50)))
    await until(lambda: first.scorecards(SUPPLIER)[0].last_error == "records.disk-full")
    await first.stop()
    assert sink.readings() == []

    sink.refuse = 0
    again = Connect(memory, sink, SystemClock(), None, QUICK)  # type: ignore[arg-type]
    await again.start()
    await until(lambda: len(sink.readings()) >= 50, 20)
    await asyncio.sleep(0.2)
    await again.stop()

    assert [value_of(one) for one in sink.readings()] == list(range(50))


async def test_what_is_published_while_the_source_is_away_waits_at_the_broker(stage, broker, sink, tool):
    base = f"mqtt://127.0.0.1:{broker.port}/"
    await stage.add(SUPPLIER, Interface("plant", "mqtt", base, terms=(("topics", "a"),)))
    await until(lambda: stage.scorecards(SUPPLIER)[0].connected, 20)
    await stage.pause(SUPPLIER, "plant")
    publish(tool, broker, "a", *(str(n) for n in range(20)))
    await stage.resume(SUPPLIER, "plant")
    await until(lambda: len(sink.readings()) == 20, 20)

    assert [value_of(one) for one in sink.readings()] == list(range(20))


async def test_a_password_comes_from_the_store_and_a_wrong_one_is_said_so(memory, sink, tool, tmp_path):
    passwords = tmp_path / "passwords"
    subprocess.run([tool("mosquitto_passwd"), "-b", "-c", str(passwords), "reader", "right"], check=True)
    broker = Mosquitto(tool("mosquitto"), tmp_path, more=f"password_file {passwords}\n")
    broker.config.write_text(broker.config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
    await broker.start()
    base = f"mqtt://127.0.0.1:{broker.port}/"
    secrets = Secrets(tmp_path / "secrets.toml")
    secrets.keep(base, user="reader", password="wrong")
    stage = Connect(memory, sink, SystemClock(), None, QUICK, secrets=secrets)  # type: ignore[arg-type]
    await stage.start()
    await stage.add(SUPPLIER, Interface("plant", "mqtt", base))
    await until(lambda: stage.scorecards(SUPPLIER)[0].last_error == "connect.refused", 20)
    secrets.keep(base, user="reader", password="right")
    await until(lambda: stage.scorecards(SUPPLIER)[0].connected, 20)
    await stage.stop()
    await broker.stop()


def test_topics_of_forms_are_those_of_the_aid_specification():
    base = "mqtt://b:1883/"
    assert topic_of("a/%23", base) == "a/#"
    assert topic_of("/a/b", base) == "a/b"
    assert topic_of(".//a/b", base) == "/a/b"
    assert topic_of("mqtt://b:1883//a", base) == "/a"


async def test_the_topic_is_that_of_the_form_and_the_type_that_of_the_interface(stage, broker, sink, tool):
    items = (
        Property("t", type="number", form=Form("oven/t")),
        Property("code", type="string", form=Form("oven/code")),
        Property(
            "both", type="object", properties=(Property("x", type="integer"), Property("y")), form=Form("oven/both")
        ),
    )
    await stage.add(SUPPLIER, Interface("oven", "mqtt", f"mqtt://127.0.0.1:{broker.port}/", properties=items))
    await until(lambda: stage.scorecards(SUPPLIER)[0].connected, 20)
    for topic, text in (
        ("oven/t", "20"),
        ("oven/code", "0012"),
        ("oven/both", '{"x": 1, "y": "a", "z": 3}'),
        ("oven/else", "1"),
    ):
        publish(tool, broker, topic, text)
    await until(lambda: len(sink.readings()) == 4)

    assert [(one["signal"], value_of(one)) for one in sink.readings()] == [
        ("t", 20.0),
        ("code", "0012"),
        ("both/x", 1),
        ("both/y", "a"),
    ]
