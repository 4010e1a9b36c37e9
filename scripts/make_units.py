"""Makes src/guantong/base/units_auto.json from QUDT's unit vocabulary.

    .venv/bin/python scripts/make_units.py [../shared/data/qudt/VOCAB_QUDT-UNITS-ALL.ttl]

The Turtle file is QUDT's own serialisation: one block a unit, two spaces before each predicate. Lines of
long quoted text are left out, so a line pattern reads it safely; a block without a name, a factor or a dimension stops the run.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT.parent / "shared" / "data" / "qudt" / "VOCAB_QUDT-UNITS-ALL.ttl"
TARGET = ROOT / "src" / "guantong" / "base" / "units_auto.json"
LINE = re.compile(r"  (?:qudt:|rdfs:|skos:)(\w+) (.*?) ?[;.]$")
TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"(?:\^\^qudt:UCUMcs|@en(?:-\w+)?)?$')


def blocks(lines: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    name, quoted = "", False
    for line in lines:
        outside, quoted = not quoted, quoted ^ (line.count('"""') % 2 == 1)
        if not outside:
            continue
        if line.startswith("unit:"):
            name = line.strip().removeprefix("unit:").removesuffix(" .").replace("\\", "")
            found[name] = []
        elif line and not line.startswith(" "):
            name = ""
        elif name:
            found[name].append(line)
    return found


def read(lines: list[str]) -> dict[str, list[str]]:
    facts: dict[str, list[str]] = {}
    for line in lines:
        match = LINE.match(line)
        if match:
            key, value = match.groups()
            text = TEXT.match(value)
            facts.setdefault(key, []).append(text[1] if text else value)
    return facts


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else SOURCE
    kinds: dict[str, int] = {}
    units = []
    for name, lines in sorted(blocks(source.read_text(encoding="utf-8").splitlines()).items()):
        facts = read(lines)
        factor = facts.get("conversionMultiplier", ["0"])[0]
        codes = [facts.get(key, []) for key in ("ucumCode", "uneceCommonCode", "iec61360Code")]
        if float(factor) == 0.0 or not any(codes) or "dcterms:isReplacedBy" in " ".join(lines):
            continue  # no factor: units of currencies, scales and logarithms can't be converted by one
        dimension = facts["hasDimensionVector"][0].removeprefix("qkdv:")
        own = [
            kind.removeprefix("quantitykind:")
            for key in ("hasQuantityKind", "unitForQuantityKind")
            for kind in facts.get(key, [])
        ]
        labels = [text for text in facts.get("label", []) if text.isascii() and not text.startswith(chr(34))]
        units.append(
            [
                name,
                *codes,
                facts.get("symbol", [""])[0],
                labels[0] if labels else "",
                factor,
                facts.get("conversionOffset", ["0"])[0],
                dimension,
                sorted({kinds.setdefault(kind, len(kinds)) for kind in own}),
            ]
        )
    document = {
        "generated": "by scripts/make_units.py; do not edit",
        "source": "QUDT unit vocabulary, https://qudt.org, CC BY 4.0",
        "columns": ["qudt", "ucum", "unece", "iec61360", "symbol", "label", "factor", "offset", "dimension", "kinds"],
        "kinds": list(kinds),
        "units": units,
    }
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    TARGET.write_text(text.replace('],["', '],\n["') + "\n", encoding="utf-8")
    print(f"{len(units)} units, {len(kinds)} kinds, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
