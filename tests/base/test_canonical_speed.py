"""The quick way to canonical bytes gives the very bytes of the reference, whatever the value."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base import canonical
from guantong.base.errors import Skippable

texts = (
    st.text()
    | st.text(st.characters(max_codepoint=0x9F))
    | st.sampled_from(["\u2028", "\x7f", "\ud800", "\U0001f600", "\ufb33"])
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([2**53 - 1, 2**53, -(2**53)]) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(values)
@settings(max_examples=400)
def test_both_ways_agree_in_bytes_and_in_refusal(value):
    try:
        wanted = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        with pytest.raises(Skippable):
            canonical.canonical_bytes(value)
    else:
        assert canonical.canonical_bytes(value) == wanted


def test_every_character_is_escaped_alike():
    for start in range(0, 0x3000, 64):
        text = "".join(chr(code) for code in range(start, start + 64))
        assert canonical.canonical_bytes({"a": text}) == rfc8785.dumps({"a": text})
