"""Edges of lineage: written once, however often they are stated."""

from __future__ import annotations

from sqlalchemy import func, select

from guantong.records import Edge
from guantong.records.tables import EDGES

ME = "did:web:supplier.example"


async def test_a_known_edge_is_left_alone_and_keeps_its_instant(records, clock):
    async with records.step(ME) as step:
        step.link(Edge("a:b:1", "a:b:2", "derived"))
    first = clock.now()
    clock.advance(5)
    async with records.step(ME) as step:
        step.link(Edge("a:b:1", "a:b:2", "derived"), Edge("a:b:1", "a:b:2", "covers"), Edge("a:b:1", "a:b:2", "covers"))
    rows = await records.rows(select(EDGES).order_by(EDGES.c.relation))

    assert [(row["relation"], row["recorded_at"]) for row in rows] == [("covers", clock.now()), ("derived", first)]


async def test_a_step_may_carry_thousands_of_edges(records):
    async with records.step(ME) as step:
        step.link(*(Edge(f"a:b:{n}", f"a:c:{n % 7}", "derived") for n in range(3000)))
    counted = await records.row(select(func.count().label("n")).select_from(EDGES))

    assert counted is not None
    assert counted["n"] == 3000
