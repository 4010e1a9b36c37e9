"""Sources over the network: adapters and agents that answer, fall silent, are cut, and come back."""

from __future__ import annotations

import asyncio
import time

import pytest
from connect_peers import SUPPLIER, Adapter, Agent, ListSink, until, value_of

from guantong.base.errors import ConfigProblem
from guantong.connect import Interface
from guantong.connect.service import Connect
from guantong.records import Records


def shdr(adapter: Adapter, name: str = "mill") -> Interface:
    return Interface(name, "shdr", f"shdr://127.0.0.1:{adapter.port}")


def agent_interface(agent: Agent) -> Interface:
    return Interface("cell", "mtconnect", f"http://127.0.0.1:{agent.port}/", terms=(("interval_ms", "10"),))


async def test_every_line_of_a_real_recording_sent_by_an_adapter_arrives_once(connect, adapter, sink, data_dir):
    lines = (data_dir / "nist_smstestbed/raw/Mazak01-20161129-20161130.txt").read_text().splitlines()[:3000]
    await connect.add(SUPPLIER, shdr(adapter))
    await until(lambda: adapter.writers)
    adapter.say("\n".join(lines) + "\n")
    await until(lambda: connect.scorecards(SUPPLIER)[0].received == 3000)
    card = connect.scorecards(SUPPLIER)[0]

    assert [reading["signal"] for reading in sink.readings()] == [line.split("|")[1] for line in lines]
    assert card.connected
    assert card.received == card.lines == 3000
    assert card.rejected == 0
    assert len(sink.batches) < 30  # batches, not messages


async def test_pings_go_both_ways_and_a_silent_adapter_counts_as_lost(connect, adapter, sink):
    adapter.greeting = b"* PING\n2026-11-24T08:00:00.1234567Z|x|1\n"
    await connect.add(SUPPLIER, shdr(adapter))
    await until(lambda: sum(line == "* PING" for line in adapter.heard) >= 2)
    assert any(line.startswith("* PONG ") for line in adapter.heard)

    adapter.silent = True
    await until(lambda: sink.noted("connection"))
    lost = sink.noted("connection")[0]
    adapter.silent = False
    await until(lambda: len(sink.noted("connection")) == 2)

    assert lost["event"] == "lost"
    assert "connect.silent" in lost["reason"]
    assert sink.noted("connection")[1]["event"] == "back"
    assert sink.readings()[0]["source_time"] % 1_000_000_000 == 123_456_700
    gap = sink.noted("gaps")[0]
    assert (
        lost["at"] - gap["from"] >= 300_000_000
    )  # what was lost began with the last that was heard, not when it was noticed


async def test_an_adapter_that_never_answers_pings_may_be_quiet(connect, adapter, sink):
    adapter.interval_ms = None
    await connect.add(SUPPLIER, shdr(adapter))
    await until(lambda: adapter.writers)
    await asyncio.sleep(0.5)

    assert connect.scorecards(SUPPLIER)[0].connected
    assert sink.noted("connection") == []


async def test_a_cut_in_the_middle_of_a_line_quarantines_the_piece_and_records_the_gap(connect, adapter, sink, caplog):
    port = adapter.port
    await connect.add(SUPPLIER, shdr(adapter))
    await until(lambda: adapter.writers)
    adapter.say("2026-11-24T08:00:00Z|x|1\n2026-11-24T08:00:01Z|x|1")
    await until(lambda: len(sink.readings()) == 1)
    await adapter.cut()
    await until(lambda: sink.noted("connection"))
    await asyncio.sleep(0.3)  # several attempts at a closed port
    await adapter.open(port)
    await until(lambda: len(sink.noted("connection")) == 2)
    adapter.say("2026-11-24T08:00:02Z|x|3\n")
    await until(lambda: len(sink.readings()) == 2)

    assert [value_of(reading) for reading in sink.readings()] == [1, 3]
    assert [piece["reason"] for piece in sink.noted("quarantined")] == ["truncated"]
    (gap,) = sink.noted("gaps")
    assert (gap["unit"], gap["count"], gap["signal"]) == ("time", 0, None)
    assert gap["from"] < gap["to"]
    assert [event["event"] for event in sink.noted("connection")] == ["lost", "back"]
    assert sum("lost" in record.message for record in caplog.records) == 1
    assert connect.scorecards(SUPPLIER)[0].losses == 1


async def test_an_oversized_line_is_quarantined_and_the_next_one_read(connect, adapter, sink):
    await connect.add(SUPPLIER, shdr(adapter))
    await until(lambda: adapter.writers)
    adapter.say("2026-11-24T08:00:00Z|x|" + "9" * 3_000_000 + "\n2026-11-24T08:00:01Z|x|2\n")
    await until(lambda: sink.readings())

    assert [value_of(reading) for reading in sink.readings()] == [2]
    assert [piece["reason"] for piece in sink.noted("quarantined")] == ["too-long"]


async def test_a_sink_that_can_not_write_loses_nothing(connect, adapter, sink):
    sink.refuse = 3
    await connect.add(SUPPLIER, shdr(adapter))
    await until(lambda: adapter.writers)
    for number in range(50):
        adapter.say(f"2026-11-24T08:00:{number:02d}Z|x|{number}\n")
        await asyncio.sleep(0.002)
    await until(lambda: len(sink.readings()) == 50)

    assert [value_of(reading) for reading in sink.readings()] == list(range(50))


async def test_sources_survive_a_restart_and_names_are_unique(
    memory: Records, sink: ListSink, connect: Connect, adapter
):
    await connect.add(SUPPLIER, shdr(adapter))
    with pytest.raises(ConfigProblem) as caught:
        await connect.add(SUPPLIER, shdr(adapter))
    await connect.stop()
    again = Connect(memory, sink, connect._clock, connect._http, connect._settings)
    await again.start()
    await until(lambda: again.scorecards(SUPPLIER)[0].connected)
    await again.pause(SUPPLIER, "mill")
    paused = again.scorecards(SUPPLIER)[0].state
    await again.remove(SUPPLIER, "mill")
    await again.stop()

    assert caught.value.code == "connect.source-exists"
    assert paused == "stopped"
    assert again.interfaces(SUPPLIER) == []


async def test_an_agent_is_followed_and_its_numbers_names_and_units_kept(connect, agent, sink):
    for number in range(10):
        agent.tell("Mazak01-X_1", f"{number}.5")
    agent.tell("Mazak01-path_13", "ACTIVE", group="Events", tag="Execution")
    agent.tell("Mazak01-X_1", "UNAVAILABLE")
    await connect.add(SUPPLIER, agent_interface(agent))
    await until(lambda: len(sink.readings()) == 12)
    for number in range(10, 15):
        agent.tell("Mazak01-X_1", f"{number}.5")
    await until(lambda: len(sink.readings()) == 17)

    assert [reading["sequence"] for reading in sink.readings()] == list(range(1, 18))
    assert value_of(sink.readings()[10]) == "ACTIVE"
    assert (value_of(sink.readings()[11]), sink.readings()[11]["status"]) == (None, 0x80000000)
    assert sink.noted("units")[0]["Mazak01-X_1"] == "MILLIMETER"
    name = sink.noted("names")[0]["Mazak01-X_1"]
    assert name == {"name": "Xabs", "path": "Mazak01/base/X", "type": "POSITION:ACTUAL", "category": "SAMPLE"}
    assert sink.noted("gaps") == []
    assert connect._http.zones == {"plant"}


@pytest.mark.parametrize("pushes", [True, False])
async def test_a_cut_within_the_ring_loses_nothing_and_one_beyond_it_is_counted_exactly(connect, agent, sink, pushes):
    agent.pushes = pushes
    agent.size, port = 20, agent.port
    for number in range(5):
        agent.tell("Mazak01-X_1", str(number))
    await connect.add(SUPPLIER, agent_interface(agent))
    await until(lambda: len(sink.readings()) == 5)
    await agent.cut()
    await until(lambda: sink.noted("connection"))
    for number in range(5, 15):
        agent.tell("Mazak01-X_1", str(number))
    await agent.open(port)
    await until(lambda: len(sink.readings()) == 15)

    assert [reading["sequence"] for reading in sink.readings()] == list(range(1, 16))
    assert sink.noted("gaps") == []

    await agent.cut()
    await until(lambda: len(sink.noted("connection")) == 3)
    agent.tell(
        "Mazak01-path_13", "STOPPED", group="Events", tag="Execution"
    )  # number 16, only `current` still tells it
    for number in range(50):
        agent.tell("Mazak01-X_1", str(number))
    await agent.open(port)
    await until(lambda: sink.readings()[-1]["sequence"] == 66)
    gaps = sink.noted("gaps")

    assert [(gap["from"], gap["to"], gap["count"], gap["unit"]) for gap in gaps] == [(17, 46, 30, "sequence")]
    assert sorted(reading["sequence"] for reading in sink.readings()) == [*range(1, 17), *range(47, 67)]
    assert connect.scorecards(SUPPLIER)[0].gaps == 30
    # offered = received + gaps
    assert agent.next - 1 == len(sink.readings()) + sum(gap["count"] for gap in gaps)


async def test_numbers_that_an_agent_leaves_out_are_gaps(connect, agent, sink):
    agent.hidden = {3, 4, 8}
    for number in range(10):
        agent.tell("Mazak01-X_1", str(number))
    await connect.add(SUPPLIER, agent_interface(agent))
    await until(lambda: len(sink.readings()) == 7)

    assert [(gap["from"], gap["to"], gap["count"]) for gap in sink.noted("gaps")] == [(3, 4, 2), (8, 8, 1)]


async def test_an_agent_started_anew_is_noticed_and_read_from_its_first_number(connect, agent, sink):
    for number in range(5):
        agent.tell("Mazak01-X_1", str(number))
    await connect.add(SUPPLIER, agent_interface(agent))
    await until(lambda: len(sink.readings()) == 5)
    agent.restart()
    for number in range(3):
        agent.tell("Mazak01-X_1", str(number))
    await until(lambda: len(sink.readings()) == 8)

    assert [reading["sequence"] for reading in sink.readings()] == [1, 2, 3, 4, 5, 1, 2, 3]
    (gap,) = sink.noted("gaps")
    assert gap["reason"] == "agent started anew"
    assert gap["count"] == 0


async def test_after_a_restart_of_ours_an_agent_is_read_on_where_we_stopped(memory, sink, connect, agent):
    for number in range(5):
        agent.tell("Mazak01-X_1", str(number))
    await connect.add(SUPPLIER, agent_interface(agent))
    await until(lambda: len(sink.readings()) == 5)
    await connect.stop()
    for number in range(5, 9):
        agent.tell("Mazak01-X_1", str(number))
    again = Connect(memory, sink, connect._clock, connect._http, connect._settings)
    await again.start()
    await until(lambda: len(sink.readings()) >= 9)
    await again.stop()

    assert [reading["sequence"] for reading in sink.readings()] == list(range(1, 10))


async def test_an_entity_bomb_from_an_agent_is_quarantined_and_the_agent_asked_again(connect, agent, sink):
    agent.tell("Mazak01-X_1", "1")
    await connect.add(SUPPLIER, agent_interface(agent))
    await until(lambda: sink.readings())
    agent.body = b'<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><MTConnectStreams>&b;</MTConnectStreams>'
    agent.tell("Mazak01-X_1", "2")
    await until(lambda: sink.noted("quarantined"))
    agent.body = None
    await until(lambda: len(sink.readings()) == 2)

    assert [piece["reason"] for piece in sink.noted("quarantined")] == ["hostile"]
    assert [reading["sequence"] for reading in sink.readings()] == [1, 2]


async def test_our_own_slowness_is_not_taken_for_the_adapters_silence(connect, adapter, sink, monkeypatch):
    take = sink.take

    async def slow(participant, batch):
        if batch.rows.num_rows:
            time.sleep(0.6)  # the whole loop stands still for longer than two heartbeats
            await asyncio.sleep(0.6)
        return await take(participant, batch)

    monkeypatch.setattr(sink, "take", slow)
    await connect.add(SUPPLIER, shdr(adapter))
    await until(lambda: sum(line == "* PING" for line in adapter.heard) >= 2)
    for number in range(3):
        adapter.say(f"2026-11-24T08:00:0{number}Z|x|{number}\n" * 12_000)
    await until(lambda: len(sink.readings()) == 36_000, 20)

    assert sink.noted("connection") == []
    assert connect.scorecards(SUPPLIER)[0].losses == 0
