"""Setting obligations off against each other, and the certificate that no more could be set off. Pure; checking needs no solver.

Between two: the smaller of both debts. Among many: a circulation ``f`` within the debts ``L``, as large as there is; what stays is ``L − f``,
nobody gets a new creditor, and every net position is as before. Optimality is proven by whole-number potentials ``d``: for every
circulation ``Σ f ≤ Σ L · max(0, 1 + d_creditor − d_debtor)``, so that equality shows the greatest one (linear programming duality).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guantong.base.canonical import canonical_bytes
from guantong.base.errors import Skippable
from guantong.base.merkle import leaf_hash, root

__all__ = [
    "Obligation",
    "bilateral",
    "certificate",
    "check",
    "gathered",
    "in_chinese",
    "input_root",
    "output_root",
    "positions",
    "residual",
]

LARGEST = 2**53 - 1


@dataclass(frozen=True, slots=True, order=True)
class Obligation:
    """``debtor`` owes ``creditor`` so many minor units of one currency."""

    debtor: str
    creditor: str
    amount: int


def gathered(obligations: Iterable[Obligation]) -> list[Obligation]:
    """One obligation for each pair, sorted by debtor and creditor. Raises Skippable ``settle.obligation-unusable``."""
    sums: dict[tuple[str, str], int] = {}
    for one in obligations:
        if one.debtor == one.creditor or not one.debtor or not one.creditor:
            raise Skippable(
                "settle.obligation-unusable", debtor=one.debtor, creditor=one.creditor, reason="nobody owes himself"
            )
        if isinstance(one.amount, bool) or not isinstance(one.amount, int) or one.amount < 0:
            raise Skippable(
                "settle.obligation-unusable",
                debtor=one.debtor,
                creditor=one.creditor,
                reason="amounts are whole and >= 0",
            )
        key = (one.debtor, one.creditor)
        sums[key] = sums.get(key, 0) + one.amount
        if sums[key] > LARGEST:
            raise Skippable(
                "settle.obligation-unusable", debtor=one.debtor, creditor=one.creditor, reason="the amount is too large"
            )
    return [Obligation(*key, amount) for key, amount in sorted(sums.items()) if amount]


def positions(obligations: Iterable[Obligation]) -> dict[str, int]:
    """Net position of each party: what is owed to it less what it owes. They come to zero together."""
    found: dict[str, int] = {}
    for one in obligations:
        found[one.debtor] = found.get(one.debtor, 0) - one.amount
        found[one.creditor] = found.get(one.creditor, 0) + one.amount
    return dict(sorted(found.items()))


def bilateral(obligations: Iterable[Obligation]) -> list[Obligation]:
    """What stays after each pair has set off its debts against each other."""
    owed = {(one.debtor, one.creditor): one.amount for one in gathered(obligations)}
    return [
        Obligation(debtor, creditor, amount - owed.get((creditor, debtor), 0))
        for (debtor, creditor), amount in sorted(owed.items())
        if amount > owed.get((creditor, debtor), 0)
    ]


def input_root(obligations: Sequence[Obligation], currency: str) -> str:
    """Root over the debts, in order, with their currency."""
    return _root([[currency, one.debtor, one.creditor, str(one.amount)] for one in obligations])


def output_root(obligations: Sequence[Obligation], cancelled: Sequence[int], currency: str) -> str:
    """Root over what was set off, in the order of the debts."""
    return _root(
        [[currency, one.debtor, one.creditor, str(flow)] for one, flow in zip(obligations, cancelled, strict=True)]
    )


def _root(rows: list[list[str]]) -> str:
    return "sha256:" + root([leaf_hash(canonical_bytes(row)) for row in rows]).hex()


def certificate(
    obligations: Sequence[Obligation],
    cancelled: Sequence[int],
    potentials: Mapping[str, int],
    *,
    currency: str,
    solver: Mapping[str, Any],
) -> dict[str, Any]:
    """The document that everybody checks. obligations: as :func:`gathered` gives them."""
    return {
        "v": 1,
        "type": "netting",
        "currency": currency,
        "obligations": [
            [one.debtor, one.creditor, str(one.amount), str(flow)]
            for one, flow in zip(obligations, cancelled, strict=True)
        ],
        "potentials": {party: potentials[party] for party in sorted(potentials)},
        "gross": str(sum(one.amount for one in obligations)),
        "cancelled": str(sum(cancelled)),
        "inputRoot": input_root(obligations, currency),
        "outputRoot": output_root(obligations, cancelled, currency),
        "solver": dict(solver),
    }


def read(document: Mapping[str, Any]) -> tuple[list[Obligation], list[int]]:
    """Debts and what was set off of each, from a certificate."""
    rows = document["obligations"]
    return [Obligation(str(row[0]), str(row[1]), int(row[2])) for row in rows], [int(row[3]) for row in rows]


def check(document: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a netting certificate; empty where it proves that no more could be set off. Linear, no solver."""
    try:
        obligations, cancelled = read(document)
        potentials = {str(party): int(value) for party, value in document["potentials"].items()}
        gross, total = int(document["gross"]), int(document["cancelled"])
        currency = str(document["currency"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return [f"the certificate is of another form ({type(error).__name__})"]
    found: list[str] = []
    try:
        ordered = gathered(obligations)
    except Skippable as error:
        return [error.message()]
    if ordered != obligations:
        found.append("debts are not in order, or a pair stands there twice")
    balance: dict[str, int] = {}
    most = 0
    for one, flow in zip(obligations, cancelled, strict=True):
        if not 0 <= flow <= one.amount:
            found.append(f"{one.debtor} sets off more than it owes {one.creditor}")
        balance[one.debtor] = balance.get(one.debtor, 0) - flow
        balance[one.creditor] = balance.get(one.creditor, 0) + flow
        most += one.amount * max(0, 1 + potentials.get(one.creditor, 0) - potentials.get(one.debtor, 0))
    found += [f"the net position of {party} changes by {change}" for party, change in sorted(balance.items()) if change]
    if sum(one.amount for one in obligations) != gross or sum(cancelled) != total:
        found.append("the sums are stated wrongly")
    if sum(cancelled) != most:
        found.append(f"it is not shown that no more could be set off: {sum(cancelled)} of at most {most}")
    if input_root(obligations, currency) != document.get("inputRoot"):
        found.append("the input root is not that of the debts")
    if output_root(obligations, cancelled, currency) != document.get("outputRoot"):
        found.append("the output root is not that of what was set off")
    return found


_ZH: tuple[tuple[str, str], ...] = (
    (r"the certificate is of another form \((.+)\)", "证书的格式不符（{0}）"),
    (r"debts are not in order, or a pair stands there twice", "债务未按顺序排列，或同一对债务出现两次"),
    (r"(.+) sets off more than it owes (.+)", "{0} 抵销的金额超过其欠 {1} 的债务"),
    (r"the net position of (.+) changes by (-?\d+)", "{0} 的净头寸变动了 {1}"),
    (r"the sums are stated wrongly", "所列合计有误"),
    (
        r"it is not shown that no more could be set off: (-?\d+) of at most (-?\d+)",
        "未能证明已达最大抵销额：抵销 {0}，上限 {1}",
    ),
    (r"the input root is not that of the debts", "输入根散列与所列债务不符"),
    (r"the output root is not that of what was set off", "输出根散列与所列抵销额不符"),
    (
        r"The obligation of (.*) to (.*) can't be used: nobody owes himself\.",
        "{0} 对 {1} 的债务不可用：任何一方不会欠自己的债。",
    ),
    (
        r"The obligation of (.*) to (.*) can't be used: amounts are whole and >= 0\.",
        "{0} 对 {1} 的债务不可用：金额须为不小于 0 的整数。",
    ),
    (r"The obligation of (.*) to (.*) can't be used: the amount is too large\.", "{0} 对 {1} 的债务不可用：金额过大。"),
)


def in_chinese(problem: str) -> str:
    """What :func:`check` says of a certificate, in Chinese."""
    for pattern, zh in _ZH:
        match = re.fullmatch(pattern, problem, re.DOTALL)
        if match is not None:
            return zh.format(*match.groups())
    return problem


def residual(document: Mapping[str, Any]) -> list[Obligation]:
    """What stays to be paid after a netting."""
    obligations, cancelled = read(document)
    return [
        Obligation(one.debtor, one.creditor, one.amount - flow)
        for one, flow in zip(obligations, cancelled, strict=True)
        if one.amount > flow
    ]
