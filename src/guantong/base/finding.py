"""Findings: what is wrong in the data, said once, in the words of the data: kind, where, from when to when, and the facts.

Fuse and watch find; pages, reports and the demo's comparison with what was planted read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FINDING_KINDS", "Finding"]

FINDING_KINDS: Mapping[str, tuple[str, str]] = {
    "clock": ("Clock off", "时钟偏差"),
    "duplicate": ("Repeated stretch", "重复数据段"),
    "unit": ("Wrong unit", "单位错误"),
    "cut": ("Connection cut", "连接中断"),
    "late": ("Late data", "数据迟到"),
    "frozen": ("Frozen value", "数值冻结"),
    "serial": ("Serial written two ways", "序列号写法不一"),
    "drift": ("Drift towards a fault", "漂移趋向故障"),
    "tolerance": ("Tolerance declared for another feature", "公差声明有误"),
    "zone": ("Zone declared negative", "公差带声明为负"),
}
"""Kinds of findings with their names in English and Chinese."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    ``start`` and ``end`` are nanoseconds since the epoch on the receiver's time line (closed interval). ``signal`` is the source's own
    id, empty where the whole source is meant. ``facts`` hold figures with their unit in the name (``offset_s``, ``rows``).
    """

    kind: str
    source: str
    signal: str
    start: int
    end: int
    facts: Mapping[str, object] = field(default_factory=dict)
    id: str = ""
    """Identifier of the correction or record that lineage can name."""
