"""Sharing revenue among owners by a declared rule, recomputable by each of them; and pools that pay on evidence. Pure and exact.

Rules: ``equal``; ``proportional`` to stated weights; ``coverage``: each record's value split equally among its holders, which is the
Shapley value of the union (fact checked against the definition in the tests); ``shapley``: exact, up to 16 owners, of a value that is
stated for each coalition or follows from sufficient statistics. Money is shared in minor units; what rounding leaves goes to the largest
remainders, ties to the owner that comes first by name.

Owners whose records are nearly the same are found first and count as one: copies earn together at most what one of them earns, less the
declared penalty. That is clone-resistant, not clone-proof: copies less alike than the threshold are not found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from guantong.base.canonical import digest
from guantong.base.errors import ConfigProblem

__all__ = [
    "OWNERS_MAX",
    "RULES",
    "coverage",
    "near_duplicates",
    "payouts",
    "precision",
    "shapley",
    "share_out",
    "split",
]

RULES = ("coverage", "equal", "proportional", "shapley")
OWNERS_MAX = 16
"""Most owners of an exact Shapley value: 65,536 coalitions."""


def split(total: int, weights: Sequence[Fraction]) -> list[int]:
    """``total`` minor units by weight: cut down, and what is left to the largest remainders, ties to the earlier."""
    if total < 0 or any(weight < 0 for weight in weights):
        raise ValueError("shares are of something, by weights >= 0")
    if not weights:
        return []
    whole = sum(weights, Fraction(0))
    if whole == 0:
        weights, whole = [Fraction(1)] * len(weights), Fraction(len(weights))
    exact = [total * weight / whole for weight in weights]
    shares = [math.floor(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda at: (shares[at] - exact[at], at))
    for at in order[: total - sum(shares)]:
        shares[at] += 1
    return shares


def coverage(holdings: Mapping[str, frozenset[str]]) -> dict[str, Fraction]:
    """Each record counts one, split equally among those who hold it. Linear in the records; equals the Shapley value of the union."""
    holders: dict[str, int] = {}
    for records in holdings.values():
        for record in records:
            holders[record] = holders.get(record, 0) + 1
    return {
        owner: sum((Fraction(1, holders[record]) for record in records), Fraction(0))
        for owner, records in holdings.items()
    }


def shapley(owners: Sequence[str], value: Callable[[int], Fraction]) -> dict[str, Fraction]:
    """Exact Shapley values; ``value(mask)`` of the coalition whose owners' bits are set, asked once for each of 2^n.

    ``φ_i = Σ_{S ⊆ N∖i} |S|! (n−|S|−1)! / n! · (v(S ∪ i) − v(S))``. Raises ConfigProblem ``settle.share-invalid`` beyond 16 owners.
    """
    n = len(owners)
    if n > OWNERS_MAX:
        raise ConfigProblem("settle.share-invalid", reason=f"an exact Shapley value has at most {OWNERS_MAX} owners")
    values = [value(mask) for mask in range(1 << n)]
    # one denominator for all, so that the sums run over whole numbers
    common = math.lcm(*(item.denominator for item in values)) if values else 1
    whole = [int(item * common) for item in values]
    sums = [[0] * n for _ in range(n)]
    for mask in range(1 << n):
        size = mask.bit_count()
        if size == n:
            continue
        base = whole[mask]
        for at in range(n):
            if not mask >> at & 1:
                sums[at][size] += whole[mask | 1 << at] - base
    factor = [math.factorial(size) * math.factorial(n - size - 1) for size in range(n)]
    over = math.factorial(n) * common
    return {
        owner: Fraction(sum(part * weight for part, weight in zip(sums[at], factor, strict=True)), over)
        for at, owner in enumerate(owners)
    }


def precision(counts: Mapping[str, int], half: int) -> Callable[[Sequence[str]], Fraction]:
    """Worth of pooled samples of one quantity, from the number of samples alone: ``n / (n + half)``, half of it at ``half`` samples.

    It is the share by which pooling lowers the variance of the mean against a prior worth ``half`` samples.
    """

    def value(members: Sequence[str]) -> Fraction:
        n = sum(counts[owner] for owner in members)
        return Fraction(n, n + half) if n else Fraction(0)

    return value


def near_duplicates(holdings: Mapping[str, frozenset[str]], threshold: Fraction) -> list[tuple[str, ...]]:
    """Owners whose records are alike by at least ``threshold`` (shared of all, Jaccard), joined through each other; only groups of two
    and more.
    """
    owners = sorted(holdings)
    group = {owner: owner for owner in owners}

    def head(owner: str) -> str:
        while group[owner] != owner:
            owner = group[owner]
        return owner

    for at, one in enumerate(owners):
        for other in owners[at + 1 :]:
            union = len(holdings[one] | holdings[other])
            if union and Fraction(len(holdings[one] & holdings[other]), union) >= threshold:
                group[head(other)] = head(one)
    found: dict[str, list[str]] = {}
    for owner in owners:
        found.setdefault(head(owner), []).append(owner)
    return sorted(tuple(members) for members in found.values() if len(members) > 1)


def share_out(
    *,
    total: int,
    currency: str,
    rule: str,
    owners: Sequence[str],
    weights: Mapping[str, str] | None = None,
    holdings: Mapping[str, Iterable[str]] | None = None,
    coalitions: Mapping[str, str] | None = None,
    statistics: Mapping[str, int] | None = None,
    half: int = 0,
    similar: str = "0.9",
    penalty: str = "0",
) -> dict[str, Any]:
    """Share ``total`` minor units. The document holds all that it takes to compute it again; the same inputs give the same document.

    weights (proportional): decimal text by owner · holdings (coverage, and for finding copies under every rule): record digests by owner
    · coalitions (shapley): decimal text by ``+``-joined sorted owners, absent ones are worth 0 · statistics with half (shapley): samples
    by owner, see :func:`precision`. Raises ConfigProblem ``settle.share-invalid``.
    """
    names = sorted(set(owners))
    if rule not in RULES or not names or len(names) != len(owners) or total < 0:
        raise ConfigProblem(
            "settle.share-invalid", reason=f"a rule of {', '.join(RULES)}, owners once each, and a total >= 0"
        )
    held = {owner: frozenset(records) for owner, records in (holdings or {}).items()}
    groups = (
        near_duplicates({owner: held.get(owner, frozenset()) for owner in names}, Fraction(similar)) if held else []
    )
    leader = {member: members[0] for members in groups for member in members}
    players = sorted({leader.get(owner, owner) for owner in names})
    members = {player: [owner for owner in names if leader.get(owner, owner) == player] for player in players}
    worth = _worth(rule, players, members, weights, held, coalitions, statistics, half)
    kept = Fraction(1) - Fraction(penalty)
    if not 0 <= kept <= 1:
        raise ConfigProblem("settle.share-invalid", reason="a penalty lies between 0 and 1")
    cut = {player: worth[player] * (kept if len(members[player]) > 1 else 1) for player in players}
    by_player = split(total, [cut[player] for player in players])
    shares: dict[str, int] = {}
    for player, amount in zip(players, by_player, strict=True):
        shares |= dict(zip(members[player], split(amount, [Fraction(1)] * len(members[player])), strict=True))
    return {
        "v": 1,
        "type": "revenue-share",
        "rule": rule,
        "currency": currency,
        "total": str(total),
        "similar": similar,
        "penalty": penalty,
        "bound": "clone-resistant: copies at least as alike as stated earn together at most what one of them earns",
        "groups": [list(one) for one in groups],
        "inputs": digest(
            {
                "owners": names,
                "weights": dict(weights or {}),
                "holdings": {owner: sorted(records) for owner, records in sorted(held.items())},
                "coalitions": dict(coalitions or {}),
                "statistics": dict(statistics or {}),
                "half": half,
            }
        ),
        "remainder": "largest remainder, ties to the owner that comes first",
        "shares": [
            {
                "owner": owner,
                "weight": _text(cut[leader.get(owner, owner)]),
                "share": str(shares[owner]),
                "copyOf": leader[owner] if leader.get(owner, owner) != owner else "",
            }
            for owner in names
        ],
    }


def _worth(
    rule: str,
    players: list[str],
    members: Mapping[str, list[str]],
    weights: Mapping[str, str] | None,
    held: Mapping[str, frozenset[str]],
    coalitions: Mapping[str, str] | None,
    statistics: Mapping[str, int] | None,
    half: int,
) -> dict[str, Fraction]:
    if rule == "equal":
        return {player: Fraction(1) for player in players}
    if rule == "proportional":
        if weights is None or not all(owner in weights for list_ in members.values() for owner in list_):
            raise ConfigProblem("settle.share-invalid", reason="proportional shares need a weight for each owner")
        # copies are worth what the best of them is, not their sum
        return {player: max(Fraction(weights[owner]) for owner in members[player]) for player in players}
    if rule == "coverage":
        union = {
            player: frozenset().union(*(held.get(owner, frozenset()) for owner in members[player]))
            for player in players
        }
        return coverage(union)
    if statistics is not None:
        if half < 1:
            raise ConfigProblem("settle.share-invalid", reason="statistics need half, a whole number from 1")
        counts = {player: max(int(statistics[owner]) for owner in members[player]) for player in players}
        pooled = precision(counts, half)
        return shapley(players, lambda mask: pooled([one for at, one in enumerate(players) if mask >> at & 1]))
    if coalitions is None:
        raise ConfigProblem("settle.share-invalid", reason="shapley needs coalitions or statistics")
    table = {name: Fraction(text) for name, text in coalitions.items()}
    return shapley(
        players, lambda mask: table.get("+".join(one for at, one in enumerate(players) if mask >> at & 1), Fraction(0))
    )


def _text(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}" if value.denominator != 1 else str(value.numerator)


def payouts(pool: Mapping[str, Any], claims: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a risk pool pays, from evidence alone.

    pool: ``{id, currency, decimals, premium (minor units a member, text), members, trigger: {figure, below | above: decimal text},
    payout: {fixed: minor units} or {each: minor units, step: decimal text}}`` · claims: by member the figure's ``{figure, value, unit}``
    as its proof gives it. Payout ``each`` is due for every whole ``step`` beyond the trigger. The pool pays what it holds: if claims come
    to more, each gets its part. Raises ConfigProblem ``settle.share-invalid``.
    """
    members = sorted(str(one) for one in pool["members"])
    premium = int(pool["premium"])
    trigger, payout = pool["trigger"], pool["payout"]
    held = premium * len(members)
    due: list[int] = []
    rows: list[dict[str, Any]] = []
    for member in members:
        claim = claims.get(member)
        amount, why = 0, "no evidence"
        if claim is not None:
            amount, why = _due(trigger, payout, claim)
        due.append(amount)
        rows.append(
            {"member": member, "figure": "" if claim is None else claim["figure"], "due": str(amount), "why": why}
        )
    paid = due if sum(due) <= held else split(held, [Fraction(one) for one in due])
    for row, amount in zip(rows, paid, strict=True):
        row["paid"] = str(amount)
    return {
        "v": 1,
        "type": "risk-pool-payout",
        "pool": digest(dict(pool)),
        "currency": pool["currency"],
        "held": str(held),
        "paid": str(sum(paid)),
        "stays": str(held - sum(paid)),
        "members": rows,
    }


def _due(trigger: Mapping[str, Any], payout: Mapping[str, Any], claim: Mapping[str, Any]) -> tuple[int, str]:
    if claim.get("definition") not in (None, trigger["figure"]):
        return 0, "evidence about another figure"
    if claim.get("value") is None:
        return 0, "the figure is undefined"
    value = Decimal(str(claim["value"]))
    if "below" in trigger:
        beyond = Decimal(str(trigger["below"])) - value
    elif "above" in trigger:
        beyond = value - Decimal(str(trigger["above"]))
    else:
        raise ConfigProblem("settle.share-invalid", reason="a trigger lies below or above a value")
    if beyond <= 0:
        return 0, "not triggered"
    if "fixed" in payout:
        return int(payout["fixed"]), "triggered"
    steps = int(beyond / Decimal(str(payout["step"])))
    return int(payout["each"]) * steps, f"triggered, {steps} steps"
