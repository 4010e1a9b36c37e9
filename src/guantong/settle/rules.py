"""The invoice as a pure function: price plan and usage records in, one canonical JSON document out.

Both sides of an agreement, and a stranger with the receipts, call the same function and must get the same bytes: the order of the
records, repeated records and the caller's decimal context make no difference. Money and prices are decimal text, never floats.

Rounding, as stated in each invoice: every line is rounded to the currency's decimals by the plan's rule, the subtotal is the sum of the
rounded lines (then raised to the minimum or lowered to the cap), every tax is rounded, the total is subtotal plus taxes. The share of
each receipt in the subtotal is cut down and the cents left over go to the largest remainders, so that the parts equal the total.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction
from itertools import compress, islice
from typing import Any

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import NS, iso, parse_iso
from guantong.base.errors import Refused, Skippable
from guantong.base.merkle import leaf_hash, root
from guantong.settle.plan import ROUNDINGS, UNITS, Charge, PricePlan, Tax, check_plan, plain
from guantong.settle.sharing import coverage, near_duplicates, payouts, shapley, share_out, split

__all__ = [
    "ENVELOPE",
    "ROUNDINGS",
    "UNITS",
    "Charge",
    "Countable",
    "PricePlan",
    "Tax",
    "basis",
    "check_plan",
    "countable",
    "coverage",
    "differences",
    "invoice",
    "money",
    "near_duplicates",
    "payouts",
    "records_root",
    "shapley",
    "share_out",
    "split",
    "totals",
]

ENVELOPE = ("issuedAt", "number", "replaces")
"""Members that only the issuer knows; two invoices that differ in nothing else state the same debt."""

_EXACT = Context(prec=60)
_NUMBER = re.compile(r"(0|[1-9]\d{0,20})(\.\d{1,20})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Countable:
    """Receipts sorted into what an invoice may count and what it may not, each left-out receipt with its reason."""

    records: tuple[Mapping[str, Any], ...]
    one_sided: frozenset[str]
    """Record ids without a countersignature because the partner's connector can't give one."""
    left_out: tuple[tuple[str, str], ...]
    """(record id, reason)."""


def countable(
    receipts: Iterable[Mapping[str, Any]], *, resolved: Iterable[str] = (), silence: str = "waits"
) -> Countable:
    """Which receipts count: those the consumer countersigned, and one-sided ones, marked.

    receipts: ``{record, state, ...}`` as :class:`guantong.settle.ports.Receipts` gives them. Offered and disputed ones wait, the latter
    until both sides have signed what is owed (``resolved``: their record ids); silent ones as the plan's ``silence`` says. A record that
    another counted one corrects (``corrects``: its record id) gives way to it.
    """
    settled = frozenset(resolved)
    records: list[Mapping[str, Any]] = []
    one_sided: set[str] = set()
    left_out: list[tuple[str, str]] = []
    for receipt in receipts:
        record = receipt["record"]
        state = str(receipt.get("state", "")).lower()
        identity = str(record.get("recordId", ""))
        if (
            state in ("countersigned", "acknowledged", "resolved")
            or (state == "disputed" and identity in settled)
            or (state == "silent" and silence == "accepted")
        ):
            records.append(record)
        elif state in ("one-sided", "one_sided"):
            records.append(record)
            one_sided.add(identity)
        else:
            left_out.append((identity, state or "unknown"))
    corrected = {str(record["corrects"]) for record in records if record.get("corrects")}
    left_out += [(str(record["recordId"]), "corrected") for record in records if record.get("recordId") in corrected]
    kept = tuple(record for record in records if record.get("recordId") not in corrected)
    return Countable(kept, frozenset(one_sided - corrected), tuple(sorted(left_out)))


def invoice(
    plan: PricePlan,
    records: Sequence[Mapping[str, Any]],
    *,
    number: str,
    issued_at: int,
    one_sided: Iterable[str] = (),
    replaces: str | None = None,
    agreement_id: str = "",
    provider: str = "",
    consumer: str = "",
) -> dict[str, Any]:
    """The invoice for the usage records of one agreement.

    agreement_id, provider, consumer: what the records must name, where the caller knows it; records may be empty only then.

    records: usage records (facts: ``recordId, agreementId, transferProcessId, seq, provider, consumer, from, to, unit, quantity, rows,
    bytes``) that count, in any order, repeated ones counted once by (transferProcessId, seq). issued_at: ns since the epoch.
    Returns JSON with text amounts; sign its canonical bytes.
    Raises Refused ``settle.receipt-conflict`` (one key, two contents), Skippable ``settle.agreement-mixed`` and
    ``settle.record-unusable``.
    """
    with localcontext(_EXACT):
        expected = {"agreementId": agreement_id, "provider": provider, "consumer": consumer}
        return _invoice(plan, records, number, issued_at, frozenset(one_sided), replaces, expected)


def _invoice(
    plan: PricePlan,
    records: Sequence[Mapping[str, Any]],
    number: str,
    issued_at: int,
    marked: frozenset[str],
    replaces: str | None,
    expected: Mapping[str, str],
) -> dict[str, Any]:
    unique, hashes, leaves = _unique(records)
    parties: dict[str, str] = {}
    for name, wanted in expected.items():
        values = _parties(unique, name) | ({wanted} if wanted else set())
        if len(values) != 1:
            raise Skippable("settle.agreement-mixed", member=name, values=", ".join(sorted(values)) or "–")
        parties[name] = values.pop()
    identities = [str(record["recordId"]) for record in unique]
    unit = Decimal(1).scaleb(-plan.decimals)
    rounding = ROUNDINGS[plan.rounding]
    lines: list[dict[str, Any]] = []
    weighed: list[tuple[list[int | Decimal], Fraction]] = []
    gross = Decimal(0)
    for charge in plan.charges:
        counts = _counts(charge.per, unique)
        quantity = Decimal(sum(counts))
        billable = max(Decimal(0), quantity - charge.free)
        exact = charge.amount(billable)
        amount = exact.quantize(unit, rounding)
        gross += amount
        # a receipt's part of a line: by its share of what was counted, at the price that a unit came to on average
        mean = Fraction(charge.price) if not charge.tiers or not billable else Fraction(exact) / Fraction(billable)
        weighed.append((counts, mean))
        lines.append(
            {
                "per": charge.per,
                "price": plain(charge.price),
                "quantity": plain(quantity),
                "free": plain(min(charge.free, quantity)),
                "billable": plain(billable),
                "amount": money(amount, plan.decimals),
                **(
                    {"tiers": [{"from": plain(one.start), "price": plain(one.price)} for one in charge.tiers]}
                    if charge.tiers
                    else {}
                ),
                "receipts": list(compress(identities, counts)),
            }
        )
    discounts = [
        {
            "name": one.name,
            "rate": plain(one.rate),
            "reason": one.reason,
            "amount": money((gross * one.rate).quantize(unit, rounding), plan.decimals),
        }
        for one in plan.discounts
    ]
    gross = max(Decimal(0), gross - sum((Decimal(one["amount"]) for one in discounts), Decimal(0)))
    subtotal, adjusted = gross, None
    if unique and plan.minimum is not None and gross < plan.minimum:
        subtotal, adjusted = plan.minimum.quantize(unit, rounding), "minimum"
    if plan.cap is not None and gross > plan.cap:
        subtotal, adjusted = plan.cap.quantize(unit, rounding), "cap"
    taxes = [
        {
            "name": tax.name,
            "rate": plain(tax.rate),
            "amount": money((subtotal * tax.rate).quantize(unit, rounding), plan.decimals),
        }
        for tax in plan.taxes
    ]
    total = subtotal + sum((Decimal(tax["amount"]) for tax in taxes), Decimal(0))
    shares = _shares(int(subtotal / unit), _weights(weighed, len(unique)))
    amounts = {share: minor(share, plan.decimals) for share in set(shares)}
    times = _extremes(unique)
    return {
        "v": 1,
        "type": "invoice",
        "number": number,
        "issuedAt": iso(issued_at),
        "replaces": replaces,
        **parties,
        "currency": plan.currency,
        "planHash": digest(plan.document()),
        "recordsRoot": "sha256:" + root(leaves).hex(),
        "count": len(unique),
        "period": {"from": iso(times[0]), "to": iso(times[1])} if times else None,
        "lines": lines,
        **({"discounts": discounts} if discounts else {}),
        "adjusted": adjusted,
        "subtotal": money(subtotal, plan.decimals),
        "taxes": taxes,
        "total": money(total, plan.decimals),
        "rounding": {"rule": plan.rounding, "decimals": plan.decimals, "applied": "each line, then each tax"},
        "receipts": [
            {
                "id": identity,
                "hash": hashed,
                "transferProcessId": str(record["transferProcessId"]),
                "seq": int(record["seq"]),
                "oneSided": identity in marked,
                "amount": amounts[share],
            }
            for record, identity, hashed, share in zip(unique, identities, hashes, shares, strict=True)
        ],
    }


def basis(document: Mapping[str, Any]) -> str:
    """Digest of an invoice without its envelope: equal on both sides when both derive the same debt."""
    return digest({name: value for name, value in document.items() if name not in ENVELOPE})


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[dict[str, str]]:
    """Why two invoices for one agreement are not the same: receipts first, each named, then plan, then figures.

    Returns ``{receipt, why, mine, theirs}`` rows; ``receipt`` is empty where no single receipt is to blame. Empty when they agree.
    """
    found: list[dict[str, str]] = []
    left = {str(row["id"]): row for row in mine.get("receipts", ())}
    right = {str(row["id"]): row for row in theirs.get("receipts", ())}
    for identity in sorted(left.keys() | right.keys()):
        a, b = left.get(identity), right.get(identity)
        if a is None or b is None:
            why = "only-theirs" if a is None else "only-mine"
            found.append(_difference(identity, why, a and a.get("hash"), b and b.get("hash")))
            continue
        for name, why in (("hash", "record-differs"), ("oneSided", "signature-differs"), ("amount", "amount-differs")):
            if a.get(name) != b.get(name):
                found.append(_difference(identity, why, a.get(name), b.get(name)))
                break
    for name, why in (
        ("currency", "currency-differs"),
        ("planHash", "plan-differs"),
        ("recordsRoot", "records-differ"),
        ("subtotal", "subtotal-differs"),
        ("total", "total-differs"),
    ):
        if mine.get(name) != theirs.get(name):
            found.append(_difference("", why, mine.get(name), theirs.get(name)))
    if not found and basis(mine) != basis(theirs):
        found.append(_difference("", "figures-differ", basis(mine), basis(theirs)))
    return found


def records_root(records: Iterable[Mapping[str, Any]]) -> str:
    """``sha256:`` and the Merkle root (RFC 6962, 2.1) over the canonical records in the order of (transferProcessId, seq)."""
    return "sha256:" + root(_unique(records)[2]).hex()


def totals(documents: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Sum of the totals of invoices, one sum for each currency: currencies are never added to each other."""
    sums: dict[str, Decimal] = {}
    places: dict[str, int] = {}
    for document in documents:
        currency = str(document["currency"])
        amount = Decimal(str(document["total"]))
        sums[currency] = _EXACT.add(sums.get(currency, Decimal(0)), amount)
        places[currency] = max(places.get(currency, 0), -int(amount.as_tuple().exponent))
    return {currency: money(sums[currency], places[currency]) for currency in sorted(sums)}


def money(amount: Decimal, decimals: int) -> str:
    """The amount as text with exactly that many decimals; it must already be rounded to them."""
    quantized = amount.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_EVEN, _EXACT)
    if quantized != amount:
        raise ValueError(f"{amount} is not rounded to {decimals} decimals")
    return format(quantized if quantized else abs(quantized), "f")


def minor(amount: int, decimals: int) -> str:
    """Minor units as text of the currency's unit: 1234 with two decimals is 12.34."""
    if not decimals:
        return str(amount)
    whole, rest = divmod(amount, 10**decimals)
    return f"{whole}.{rest:0{decimals}d}"


def _unique(records: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[str], list[bytes]]:
    """The records in order, each once, with the hash of their canonical bytes and with that as a leaf of a tree.

    By columns: sorted by number within each transfer, where they mostly stand in order already, and no record's bytes are kept, because
    a million of them cost more to hold than to hash.
    """
    held: list[Mapping[str, Any]] = []
    hashes: list[str] = []
    leaves: list[bytes] = []
    numbers: list[int] = []
    transfers: dict[str, list[int]] = {}
    for at, record in enumerate(records):
        try:
            transfer, number = str(record["transferProcessId"]), int(record["seq"])
            record["recordId"]
        except (KeyError, TypeError, ValueError) as error:
            raise Skippable(
                "settle.record-unusable", record=str(record.get("recordId", "")), reason=str(error)
            ) from error
        data = canonical_bytes(record if type(record) is dict else dict(record))
        held.append(record)
        hashes.append("sha256:" + hashlib.sha256(data).hexdigest())
        leaves.append(leaf_hash(data))
        numbers.append(number)
        places = transfers.get(transfer)
        if places is None:
            transfers[transfer] = [at]
        else:
            places.append(at)
    order: list[int] = []
    for transfer in sorted(transfers):
        last = None
        for at in sorted(transfers[transfer], key=numbers.__getitem__):
            if last is None or numbers[at] != numbers[last]:
                order.append(at)
                last = at
            elif hashes[at] != hashes[last]:
                first, second = str(held[last]["recordId"]), str(held[at]["recordId"])
                raise Refused("settle.receipt-conflict", first=first, second=second)
    return [held[at] for at in order], [hashes[at] for at in order], [leaves[at] for at in order]


def _parties(records: Sequence[Mapping[str, Any]], name: str) -> set[str]:
    """Whom the records name. A party stands there by its DID alone or with its registration number beside it."""
    named: list[Any] = [record.get(name) for record in records]
    if set(map(type, named)) <= {str}:
        return set(named)
    return {str(one.get("did", "")) if isinstance(one, Mapping) else str(one) for one in named}


def _extremes(records: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """First and last instant of the records. Texts of one form sort as their instants do: of each form only the ends are read."""
    forms: dict[int, list[str]] = {}
    found: list[int] = []
    for name in ("from", "to"):
        column = [value for record in records if (value := record.get(name))]
        if set(map(type, column)) == {str}:
            sizes = set(map(len, column))
            if len(sizes) == 1 and all(value[-1] == "Z" for value in column):
                forms.setdefault(sizes.pop(), []).extend((min(column), max(column)))
                continue
        for value in column:
            if type(value) is str and value[-1] == "Z":
                forms.setdefault(len(value), []).append(value)
            else:
                found.append(value if isinstance(value, int) else parse_iso(str(value)))
    found += [parse_iso(text) for values in forms.values() for text in (min(values), max(values))]
    return (min(found), max(found)) if found else None


def _counts(per: str, records: Sequence[Mapping[str, Any]]) -> list[int | Decimal]:
    """What each record counts of a unit; whole numbers as int, which a million of them can afford."""
    if per in ("transfer", "agreement"):
        seen: set[str] = set()
        counts: list[int | Decimal] = []
        for record in records:
            key = str(record["transferProcessId"]) if per == "transfer" else ""
            counts.append(int(key not in seen))
            seen.add(key)
        return counts
    if per == "call":
        return [1] * len(records)
    if per == "month":
        months: set[str] = set()
        counts = []
        for record in records:
            month = iso(_instant(record, "to"))[:7]
            counts.append(int(month not in months))
            months.add(month)
        return counts
    if per == "hour":
        return [Decimal(max(0, _instant(record, "to") - _instant(record, "from"))) / (3600 * NS) for record in records]
    if per in ("figure", "machine-hour", "opening", "part", "revenue"):
        # such a record states its own unit; others do not concern this charge
        return [
            _metered(per, record) if str(record.get("unit", "")).lower().removesuffix("s") == per else 0
            for record in records
        ]
    member = {"row": "rows", "byte": "bytes", "reading": "readings"}[per]
    column: list[Any] = [record.get(member) for record in records]
    if set(map(type, column)) == {int} and min(column) >= 0:
        return column
    return [
        value if type(value := record.get(member)) is int and value >= 0 else _metered(per, record)
        for record in records
    ]


def _weights(weighed: Sequence[tuple[Sequence[int | Decimal], Fraction]], size: int) -> list[int]:
    """What each record weighs in the subtotal, as whole numbers of one common unit."""
    scaled: list[tuple[list[int], int, Fraction]] = []
    for counts, mean in weighed:
        places = max((-int(one.as_tuple().exponent) for one in counts if isinstance(one, Decimal)), default=0)
        factor = 10 ** max(0, places)
        whole = (
            [one * factor if type(one) is int else int(one * factor) for one in counts]
            if factor > 1
            else list(map(int, counts))
        )
        scaled.append((whole, factor, mean))
    common = math.lcm(*(mean.denominator * factor for _, factor, mean in scaled)) if scaled else 1
    weights = [0] * size
    for whole, factor, mean in scaled:
        by = int(mean * common / factor)
        if by:
            weights = [weight + count * by for weight, count in zip(weights, whole, strict=True)]
    return weights


def _metered(per: str, record: Mapping[str, Any]) -> Decimal:
    value = record.get({"row": "rows", "byte": "bytes", "reading": "readings"}.get(per, ""))
    if value is None and str(record.get("unit", "")).lower().removesuffix("s") == per:
        value = record.get("quantity")
    if value is None and per == "reading":
        value = record.get("rows")  # a row of a dataset of readings is one reading
    if isinstance(value, bool) or not (isinstance(value, int) or (isinstance(value, str) and _NUMBER.fullmatch(value))):
        raise Skippable(
            "settle.record-unusable",
            record=str(record["recordId"]),
            reason=f"it does not state how many {per}s it covers",
        )
    count = Decimal(value)
    if count < 0:
        raise Skippable("settle.record-unusable", record=str(record["recordId"]), reason=f"{per}s below zero")
    return count


def _shares(total: int, weights: Sequence[int]) -> list[int]:
    """``total`` minor units by weight: cut down, and the rest to the largest remainders; ties go to the earlier record, so that
    everybody hands out the same cents.

    A share depends on the weight alone, and a million receipts have few weights: each is divided once.
    """
    if not weights:
        return []
    whole = sum(weights)
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    often = Counter(weights)
    parts = {weight: divmod(total * weight, whole) for weight in often}
    missing = total - sum(parts[weight][0] * count for weight, count in often.items())
    cut = {weight: share for weight, (share, _) in parts.items()}
    held: dict[int, int] = Counter()
    for weight, (_, rest) in parts.items():
        held[rest] += often[weight]
    last, left = -1, 0  # remainders above `last` get a cent each, of those equal to it the first `left`
    for rest in sorted(held, reverse=True):
        if missing <= held[rest]:
            last, left = rest, missing
            break
        missing -= held[rest]
    given = {weight: share + (parts[weight][1] > last) for weight, share in cut.items()}
    shares = list(map(given.__getitem__, weights))
    tied = {weight for weight, (_, rest) in parts.items() if rest == last}
    for at in islice((at for at, weight in enumerate(weights) if weight in tied), left):
        shares[at] += 1
    return shares


def _difference(receipt: str, why: str, mine: object, theirs: object) -> dict[str, str]:
    def say(value: object) -> str:
        return "" if value is None else str(value)

    return {"receipt": receipt, "why": why, "mine": say(mine), "theirs": say(theirs)}


def _instant(record: Mapping[str, Any], name: str) -> int:
    value = record[name]
    return value if isinstance(value, int) else parse_iso(str(value))
