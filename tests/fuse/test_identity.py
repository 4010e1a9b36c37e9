"""Identity: what is a duplicate, what is a further revision, however the rows are cut."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.fuse.identity import NEVER, Keys, Recent, judge


def keys(rows: list[tuple[int, int, int, int, int]]) -> Keys:
    """Rows of (signal, time, sequence, value, status)."""
    signal, time, sequence, bits, status = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Keys(signal, time, sequence, np.ones(len(rows), np.int64), bits, status)


def run(rows: list[tuple[int, int, int, int, int]], cuts: list[int]) -> list[tuple[bool, int]]:
    """Each row's answer when the rows come in pieces; memory large enough to hold all."""
    memory = Recent(10_000)
    answers: list[tuple[bool, int]] = []
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for start, end in itertools.pairwise(edges):
        piece = keys(rows[start:end])
        suspects = memory.suspects(piece)
        duplicate, revision, _ = judge(piece, suspects, memory.same(piece.take(suspects)))
        answers += list(zip(duplicate.tolist(), revision.tolist(), strict=True))
        kept = piece.take(~duplicate)
        kept.revision = revision[~duplicate]
        memory.add(kept)
    return answers


def expected(rows: list[tuple[int, int, int, int, int]]) -> list[tuple[bool, int]]:
    """The rule, said plainly: a second implementation with dictionaries."""
    known: dict[tuple[int, int, int], list[tuple[int, int]]] = {}
    answers = []
    for signal, time, sequence, bits, status in rows:
        values = known.setdefault((signal, time, sequence), [])
        if (bits, status) in values:
            answers.append((True, 0))
        else:
            values.append((bits, status))
            answers.append((False, len(values) - 1))
    return answers


ROWS = st.lists(
    st.tuples(
        st.integers(1, 2),
        st.integers(-3, 3),
        st.sampled_from([NEVER, 1, 2]),
        st.integers(0, 2),
        st.sampled_from([0, 2**31]),
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(ROWS, st.lists(st.integers(1, 39), max_size=6))
def test_the_answer_is_the_same_however_rows_are_cut_into_batches(
    rows: list[tuple[int, int, int, int, int]], cuts: list[int]
) -> None:
    assert run(rows, cuts) == expected(rows)


def test_memory_says_for_which_times_it_is_incomplete() -> None:
    memory = Recent(10)
    for start in range(0, 40, 10):
        piece = keys([(1, time, NEVER, 0, 0) for time in range(start, start + 10)])
        piece.revision = np.zeros(10, np.int64)
        memory.add(piece)

    asked = keys([(1, 5, NEVER, 0, 0), (1, 29, NEVER, 0, 0), (1, 30, NEVER, 0, 0), (2, 5, NEVER, 0, 0)])
    assert memory.rows == 10
    assert memory.forgotten(asked).tolist() == [True, True, False, False]
    assert memory.suspects(asked).tolist() == [True, True, True, False]
