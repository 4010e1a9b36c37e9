"""How deep JSON text is nested, counted before anything recurses.

Python's parser goes down with the text; where a library has raised the recursion limit (property testing does), depth would not end in an
exception but in the end of the process. Whoever reads JSON of a stranger asks here first.
"""

from __future__ import annotations

import re

__all__ = ["DEEPEST", "too_deep"]

DEEPEST = 64
"""Levels that documents of strangers may have; none of ours has more than twelve."""

_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_ALL_BUT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_OPENING = frozenset(b"[{")


def too_deep(text: bytes, most: int = DEEPEST) -> bool:
    """Whether arrays and objects of the JSON text stand more than ``most`` levels inside each other; in one pass, whatever the text is."""
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    # escapes gone, what stands between an odd and an even quotation mark is a string
    outside = b"".join(_ESCAPED.sub(b"", text).split(b'"')[::2]).translate(None, _ALL_BUT_BRACKETS)
    level = 0
    for mark in outside:
        if mark in _OPENING:
            level += 1
            if level > most:
                return True
        else:
            level -= 1
    return False
