"""What the pages Settings and Help show."""

from __future__ import annotations

from typing import Any

from guantong.journey import JOURNEY
from guantong.web.ask import Ask, time_of
from guantong.web.rooms import Rooms

__all__ = ["help_page", "overview"]


async def overview(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Settings with where each value comes from, health lines, stuck messages."""
    stuck = await rooms.outbox.stuck(rooms.participant)
    return {
        "settings": [
            {"name": name, "stage": name.partition(".")[0], **{key: _plain(value) for key, value in row.items()}}
            for name, row in sorted(rooms.config.items())
        ],
        "health": [
            *({"name": name, "code": "", "facts": {}, **dict(row)} for name, row in rooms.health().items()),
            {
                "name": "outbox",
                "state": "waiting" if stuck else "running",
                "code": "",
                "facts": {},
                "stuck": len(stuck),
            },
        ],
        "stuck": [
            {
                "kind": one.kind,
                "key": one.key,
                "lane": one.lane,
                "attempts": one.attempts,
                "error": one.error,
                "created_at": time_of(one.created_at),
            }
            for one in stuck[:50]
        ],
        "version": rooms.version,
        "participant": rooms.participant,
        "name": rooms.name,
        "address": rooms.base_url,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [str(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


async def help_page(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """The journey in ten sentences and the words of the field."""
    return {
        "stages": [
            {
                "name": stage.name,
                "zh": stage.zh,
                "mark": stage.mark,
                "en_text": stage.sentence_en,
                "zh_text": stage.sentence_zh,
            }
            for stage in JOURNEY
        ],
        "version": rooms.version,
        "address": rooms.base_url,
    }
