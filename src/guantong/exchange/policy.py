"""Policies: what the typed subset of ODRL means here, what is enforced where, what is shown as a legal term, and what is refused.

Every constraint is exactly one of three things: *enforced* by this node at the places its term names, *legal* (both sides see it in the
contract, no machine can make it true), or *refused* by name when a product is made, when an agreement is and when it is used. Nothing
counts as true because it is not understood. The words are rows of ``vocabularies/``. Source: ODRL 2.2 Information Model; Dataspace
Protocol 2025-1, policy schema.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from guantong.base.canonical import canonical_bytes, digest
from guantong.base.clock import iso, parse_iso
from guantong.base.errors import Refused, Skippable
from guantong.exchange.facts import Facts
from guantong.exchange.vocabulary import PLACES, POINTS, SETS, Place, Point, Status, Term, action_of, term_of

__all__ = [
    "Check",
    "Constraint",
    "Duty",
    "Terms",
    "compile_policy",
    "explain",
    "policy_hash",
    "rules_of",
    "said",
    "same_policy",
    "with_contract",
]

PRICE_TERM = "https://w3id.org/guantong/ns/pricePlan"
CONTRACT_TERM = "https://w3id.org/guantong/ns/contractTerms"


@dataclass(frozen=True, slots=True)
class Constraint:
    """One constraint as it was read, and what becomes of it."""

    place: Place
    action: str
    left: str
    """Empty for a bare permission, prohibition or duty."""
    operator: str
    right: tuple[str, ...]
    status: Status


@dataclass(frozen=True, slots=True)
class Check:
    """A fact compared with what the policy says."""

    term: str
    """Name of the constraint, for refusals."""
    fact: str
    test: str
    """Sets: ``any``, ``all``, ``none``, ``only``. Numbers: ``le``, ``ge`` (closed), ``below`` (a counter before its limit)."""
    values: tuple[str, ...] = ()
    bound: int = 0
    at: tuple[Point, ...] = ()

    def holds(self, facts: Facts) -> bool:
        """Whether it is so."""
        if self.fact in SETS:
            have = facts.members(self.fact)
            if self.test == "any":
                return not have.isdisjoint(self.values)
            if self.test == "none":
                return have.isdisjoint(self.values)
            return have.issuperset(self.values) if self.test == "all" else have.issubset(self.values)
        number = facts.number(self.fact)
        if self.test == "le":
            return number <= self.bound
        return number >= self.bound if self.test == "ge" else number < self.bound

    def ends(self, agreed_at: int) -> int | None:
        """The last instant at which it can hold, None where time does not end it."""
        if self.test != "le":
            return None
        return self.bound if self.fact == "now" else agreed_at + self.bound

    def refusal(self, facts: Facts) -> str:
        """Why it is not so: the constraint's name, then the reason in English and Chinese."""
        named = ", ".join(self.values[:5])
        if self.fact == "did":
            en, zh = f"{facts.did} is not among the recipients", f"{facts.did} 不在接收方之列"
        elif self.fact == "purposes":
            en, zh = f"{', '.join(sorted(facts.purposes))} was not agreed", "所述用途未经约定"
        elif self.fact == "modes":
            en, zh = f"{facts.mode} was not agreed, {named} was", f"未约定方式 {facts.mode}，约定为 {named}"
        elif self.fact in SETS and self.test == "none":
            en, zh = f"{facts.did} is excluded", f"{facts.did} 被排除在外"
        elif self.fact in SETS:
            en, zh = f"{facts.did} has not proven {named}", f"{facts.did} 未证明 {named}"
        elif self.fact in ("now", "elapsed"):
            bound = self.bound + ((facts.at if facts.agreed_at is None else facts.agreed_at) * (self.fact == "elapsed"))
            if self.test == "le":
                en, zh = f"ended {iso(bound)}", f"已于 {iso(bound)} 截止"
            else:
                en, zh = f"not before {iso(bound)}", f"{iso(bound)} 之前不可使用"
        elif self.fact == "floor":
            en, zh = f"each row must stand for at least {self.bound} records", f"每行须汇总至少 {self.bound} 条记录"
        else:
            unit_en, unit_zh = {"uses": ("deliveries", "次交付"), "rows": ("rows", "行")}.get(
                self.fact, ("bytes", "字节")
            )
            en, zh = f"all {self.bound} {unit_en} are used", f"约定的 {self.bound} {unit_zh}已用完"
        return f"{self.term}: {en} / {zh}"


@dataclass(frozen=True, slots=True)
class Duty:
    """What the consumer has to do. A person or its node confirms those that are to-dos."""

    action: str
    todo: bool
    by: int | None = None
    """Latest instant, nanoseconds (closed)."""
    within: int | None = None
    """Latest after the agreement, nanoseconds."""

    def deadline(self, agreed_at: int) -> int | None:
        """When it must be done at the latest, None where the policy says nothing."""
        ends = [end for end in (self.by, None if self.within is None else agreed_at + self.within) if end is not None]
        return min(ends, default=None)


@dataclass(frozen=True, slots=True)
class Terms:
    """A policy compiled: what is compared at each place, the duties, and every constraint for display."""

    checks: tuple[Check, ...] = ()
    duties: tuple[Duty, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    purposes: tuple[str, ...] = ()
    """Agreed purposes."""
    by_point: Mapping[Point, tuple[Check, ...]] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    """Most deliveries (``uses``), ``rows`` and ``bytes`` under one agreement, where limited."""
    needs: frozenset[str] = frozenset()
    """Facts that it is compared with."""

    def refusal(self, point: Point, facts: Facts) -> str:
        """Why it is refused at a place, by the constraint's name; empty if it is not.

        ``catalogue``: whether the offer is shown · ``agreement``: whether it may be agreed to · ``access``: whether a transfer or delivery
        may begin · ``after``: whether a delivery that runs may go on.
        """
        for check in self.by_point.get(point, ()):
            if not check.holds(facts):
                return check.refusal(facts)
        return ""

    @property
    def count(self) -> int | None:
        """Deliveries under one agreement, None without a limit."""
        return self.limits.get("uses")

    def ends(self, agreed_at: int) -> int | None:
        """The last instant of any delivery under an agreement made then (closed), None where time does not end it."""
        ends = [end for check in self.by_point.get("after", ()) if (end := check.ends(agreed_at)) is not None]
        return min(ends, default=None)


def rules_of(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The rules of an offer or agreement without its id, type, parties, target and time."""
    return {place: policy[place] for place in PLACES if policy.get(place)}


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


_compiled: OrderedDict[bytes, Terms] = OrderedDict()
_KEEP = 20_000


def compile_policy(policy: Mapping[str, Any]) -> Terms:
    """Read the rules of an offer or agreement. Raises Refused ``exchange.term-refused`` naming the first term it does not mean.

    The same rules are compiled once. They hold no secret and decide nothing by themselves, so one store serves every participant.
    """
    try:
        key = orjson.dumps(rules_of(policy))
    except TypeError as error:
        raise _refused("permission", "it holds what JSON can't") from error
    terms = _compiled.get(key)
    if terms is None:
        terms = _compile(policy)
        if len(_compiled) >= _KEEP:
            _compiled.popitem(last=False)
        _compiled[key] = terms
    return terms


def _compile(policy: Mapping[str, Any]) -> Terms:
    read = tuple(_read(policy))
    if not any(constraint.place == "permission" for constraint, _ in read):
        raise _refused("permission", "a policy without a permission allows nothing")
    checks: list[Check] = []
    duties: list[Duty] = []
    purposes: tuple[str, ...] = ()
    for constraint, term in read:
        if constraint.place == "obligation":
            action = action_of(constraint.action)
            assert action is not None
            if term is None:
                if "obligation" in action.bare and action.says("obligation")[0]:
                    duties.append(Duty(action.name, action.todo))
                continue
            if action.says("obligation")[0]:
                duties[-1] = _deadline(duties[-1], constraint, term)
                continue
        if term is None or not term.fact:
            continue
        if term.fact == "purposes":
            purposes = (*purposes, *constraint.right)
        else:
            checks.append(_check(constraint, term))
    if purposes:
        checks.append(Check("purpose", "purposes", "only", purposes, at=("access",)))
    by_point = {point: tuple(check for check in checks if point in check.at) for point in POINTS}
    limits: dict[str, int] = {}
    for check in checks:
        if check.test == "below":
            limits[check.fact] = min(check.bound, limits.get(check.fact, check.bound))
    return Terms(
        tuple(checks),
        tuple(duties),
        tuple(constraint for constraint, _ in read),
        purposes,
        by_point,
        limits,
        frozenset(check.fact for check in checks),
    )


def _check(constraint: Constraint, term: Term) -> Check:
    operator, right = constraint.operator, constraint.right
    if term.fact in SETS:
        if term.value == "credential":
            right = tuple(_credential(term.name, value) for value in right)
        test = {"isAllOf": "all", "isNoneOf": "none"}.get(operator, "any")
        return Check(term.name, term.fact, test, right, at=term.at)
    bound = _number(term, right[0])
    if term.fact in ("uses", "rows", "bytes"):
        # an open delivery is cut by the counters themselves, which may just have reached the limit rightly
        at = tuple(point for point in term.at if point != "after")
        return Check(term.name, term.fact, "below", bound=bound - (operator == "lt"), at=at)
    test = term.test or ("ge" if operator in ("gteq", "gt") else "le")
    bound += (operator == "gt") - (operator == "lt")
    # what begins later may be seen and agreed to before
    return Check(term.name, term.fact, test, bound=bound, at=("access",) if test == "ge" else term.at)


def _deadline(duty: Duty, constraint: Constraint, term: Term) -> Duty:
    bound = _number(term, constraint.right[0]) - (constraint.operator == "lt")
    if term.fact == "now":
        return Duty(duty.action, duty.todo, bound if duty.by is None else min(bound, duty.by), duty.within)
    return Duty(duty.action, duty.todo, duty.by, bound if duty.within is None else min(bound, duty.within))


def _credential(name: str, value: str) -> str:
    # CX-0018, 2.4: ``active`` names the credential of the operand; else the value does, with its version after the colon
    if value == "active":
        return f"{name}Credential"
    kind, _, version = value.partition(":")
    return f"{kind}Credential" + (f":{version}" if version else "")


_DURATION = re.compile(
    r"P(?=\d|T\d)(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?=\d)(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,9})S)?)?"
)


def _number(term: Term, text: str) -> int:
    """The bound of a number fact: nanoseconds for times. Raises ValueError."""
    if term.value == "instant":
        try:
            return parse_iso(text)
        except Skippable as error:
            raise ValueError("its value is not a time") from error
    if term.value == "duration":
        found = _DURATION.fullmatch(text)
        if found is None:
            raise ValueError("its value is not a duration in weeks, days, hours, minutes and seconds")
        weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return ((((weeks * 7 + days) * 24 + hours) * 60 + minutes) * 60 + seconds) * 1_000_000_000
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise ValueError("its value is not a whole number")
    if term.value == "days":
        return min(int(text), 10**6) * 86_400 * 1_000_000_000
    return int(text)


def explain(policy: Mapping[str, Any], language: str = "en") -> list[tuple[str, Status]]:
    """The policy in plain words, one sentence a term, each with ``enforced`` or ``legal``."""
    return [(said(item, language), item.status) for item in compile_policy(policy).constraints]


def said(item: Constraint, language: str = "en") -> str:
    """A constraint in plain words."""
    chinese = language.startswith("zh")
    action, term = action_of(item.action), term_of(item.left)
    if term is None:
        assert action is not None
        return action.says(item.place)[chinese]
    value = ("、" if chinese else ", ").join(item.right)
    if term.fact in ("uses", "rows", "bytes") and item.operator == "lt":
        value = str(int(value) - 1)
    excludes = item.operator == "isNoneOf" and term.not_en
    words = (term.not_zh if excludes else term.zh) if chinese else (term.not_en if excludes else term.en)
    if item.place == "obligation" and action is not None and action.says("obligation")[0]:
        if term.fact == "now":
            words = "{duty}，不迟于 {value}" if chinese else "{duty} by {value}"
        else:
            words = "{duty}，限合约达成后 {value} 内" if chinese else "{duty} within {value} of the agreement"
        return words.format(duty=action.says("obligation")[chinese], value=value)
    operator = _OPERATORS.get(item.operator, (item.operator, item.operator))[chinese]
    return words.replace("{op}", operator).replace("{value}", value)


_OPERATORS: Mapping[str, tuple[str, str]] = {
    "gteq": ("from", "不早于"),
    "gt": ("after", "晚于"),
    "lteq": ("until", "不晚于"),
    "lt": ("before", "早于"),
    "eq": ("exactly", "限于"),
    "isAnyOf": ("any of", "属于"),
    "isNoneOf": ("none of", "不属于"),
}

_ODRL = "http://www.w3.org/ns/odrl/2/"


def _refused(term: str, reason: str) -> Refused:
    return Refused("exchange.term-refused", term=term[:200], reason=reason)


def _read(policy: Mapping[str, Any]) -> Iterator[tuple[Constraint, Term | None]]:
    permissions = policy.get("permission") or ()
    if len(permissions) > 1:
        # two permissions are alternatives; we do not guess which one a partner acts under
        raise _refused("permission", "one permission is understood, not several")
    for place in PLACES:
        for rule in policy.get(place) or ():
            if not isinstance(rule, Mapping):
                raise _refused(place, "a rule must be an object")
            name = str(rule.get("action", ""))
            action = action_of(name)
            if action is None or place not in action.places:
                raise _refused(name.removeprefix("odrl:") or place, f"this action is not known as {place}")
            extra = set(rule) - {"action", "constraint", "@type", "@id", "target"}
            if any(rule[name] for name in extra):
                raise _refused(min(extra), f"a {place} holds action and constraint only")
            constraints = rule.get("constraint") or ()
            if not constraints and place not in action.bare:
                raise _refused(action.name, f"as {place} it needs a constraint")
            if place in action.bare:
                status: Status = "enforced" if place == "permission" else "legal"
                yield Constraint(place, action.name, "", "", (), status), None
            for constraint in constraints:
                yield from _constraint(place, action.name, constraint)


def _constraint(place: Place, action: str, constraint: Any) -> Iterator[tuple[Constraint, Term]]:
    if not isinstance(constraint, Mapping):
        raise _refused(place, "a constraint must be an object")
    if isinstance(constraint.get("and"), list):
        for inner in constraint["and"]:
            yield from _constraint(place, action, inner)
        return
    for logical in ("or", "xone", "andSequence"):
        if logical in constraint:
            raise _refused(logical, "alternatives are not understood")
    left = constraint.get("leftOperand")
    left = str(left.get("@id", "") if isinstance(left, Mapping) else left or "")
    term = term_of(left)
    if term is None or term.status == "refused":
        known = "this node does not enforce it" if term else "this node does not know it"
        raise _refused(term.name if term else left or "constraint", known)
    if place not in term.places:
        raise _refused(term.name, f"it can't stand in a {place}")
    operator = constraint.get("operator")
    operator = str(operator.get("@id", "") if isinstance(operator, Mapping) else operator or "")
    operator = operator.removeprefix("odrl:").removeprefix(_ODRL)
    if operator not in term.operators:
        raise _refused(f"{term.name} {operator}", f"operators are {', '.join(term.operators)}")
    duty = bool((found := action_of(action)) and place == "obligation" and found.says("obligation")[0])
    if place == "obligation" and (
        (duty and (term.fact not in ("now", "elapsed") or operator not in ("lteq", "lt")))
        or (not duty and term.places != ("obligation",))
    ):
        raise _refused(term.name, "a duty takes a deadline only" if duty else "it can't stand in a duty to use")
    right = _right(term, constraint.get("rightOperand"))
    if operator not in ("isAnyOf", "isNoneOf", "isAllOf") and len(right) != 1:
        raise _refused(term.name, f"{operator} takes one value")
    yield Constraint(place, action, term.left, operator, right, "legal" if duty else term.status), term


def _right(term: Term, value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    texts = []
    for item in values:
        inner = item.get("@value", item.get("@id")) if isinstance(item, Mapping) else item
        if not isinstance(inner, (str, int)) or isinstance(inner, bool) or inner == "":
            raise _refused(term.name, "its value is unreadable")
        texts.append(str(inner))
    if not texts:
        raise _refused(term.name, "it has no value")
    if term.value in ("instant", "duration", "whole", "days"):
        try:
            _number(term, texts[0])
        except ValueError as error:
            raise _refused(term.name, str(error)) from error
    if term.value == "mode" and not set(texts) <= _MODES:
        raise _refused(term.name, f"its modes are {', '.join(sorted(_MODES))}")
    return tuple(texts)


_MODES = frozenset({"pull", "push", "object-store", "query"})


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
