"""How a part's name is read, and the rules that say why two names are one part. Pure.

Each rule is a row of a table, with an id, a version, a sentence in both languages and a confidence, so that a person can review it
and a match can name it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from guantong.fuse.model import Part, PartRule

__all__ = [
    "RULES",
    "Reading",
    "design_of",
    "joined",
    "part_from_json",
    "part_id",
    "part_to_json",
    "read_name",
    "same_design",
]

RULES: dict[str, PartRule] = {
    rule.id: rule
    for rule in (
        PartRule(
            "serial.plain", 1,
            "The serial is a number; leading zeros don't count.",
            "序列号就是数字，前导零不计。", 0.99),
        PartRule(
            "serial.of-lot", 1,
            "The serial reads “number of lot size”, as a machine's program writes it; the number counts.",
            "序列号写作“编号 of 批量”（机床程序的写法），取其中的编号。", 0.97),
        PartRule(
            "serial.inside", 1,
            "The serial is a longer text of words, exactly one of which is a number, at most with a letter before it; that number counts.",
            "序列号由多个词组成，其中恰有一个是数字（前面至多带一个字母），取该数字。", 0.95),
        PartRule(
            "serial.from-source", 1,
            "No serial is written; the file that the result came from lies in a folder named by a number, at most with a letter before it.",
            "未写序列号；结果来源文件所在文件夹以数字命名（前面至多带一个字母），取该数字。", 0.9),
        PartRule(
            "design.same-name", 1,
            "The designs have the same name; capitals and separators don't count.",
            "设计名称相同，大小写与分隔符不计。", 1.0),
        PartRule(
            "design.name-begins", 1,
            "One design's name begins with all words of the other's; what follows names the measuring programme.",
            "一方的设计名称以另一方名称的全部词开头，其后是测量程序的名称。", 0.97),
        PartRule(
            "characteristic.position", 1,
            "Both state the feature's place in the design, and kind and nominal agree.",
            "双方都给出特征在设计中的位置，且类型与名义值一致。", 0.99),
        PartRule(
            "characteristic.only-one", 1,
            "Each has exactly one characteristic of this kind and nominal.",
            "双方各有且仅有一个该类型、该名义值的特性。", 0.97),
        PartRule(
            "characteristic.near-nominal", 1,
            "Each has exactly one characteristic of this kind whose nominal differs by less than a tenth of the tolerance.",
            "双方各有且仅有一个该类型的特性，名义值之差不到公差的十分之一。", 0.9),
        PartRule(
            "characteristic.alike", 1,
            "Both have equally many characteristics of this kind and nominal; which of them is which can't be told, so they are paired in "
            "order. The confidence is one over their number.",
            "双方该类型、该名义值的特性数量相同，但无法分清一一对应，按顺序配对；可信度为数量的倒数。", 0.5),
        PartRule(
            "characteristic.measured-alike", 1,
            "Several groups have this kind and nominal; the one that is as large and whose measured values are clearly nearest is taken.",
            "有几组特性类型和名义值相同，取数量相等且实测值明显最接近的一组。", 0.6),
        PartRule(
            "characteristic.declared-otherwise", 1,
            "What is measured contradicts the declared nominal in every part and agrees with that of a feature which the other company "
            "declares as often: the tolerance was declared for another feature.",
            "每个零件的实测值都与所声明的名义值矛盾，却与对方数量相同的另一特征一致：公差声明到了别的特征上。", 0.8),
    )
}  # fmt: skip
"""The rules, by id."""

_PLAIN = re.compile(r"0*(\d{1,12})")
_OF = re.compile(r"0*(\d{1,12})\s*of\s*\d{1,12}", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z]?0*(\d{1,6})")
_SPLIT = re.compile(r"[\s_\-./\\:|#]+")


@dataclass(frozen=True, slots=True)
class Reading:
    """A part's name as read."""

    number: str
    rule: str
    written: str


def read_name(serial: str | None, source_uri: str | None = None) -> Reading | None:
    """The part's number as a serial, or else a source URI, gives it; None where no rule reads it."""
    if serial is not None and serial.strip():
        text = serial.strip()
        match = _PLAIN.fullmatch(text)
        if match:
            return Reading(match[1], "serial.plain", serial)
        match = _OF.fullmatch(text)
        if match:
            return Reading(match[1], "serial.of-lot", serial)
        words = [word for word in _SPLIT.split(text) if word]
        numbers = [match for match in map(_WORD.fullmatch, words) if match]
        if len(numbers) == 1 and len(words) > 1:
            return Reading(numbers[0][1], "serial.inside", serial)
        return None
    if source_uri:
        folders = [word for word in re.split(r"[\\/]+", source_uri.strip())[:-1] if word]
        numbers = [match for match in map(_WORD.fullmatch, folders) if match]
        if len(numbers) == 1:
            return Reading(numbers[0][1], "serial.from-source", source_uri)
    return None


def design_of(model: str | None) -> tuple[str, ...]:
    """Words of a design's name, lower case."""
    return tuple(word for word in _SPLIT.split((model or "").lower()) if word)


def same_design(left: str | None, right: str | None) -> str | None:
    """The rule by which two designs are one; None where they aren't."""
    one, other = design_of(left), design_of(right)
    if not one or not other:
        return None
    if one == other:
        return "design.same-name"
    short, long = sorted((one, other), key=len)
    return "design.name-begins" if long[: len(short)] == short and len(short) > 1 else None


def part_id(design: str, number: str) -> str:
    """Id of a part: readable, and the same wherever it is worked out."""
    plain = re.sub(r"[^a-z0-9]+", "-", design.lower()).strip("-")
    if len(plain) > 100 or not plain:
        plain = hashlib.sha256(design.encode()).hexdigest()[:16]
    return f"{plain}/{number}"


def join(design: str, number: str, names: Iterable[tuple[str, str]], rules: Iterable[str]) -> Part:
    """A part from its names and the rules that read them."""
    used = sorted(set(rules))
    confidence = 1.0
    for rule in used:
        confidence *= RULES[rule].confidence
    return Part(part_id(design, number), design, number, tuple(sorted(set(names))), tuple(used), round(confidence, 4))


def joined(parts: Sequence[Part]) -> list[Part]:
    """One part for each physical part, in the order given: what two companies call by two designs' names is one.

    Designs are one by :func:`same_design` if their names come from different origins (a company that writes two names means two
    designs) and each fits exactly one other. The part keeps the id that it has under the shorter name.
    """
    origins: dict[str, set[str]] = {}
    for part in parts:
        origins.setdefault(part.design, set()).update(origin for origin, _ in part.names)
    fitting = {
        one: [
            other for other in origins if other != one and not origins[one] & origins[other] and same_design(one, other)
        ]
        for one in origins
    }
    short: dict[str, str] = {}
    for one, others in fitting.items():
        if len(others) == 1 and len(fitting[others[0]]) == 1:
            short[one] = min(one, others[0], key=lambda name: (len(name), name))
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        groups.setdefault((short.get(part.design, part.design), part.serial), []).append(part)
    found = []
    for (design, serial), group in groups.items():
        if len(group) == 1:
            found += group
            continue
        rule = same_design(group[0].design, group[1].design) or "design.same-name"
        names = [name for part in group for name in part.names]
        found.append(join(design, serial, names, [rule, *(one for part in group for one in part.rules)]))
    return found


def part_to_json(part: Part) -> dict[str, Any]:
    """Plain JSON of a part."""
    return {
        "id": part.id,
        "design": part.design,
        "serial": part.serial,
        "names": [list(name) for name in part.names],
        "rules": list(part.rules),
        "confidence": part.confidence,
    }


def part_from_json(value: dict[str, Any]) -> Part:
    """The part of such JSON."""
    return Part(
        value["id"],
        value["design"],
        value["serial"],
        tuple((origin, name) for origin, name in value["names"]),
        tuple(value["rules"]),
        value["confidence"],
    )
