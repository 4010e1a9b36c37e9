"""The simulated MTConnect agent counts what it offers."""

import time

import aiohttp

from guantong.demo.agent import BUFFER, Agent
from guantong.demo.plan import make_plan


async def test_a_state_that_is_asked_for_twice_offers_no_reading_twice() -> None:
    agent = Agent(make_plan(1, time.time_ns(), trouble=False))
    await agent.start()
    try:
        for second in range(1, BUFFER):
            await agent.tick(second + 0.5)  # between two changes of the execution state
        url = f"http://127.0.0.1:{agent.port}"
        async with aiohttp.ClientSession() as session:
            for path in ("current", "current", "sample?count=1000"):
                async with session.get(f"{url}/{path}") as answer:
                    assert answer.status == 200
                    await answer.read()
    finally:
        await agent.stop()

    assert agent.generated > BUFFER
    assert agent.sent > BUFFER, "the state told something that the ring no longer held"
    assert agent.offered == agent.generated
