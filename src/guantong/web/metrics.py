"""Prometheus text by hand: a few counts per participant, straight from the services' own accounts.

Source: Prometheus exposition format 0.0.4.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from guantong.base.errors import GuantongError
from guantong.web.rooms import Rooms

__all__ = ["METRICS", "exposition"]

_LOG = logging.getLogger("guantong.web")

METRICS: dict[str, tuple[str, str]] = {
    "guantong_up": ("gauge", "1 while the node runs"),
    "guantong_source_connected": ("gauge", "1 while a source is connected"),
    "guantong_source_readings_total": ("counter", "Readings handed on by a source since it started"),
    "guantong_source_gaps_total": ("counter", "Readings a source says are missing"),
    "guantong_source_rejected_total": ("counter", "Lines or observations quarantined"),
    "guantong_source_lag_seconds": ("gauge", "Receive time minus source time of the newest reading"),
    "guantong_readings_received_total": ("counter", "Rows that arrived: kept, duplicates and quarantined together"),
    "guantong_readings_kept_total": ("counter", "Rows kept"),
    "guantong_readings_duplicates_total": ("counter", "Rows recognised as repeated"),
    "guantong_readings_quarantined_total": ("counter", "Rows put into quarantine"),
    "guantong_table_rows": ("gauge", "Readings in the tables, all revisions"),
    "guantong_table_bytes": ("gauge", "Bytes of the tables"),
    "guantong_log_bytes": ("gauge", "Bytes of the durable log"),
    "guantong_evidence_leaves": ("gauge", "Leaves in the evidence tree"),
    "guantong_evidence_behind": ("gauge", "Leaves recorded but not yet in the tree"),
    "guantong_outbox_stuck": ("gauge", "Messages that a person must look at"),
    "guantong_pages_watched": ("gauge", "Pages open with live values"),
}
"""Every metric: its type and what it counts."""


def _label(**labels: str) -> str:
    def quoted(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{quoted(value)}"' for name, value in labels.items()) + "}"


async def exposition(rooms: Rooms, watched: int) -> str:
    """The page for the collector. A stage that does not answer leaves its metrics out; the rest is served."""
    me = _label(participant=rooms.participant)
    found: dict[str, list[tuple[str, float]]] = {"guantong_up": [("", 1)], "guantong_pages_watched": [("", watched)]}

    def put(name: str, value: float | None, labels: str = me) -> None:
        if value is not None:
            found.setdefault(name, []).append((labels, value))

    for card in rooms.connect.scorecards(rooms.participant):
        source = _label(participant=rooms.participant, source=card.source, kind=card.kind)
        put("guantong_source_connected", int(card.connected), source)
        put("guantong_source_readings_total", card.received, source)
        put("guantong_source_gaps_total", card.gaps, source)
        put("guantong_source_rejected_total", card.rejected, source)
        put("guantong_source_lag_seconds", card.lag_s, source)
    try:
        counts = await rooms.fuse.counts(rooms.participant)
        put("guantong_readings_received_total", counts.received)
        put("guantong_readings_kept_total", counts.kept)
        put("guantong_readings_duplicates_total", counts.duplicates)
        put("guantong_readings_quarantined_total", counts.quarantined)
        stats = await rooms.keep.stats(rooms.participant)
        put("guantong_table_rows", stats.rows)
        put("guantong_table_bytes", stats.bytes)
        put("guantong_log_bytes", stats.log_bytes)
        view = await rooms.prove.view(rooms.participant)
        put("guantong_evidence_leaves", view.size)
        put("guantong_evidence_behind", view.behind)
        put("guantong_outbox_stuck", len(await rooms.outbox.stuck(rooms.participant)))
    except GuantongError as error:
        _LOG.warning("metrics are incomplete: %s", error)
    return "".join(_lines(found))


def _lines(found: dict[str, list[tuple[str, float]]]) -> Iterable[str]:
    for name, (kind, help_text) in METRICS.items():
        if name in found:
            yield f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n"
            for labels, value in found[name]:
                yield f"{name}{labels} {value:.15g}\n"
