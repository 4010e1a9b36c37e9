"""Policies: the typed subset of ODRL that this node means, what it enforces, what it shows as a legal term, and what it refuses.

Every constraint is exactly one of three things: *enforced* by this node where it can be, *legal* (both sides see it in the contract, no
machine can make it true), or *refused* by name when a product is made and when an agreement is. Nothing counts as true because it is not
understood. Source: ODRL 2.2 Information Model; Dataspace Protocol 2025-1, policy schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import iso, parse_iso
from guantong.base.errors import Refused, Skippable

__all__ = [
    "TERMS",
    "Constraint",
    "Term",
    "Terms",
    "compile_policy",
    "explain",
    "policy_hash",
    "rules_of",
    "same_policy",
    "with_contract",
]

Place = Literal["permission", "prohibition", "obligation"]
Status = Literal["enforced", "legal"]

PRICE_TERM = "https://w3id.org/guantong/ns/pricePlan"
CONTRACT_TERM = "https://w3id.org/guantong/ns/contractTerms"
QUERY_TERM = "https://w3id.org/guantong/ns/queryTemplate"
FINGERPRINT_TERM = "https://w3id.org/guantong/ns/fingerprint"


@dataclass(frozen=True, slots=True)
class Term:
    """A row of the table of terms: where a left operand may stand, with which operators, and what becomes of it."""

    status: Status
    places: tuple[Place, ...]
    operators: tuple[str, ...]
    en: str
    """Plain words; ``{op}`` and ``{value}`` are filled in."""
    zh: str


TERMS: Mapping[str, Term] = {
    "count": Term(
        "enforced", ("permission",), ("lteq", "lt", "eq"), "at most {value} deliveries", "最多交付 {value} 次"
    ),
    "dateTime": Term(
        "enforced", ("permission",), ("gteq", "gt", "lteq", "lt"), "only {op} {value}", "仅限{op} {value}"
    ),
    "purpose": Term(
        "legal", ("permission",), ("eq", "isA", "isAnyOf"), "only for the purpose {value}", "仅用于：{value}"
    ),
    "recipient": Term("enforced", ("permission",), ("eq", "isAnyOf"), "only for {value}", "仅提供给 {value}"),
    "spatial": Term("legal", ("permission",), ("eq", "isAnyOf", "isPartOf"), "only in {value}", "仅限地域：{value}"),
    CONTRACT_TERM: Term(
        "legal",
        ("permission",),
        ("eq",),
        "under the contract terms with digest {value}",
        "适用摘要为 {value} 的合同条款",
    ),
    FINGERPRINT_TERM: Term(
        "enforced",
        ("permission",),
        ("eq",),
        "in a copy whose values carry this agreement's fingerprint within the stated resolution: {value}",
        "交付副本的数值在声明的分辨率内带有本合约指纹：{value}",
    ),
    QUERY_TERM: Term(
        "enforced",
        ("permission",),
        ("eq",),
        "only the answers of the query template with digest {value}, never the rows",
        "仅提供摘要为 {value} 的查询模板的结果，不提供原始行",
    ),
    PRICE_TERM: Term(
        "legal", ("permission",), ("eq",), "at the price plan with digest {value}", "按摘要为 {value} 的价格方案计费"
    ),
}
"""Left operands that may stand in a policy. What is not in the table is refused by name."""

PERMITTED_ACTIONS: Mapping[str, tuple[str, str]] = {
    "use": ("may use the data", "可以使用数据"),
    "read": ("may read the data", "可以读取数据"),
}
PROHIBITED_ACTIONS: Mapping[str, tuple[str, str]] = {
    "commercialize": ("must not sell it", "不得出售"),
    "derive": ("must not derive data from it", "不得加工衍生"),
    "distribute": ("must not pass it on", "不得转让给他人"),
    "sublicense": ("must not license it to others", "不得再许可"),
}
DUTIES: Mapping[str, tuple[str, str]] = {
    "attribute": ("must name the source", "必须注明来源"),
    "compensate": ("must pay as agreed", "必须按约付费"),
    "delete": ("must delete it afterwards", "用后必须删除"),
    "inform": ("must inform the provider", "必须告知提供方"),
}
"""Prohibitions and duties bind people; this node shows them as legal terms."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint as it was read, and what becomes of it."""

    place: Place
    action: str
    left: str
    """Empty for a bare prohibition or duty."""
    operator: str
    right: tuple[str, ...]
    status: Status


@dataclass(frozen=True, slots=True)
class Terms:
    """A policy compiled: what is enforced as fields, and every constraint for display."""

    recipients: frozenset[str] | None = None
    """Who may have it; None: everybody identified."""
    not_before: int | None = None
    """First instant, nanoseconds (closed)."""
    not_after: int | None = None
    """Last instant, nanoseconds (closed)."""
    count: int | None = None
    """Deliveries under one agreement."""
    purposes: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = field(default=())

    def refusal(self, subject: str, at: int, uses: int = 0) -> str:
        """Why ``subject`` may not have it at that instant, empty if it may."""
        if self.recipients is not None and subject not in self.recipients:
            return f"recipient: {subject} is not among the recipients"
        if self.not_before is not None and at < self.not_before:
            return f"dateTime: not before {iso(self.not_before)}"
        if self.not_after is not None and at > self.not_after:
            return f"dateTime: ended {iso(self.not_after)}"
        if self.count is not None and uses >= self.count:
            return f"count: all {self.count} deliveries are used"
        return ""


def rules_of(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of an offer or agreement without its id, type, parties, target and time."""
    return {place: policy[place] for place in ("permission", "prohibition", "obligation") if policy.get(place)}


def policy_hash(policy: Mapping[str, Any]) -> str:
    """Digest of the rules alone: equal for an offer and the agreement made from it."""
    return digest(_normal(rules_of(policy)))


def same_policy(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    """Whether two policies hold the same rules; the order of rules and constraints means nothing."""
    return canonical_bytes(_normal(rules_of(left))) == canonical_bytes(_normal(rules_of(right)))


def with_contract(policy: Mapping[str, Any], *, terms: str, price: Mapping[str, Any]) -> dict[str, Any]:
    """The rules with contract terms and price plan bound in by their digests, as constraints of every permission."""
    bound = []
    if terms:
        bound.append({"leftOperand": CONTRACT_TERM, "operator": "eq", "rightOperand": digest(terms)})
    if price:
        bound.append({"leftOperand": PRICE_TERM, "operator": "eq", "rightOperand": digest(dict(price))})
    rules = rules_of(policy)
    if bound:
        rules["permission"] = [
            {**rule, "constraint": [*(rule.get("constraint") or ()), *bound]} for rule in rules.get("permission", ())
        ]
    return rules


def compile_policy(policy: Mapping[str, Any]) -> Terms:
    """Read the rules of an offer or agreement. Raises Refused ``exchange.term-refused`` naming the first term it does not mean."""
    constraints = tuple(_read(policy))
    if not any(constraint.place == "permission" for constraint in constraints):
        raise Refused("exchange.term-refused", term="permission", reason="a policy without a permission allows nothing")
    recipients: frozenset[str] | None = None
    not_before = not_after = count = None
    purposes: tuple[str, ...] = ()
    for item in constraints:
        if item.left == "recipient":
            named = frozenset(item.right)
            recipients = named if recipients is None else recipients & named
        elif item.left == "dateTime":
            instant = parse_iso(item.right[0])
            if item.operator in ("gteq", "gt"):
                start = instant + (item.operator == "gt")
                not_before = start if not_before is None else max(not_before, start)
            else:
                end = instant - (item.operator == "lt")
                not_after = end if not_after is None else min(not_after, end)
        elif item.left == "count":
            limit = int(item.right[0]) - (item.operator == "lt")
            count = limit if count is None else min(count, limit)
        elif item.left == "purpose":
            purposes = (*purposes, *item.right)
    return Terms(recipients, not_before, not_after, count, purposes, constraints)


def explain(policy: Mapping[str, Any], language: str = "en") -> list[tuple[str, Status]]:
    """The policy in plain words, one sentence a term, each with ``enforced`` or ``legal``."""
    chinese = language.startswith("zh")
    said: list[tuple[str, Status]] = []
    for item in compile_policy(policy).constraints:
        if item.left:
            row = TERMS[item.left]
            value = ("、" if chinese else ", ").join(item.right)
            operator = _OPERATORS[item.operator][chinese] if item.left == "dateTime" else item.operator
            if item.left == "count" and item.operator == "lt":
                value = str(int(value) - 1)
            said.append(((row.zh if chinese else row.en).format(op=operator, value=value), item.status))
        else:
            table = {"permission": PERMITTED_ACTIONS, "prohibition": PROHIBITED_ACTIONS, "obligation": DUTIES}[
                item.place
            ]
            said.append((table[item.action][chinese], item.status))
    return said


_OPERATORS: Mapping[str, tuple[str, str]] = {
    "gteq": ("from", "不早于"),
    "gt": ("after", "晚于"),
    "lteq": ("until", "不晚于"),
    "lt": ("before", "早于"),
}

_ACTIONS: Mapping[Place, Mapping[str, tuple[str, str]]] = {
    "permission": PERMITTED_ACTIONS,
    "prohibition": PROHIBITED_ACTIONS,
    "obligation": DUTIES,
}


def _read(policy: Mapping[str, Any]) -> Iterator[Constraint]:
    places: tuple[Place, ...] = ("permission", "prohibition", "obligation")
    permissions = policy.get("permission") or ()
    if len(permissions) > 1:
        # two permissions are alternatives; we do not guess which one a partner acts under
        raise Refused("exchange.term-refused", term="permission", reason="one permission is understood, not several")
    for place in places:
        for rule in policy.get(place) or ():
            if not isinstance(rule, Mapping):
                raise Refused("exchange.term-refused", term=place, reason="a rule must be an object")
            action = str(rule.get("action", "")).removeprefix("odrl:")
            if action not in _ACTIONS[place]:
                raise Refused(
                    "exchange.term-refused", term=action or place, reason=f"this action is not known as {place}"
                )
            extra = set(rule) - {"action", "constraint", "@type", "@id", "target"}
            if any(rule[name] for name in extra):
                raise Refused(
                    "exchange.term-refused", term=min(extra), reason=f"a {place} holds action and constraint only"
                )
            yield Constraint(place, action, "", "", (), "enforced" if place == "permission" else "legal")
            for constraint in rule.get("constraint") or ():
                yield from _constraint(place, action, constraint)


def _constraint(place: Place, action: str, constraint: Any) -> Iterator[Constraint]:
    if not isinstance(constraint, Mapping):
        raise Refused("exchange.term-refused", term=place, reason="a constraint must be an object")
    if isinstance(constraint.get("and"), list):
        for inner in constraint["and"]:
            yield from _constraint(place, action, inner)
        return
    for logical in ("or", "xone", "andSequence"):
        if logical in constraint:
            raise Refused("exchange.term-refused", term=logical, reason="alternatives are not understood")
    left = str(constraint.get("leftOperand", "")).removeprefix("odrl:").removeprefix("http://www.w3.org/ns/odrl/2/")
    row = TERMS.get(left)
    if row is None:
        raise Refused("exchange.term-refused", term=left or "constraint", reason="this node does not know it")
    if place not in row.places:
        raise Refused("exchange.term-refused", term=left, reason=f"it can't stand in a {place}")
    operator = str(constraint.get("operator", "")).removeprefix("odrl:").removeprefix("http://www.w3.org/ns/odrl/2/")
    if operator not in row.operators:
        raise Refused(
            "exchange.term-refused", term=f"{left} {operator}", reason=f"operators are {', '.join(row.operators)}"
        )
    right = _right(left, constraint.get("rightOperand"))
    if operator not in ("isAnyOf",) and len(right) != 1:
        raise Refused("exchange.term-refused", term=left, reason=f"{operator} takes one value")
    yield Constraint(place, action, left, operator, right, row.status)


def _right(left: str, value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    texts = []
    for item in values:
        inner = item.get("@value", item.get("@id")) if isinstance(item, Mapping) else item
        if not isinstance(inner, (str, int)) or isinstance(inner, bool) or inner == "":
            raise Refused("exchange.term-refused", term=left, reason="its value is unreadable")
        texts.append(str(inner))
    if not texts:
        raise Refused("exchange.term-refused", term=left, reason="it has no value")
    if left == "dateTime":
        try:
            parse_iso(texts[0])
        except Skippable as error:
            raise Refused("exchange.term-refused", term=left, reason="its value is not a time") from error
    if left == "count" and (not texts[0].isascii() or not texts[0].isdigit() or len(texts[0]) > 15):
        raise Refused("exchange.term-refused", term=left, reason="its value is not a whole number")
    return tuple(texts)


def _normal(rules: Mapping[str, Any]) -> dict[str, Any]:
    # rules and constraints are sets: sort them by their canonical bytes; drop what carries no meaning
    return {
        place: sorted((_normal_rule(rule) for rule in rules[place]), key=canonical_bytes)
        for place in rules
        if isinstance(rules[place], list)
    }


def _normal_rule(rule: Any) -> Any:
    if not isinstance(rule, Mapping):
        return rule
    kept = {
        name: value
        for name, value in rule.items()
        if name not in ("@type", "@id", "target") and value not in (None, [])
    }
    if isinstance(kept.get("constraint"), list):
        kept["constraint"] = sorted((_normal_constraint(item) for item in kept["constraint"]), key=canonical_bytes)
    return kept


def _normal_constraint(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    return {name: value for name, value in item.items() if name not in ("@type", "@id")}
