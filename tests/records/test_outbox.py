"""The outbox: after the commit, in order within a lane, until it arrives or a person must look."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from guantong.base.clock import SystemClock
from guantong.base.errors import Refused, Retryable
from guantong.records import METADATA, Message, Records
from guantong.records.outbox import Outbox, OutboxSettings
from guantong.records.tables import OUTBOX

ME = "did:web:me.example"
QUICK = OutboxSettings(first_backoff_s=0.001, longest_backoff_s=0.004, attempts=5, note_after_s=0.001)


@pytest.fixture
def file_records(tmp_path):
    records = Records(f"sqlite:///{tmp_path / 'records.db'}", SystemClock())
    records.open(METADATA.create_all)
    yield records
    records.close()


@pytest.fixture
async def outbox(file_records):
    outbox = Outbox(file_records, SystemClock(), QUICK)
    yield outbox
    await outbox.stop()


class Partner:
    """Receives; what ``answers`` holds for a key is raised, one by one."""

    def __init__(self):
        self.got: list[str] = []
        self.attempts: list[tuple[str, int]] = []
        self.answers: dict[str, list[Exception]] = {}

    async def send(self, participant, message, attempt):
        self.attempts.append((message.key, attempt))
        waiting = self.answers.get(message.key)
        if waiting:
            raise waiting.pop(0)
        self.got.append(message.key)


def busy():
    return Retryable("exchange.partner-busy", partner="p", status=503, message="m")


async def queue(records, *keys, lane="p 1", kind="k"):
    async with records.step(ME) as step:
        for key in keys:
            step.send(Message(lane, kind, key, {"n": key}))


def states(records):
    return {row["key"]: row["state"] for row in records.rows_now(select(OUTBOX))}


async def test_a_message_leaves_after_its_commit_and_is_noted_as_sent(file_records, outbox):
    partner = Partner()
    outbox.register("k", partner.send)
    await outbox.start()

    await queue(file_records, "a", "b")
    await asyncio.wait_for(outbox.drained(), 5)

    assert partner.got == ["a", "b"]
    assert states(file_records) == {"a": "sent", "b": "sent"}


async def test_a_step_that_fails_sends_nothing(file_records, outbox):
    partner = Partner()
    outbox.register("k", partner.send)
    await outbox.start()

    with pytest.raises(Retryable):
        async with file_records.step(ME) as step:
            step.send(Message("p", "k", "a", {}))
            step.update(OUTBOX, {"kind": "k", "key": "absent"}, {"state": "sent"})
    await queue(file_records, "b")
    await asyncio.wait_for(outbox.drained(), 5)

    assert partner.got == ["b"]


async def test_a_key_is_sent_once_even_if_it_is_queued_again(file_records, outbox):
    partner = Partner()
    outbox.register("k", partner.send)
    await outbox.start()

    for _ in range(3):
        await queue(file_records, "a")
        await asyncio.wait_for(outbox.drained(), 5)

    assert partner.got == ["a"]


async def test_a_failing_message_holds_its_lane_in_order_and_no_other_lane(file_records):
    got = []

    async def send(participant, message, attempt):
        if message.key == "a" and "c" not in got:
            raise busy()
        got.append(message.key)

    outbox = Outbox(file_records, SystemClock(), OutboxSettings(first_backoff_s=0.001, attempts=10_000))
    outbox.register("k", send)
    await outbox.start()
    await queue(file_records, "a", "b", lane="p 1")
    await queue(file_records, "c", lane="p 2")
    await asyncio.wait_for(outbox.drained(), 30)
    await outbox.stop()

    assert got == ["c", "a", "b"]


async def test_after_the_last_attempt_a_person_sees_it_and_can_retry(file_records, outbox):
    partner = Partner()
    partner.answers["a"] = [busy() for _ in range(5)]
    outbox.register("k", partner.send)
    await outbox.start()

    await queue(file_records, "a", "b")
    await asyncio.wait_for(outbox.drained(), 5)
    stuck = await outbox.stuck(ME)
    await outbox.retry(ME, "k", "a")
    await asyncio.wait_for(outbox.drained(), 5)

    assert [(item.key, item.attempts, item.lane) for item in stuck] == [("a", 5, "p 1")]
    assert "503" in stuck[0].error
    assert partner.got == ["b", "a"]
    assert await outbox.stuck(ME) == []


async def test_a_refusal_is_not_repeated(file_records, outbox):
    partner = Partner()
    partner.answers["a"] = [Refused("exchange.process-unknown", pid="x")]
    outbox.register("k", partner.send)
    await outbox.start()

    await queue(file_records, "a")
    await asyncio.wait_for(outbox.drained(), 5)

    assert partner.attempts == [("a", 1)]
    assert states(file_records) == {"a": "gave-up"}
    with pytest.raises(Retryable):
        await outbox.retry(ME, "k", "none")


async def test_a_sender_s_own_bug_stops_no_lane(file_records, outbox, caplog):
    partner = Partner()
    partner.answers["a"] = [ZeroDivisionError("oops")]
    outbox.register("k", partner.send)
    await outbox.start()

    await queue(file_records, "a", "b")
    await asyncio.wait_for(outbox.drained(), 5)

    assert partner.got == ["b"]
    assert states(file_records)["a"] == "gave-up"


async def test_a_kind_without_sender_is_given_up_visibly(file_records, outbox):
    await outbox.start()

    await queue(file_records, "a", kind="unheard")
    await asyncio.wait_for(outbox.drained(), 5)

    assert "records.sender-missing" in (await outbox.stuck(ME))[0].error


async def test_what_was_not_sent_leaves_after_a_restart_in_order(file_records):
    await queue(file_records, "a", "b", "c")
    partner = Partner()
    again = Outbox(file_records, SystemClock(), QUICK)
    again.register("k", partner.send)

    await again.start()
    await queue(file_records, "d")
    await asyncio.wait_for(again.drained(), 5)
    await again.stop()

    assert partner.got == ["a", "b", "c", "d"]


async def test_what_arrived_before_a_stop_is_not_sent_again(file_records):
    first = Partner()
    before = Outbox(file_records, SystemClock(), OutboxSettings(note_after_s=60))
    before.register("k", first.send)
    await before.start()
    await queue(file_records, "a")
    while not first.got:
        await asyncio.sleep(0.001)
    await before.stop()

    second = Partner()
    after = Outbox(file_records, SystemClock(), QUICK)
    after.register("k", second.send)
    await after.start()
    await asyncio.wait_for(after.drained(), 5)
    await after.stop()

    assert (first.got, second.got) == (["a"], [])


async def test_the_wait_doubles_up_to_its_cap(records, clock):
    waits = []

    class Clock:
        now = staticmethod(clock.now)
        monotonic = staticmethod(clock.monotonic)

        async def sleep(self, seconds):
            waits.append(seconds)
            await asyncio.sleep(0)

    partner = Partner()
    partner.answers["a"] = [busy() for _ in range(12)]
    outbox = Outbox(records, Clock(), OutboxSettings())
    outbox.register("k", partner.send)
    await outbox.start()
    await queue(records, "a")
    await outbox.drained()
    await outbox.stop()

    assert waits[:12] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


async def test_a_partner_that_shows_life_is_sent_at_once_what_waits_for_it(file_records):
    partner = Partner()
    partner.answers["a"] = [busy() for _ in range(3)]
    hour = OutboxSettings(first_backoff_s=3600, longest_backoff_s=3600, attempts=2)
    outbox = Outbox(file_records, SystemClock(), hour)
    outbox.register("k", partner.send)
    await outbox.start()
    await queue(file_records, "a", "b", lane="p 1")

    for _ in range(50):
        outbox.wake(ME, "q")
        outbox.wake("did:web:other.example", "p")
        await asyncio.sleep(0.001)
    waited = len(partner.attempts)
    async with asyncio.timeout(5):
        while partner.got != ["a", "b"]:
            outbox.wake(ME, "p")
            await asyncio.sleep(0.001)
    await outbox.stop()

    assert waited == 1
    assert partner.attempts == [("a", 1), ("a", 1), ("a", 1), ("a", 1), ("b", 1)]


async def test_old_sent_messages_are_forgotten_and_others_kept(records, clock):
    partner = Partner()
    partner.answers["b"] = [Refused("exchange.process-unknown", pid="x")]
    outbox = Outbox(records, clock, QUICK)
    outbox.register("k", partner.send)
    await outbox.start()
    await queue(records, "a", "b")
    await outbox.drained()

    clock.advance(2 * 86_400)
    await queue(records, "c")
    await outbox.drained()
    await outbox.stop()

    assert states(records) == {"b": "gave-up", "c": "sent"}


async def test_many_messages_to_one_partner_keep_within_the_limit(records, clock):
    under_way = most = 0

    async def send(participant, message, attempt):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1

    outbox = Outbox(records, clock, OutboxSettings(per_partner=4))
    outbox.register("k", send)
    await outbox.start()
    for n in range(20):
        await queue(records, str(n), lane=f"p {n}")
    await outbox.drained()
    await outbox.stop()

    assert most == 4
