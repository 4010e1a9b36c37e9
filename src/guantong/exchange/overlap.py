"""Differencing: what earlier answers and a new one say together about a few.

Every released number is one over a known set of units. Two sets that differ by a few units give the number of those few by
subtraction, and so may a longer chain of sums and differences. Both are looked for before an answer is released:

- pairs, exactly: a new set and an earlier one may not differ by fewer than ``floor`` units, on either side;
- chains: units that no released set tells apart form an atom. Over the rational numbers modulo a large prime it is decided whether some
  combination of all released sets leaves one atom smaller than ``floor`` alone (Chin and Özsoyoğlu 1982, "Auditing and inference control in
  statistical databases"). Combinations that leave several small atoms together are found only where elimination meets them.

What is not seen: what an asker knows from elsewhere, and askers who share their answers under two names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["isolated"]

PRIME = 2**61 - 1
"""The elimination is done modulo this; a wrong verdict needs a determinant that it divides."""


def isolated(earlier: Iterable[frozenset[bytes]], new: Iterable[frozenset[bytes]], floor: int) -> str:
    """Why the new sets can't be released beside the earlier ones, empty where they can.

    Sets of units; ``floor``: fewest units that may be told about together.
    """
    known = list(dict.fromkeys(earlier))
    have = set(known)
    for one in dict.fromkeys(new):
        if one in have:
            continue
        for other in known:
            for few in (len(one - other), len(other - one)):
                # one side empty and the other large is a plain subset: what remains is large
                if 0 < few < floor:
                    return f"an earlier answer and this one differ by {few} of at least {floor}"
        known.append(one)
        have.add(one)
    return _chained(known, floor)


def _chained(sets: Sequence[frozenset[bytes]], floor: int) -> str:
    atoms: dict[bytes, list[int]] = {}
    for number, one in enumerate(sets):
        for unit in one:
            atoms.setdefault(unit, []).append(number)
    sizes: dict[tuple[int, ...], int] = {}
    for members in atoms.values():
        key = tuple(members)
        sizes[key] = sizes.get(key, 0) + 1
    columns = sorted(sizes)
    small = {place for place, key in enumerate(columns) if sizes[key] < floor}
    if not small:
        return ""
    rows = [[0] * len(columns) for _ in sets]
    for place, key in enumerate(columns):
        for number in key:
            rows[number][place] = 1
    # large atoms first: what elimination leaves at the end speaks of small ones alone
    order = [place for place in range(len(columns)) if place not in small] + sorted(small)
    for row in _reduced(rows, order):
        told = [place for place, value in enumerate(row) if value]
        size = sum(sizes[columns[place]] for place in told)
        if set(told) <= small and size < floor:
            return f"earlier answers and this one together single out {size} of at least {floor}"
    return ""


def _reduced(rows: list[list[int]], order: Sequence[int]) -> list[list[int]]:
    """The rows in reduced echelon form over the field, pivots taken in ``order``; an atom is alone exactly where a row of it is."""
    done = 0
    for column in order:
        pivot = next((at for at in range(done, len(rows)) if rows[at][column]), None)
        if pivot is None:
            continue
        rows[done], rows[pivot] = rows[pivot], rows[done]
        inverse = pow(rows[done][column], -1, PRIME)
        rows[done] = [value * inverse % PRIME for value in rows[done]]
        for at, row in enumerate(rows):
            if at != done and row[column]:
                factor = row[column]
                rows[at] = [(value - factor * lead) % PRIME for value, lead in zip(row, rows[done], strict=True)]
        done += 1
    return rows[:done]
