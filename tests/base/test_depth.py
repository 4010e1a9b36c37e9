"""Depth of JSON text, counted before anything recurses."""

import json

from hypothesis import given
from hypothesis import strategies as st

from guantong.base.depth import too_deep

VALUES = st.recursive(
    st.none() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=30,
)


def levels(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


@given(VALUES, st.integers(0, 6))
def test_depth_is_that_of_the_parsed_value_whatever_its_strings_hold(value: object, most: int) -> None:
    assert too_deep(json.dumps(value).encode(), most) == (levels(value) > most)


def test_a_bracket_within_a_string_is_no_level() -> None:
    assert not too_deep(json.dumps(["[" * 500, '\\"[{' * 500]).encode())


def test_megabytes_of_quotes_and_escapes_are_read_in_one_pass() -> None:
    for text in (b'"' + b'\\"' * 2_000_000, b"[" * 4_000_000, b'["' * 2_000_000, b'[]"\\' * 1_000_000):
        too_deep(text)
