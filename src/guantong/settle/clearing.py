"""The greatest circulation within debts, by the HiGHS solver in SciPy. What it finds is proven by :mod:`guantong.settle.netting`.

The sum that can be set off is one number; which debts it falls on is not. Ties are broken by a second objective over the debts that the
first leaves open: ranks drawn from the digest of the input, so that nobody is favoured by name. The same input gives the same answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from guantong.base.errors import Refused
from guantong.settle.netting import Obligation, certificate, check, gathered, input_root

__all__ = ["clear"]

_OPTIONS = {"presolve": False, "simplex_dual_edge_weight_strategy": "devex"}
"""Presolve costs ten times what it saves here (measured: 1.6 s against 0.13 s for 1,000 parties and 18,700 debts)."""


def clear(obligations: Iterable[Obligation], *, currency: str) -> dict[str, Any]:
    """Set off as much as there is. Returns a certificate that :func:`guantong.settle.netting.check` has accepted.

    Raises Skippable ``settle.obligation-unusable``, Refused ``settle.netting-unproven`` where the solver's answer is not proven.
    """
    import scipy

    debts = gathered(obligations)
    name = {"name": "HiGHS (scipy.optimize.linprog)", "version": scipy.__version__, "unique": True}
    if not debts:
        return certificate([], [], {}, currency=currency, solver=name)
    flows, potentials, unique = _solve(debts, input_root(debts, currency))
    document = certificate(debts, flows, potentials, currency=currency, solver={**name, "unique": unique})
    problems = check(document)
    if problems:
        raise Refused("settle.netting-unproven", reason="; ".join(problems[:3]))
    return document


def _solve(debts: list[Obligation], seed: str) -> tuple[list[int], dict[str, int], bool]:
    import numpy as np
    from scipy.sparse import coo_matrix

    parties = sorted({one.debtor for one in debts} | {one.creditor for one in debts})
    place = {party: at for at, party in enumerate(parties)}
    size = len(debts)
    source = np.fromiter((place[one.debtor] for one in debts), np.int64, size)
    target = np.fromiter((place[one.creditor] for one in debts), np.int64, size)
    limit = np.fromiter((one.amount for one in debts), np.float64, size)
    arcs = np.arange(size)
    matrix = coo_matrix(
        (np.r_[np.ones(size), -np.ones(size)], (np.r_[source, target], np.r_[arcs, arcs])), shape=(len(parties), size)
    ).tocsc()
    flow, dual = _linprog(-np.ones(size), matrix, np.zeros(len(parties)), limit)
    # the matrix is totally unimodular: prices of a basic solution are whole numbers
    price = np.rint(dual).astype(np.int64)
    reduced = -1 - (price[source] - price[target])
    free = reduced == 0
    unique = True
    if free.any():
        rank = (
            np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big")).permutation(size) + 1.0
        )
        held = np.where(free, 0.0, flow)
        open_, second = _linprog(rank[free], matrix[:, free], -(matrix @ held), limit[free])
        flow = held
        flow[free] = open_
        left = rank[free] - (second[source[free]] - second[target[free]])
        at_bound = (open_ == 0) | (open_ == limit[free])
        unique = bool((np.abs(left[at_bound]) > 1e-6).all())
    least = int(price.max())
    return [int(value) for value in flow], {party: least - int(price[at]) for at, party in enumerate(parties)}, unique


def _linprog(cost: Any, matrix: Any, balance: Any, limit: Any) -> tuple[Any, Any]:
    import numpy as np
    from scipy.optimize import linprog

    bounds = np.c_[np.zeros(len(limit)), limit]
    found = linprog(cost, A_eq=matrix, b_eq=balance, bounds=bounds, method="highs-ds", options=_OPTIONS)
    if found.status != 0:
        raise Refused("settle.netting-unproven", reason=str(found.message)[:200])
    return np.rint(found.x), found.eqlin.marginals
