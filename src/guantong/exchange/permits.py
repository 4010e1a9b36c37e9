"""The typed ODRL subset as Cedar: what an agreement or an offer enforces, as permits for govern's single decision point.

Only what this module can say in Cedar is permitted; legal terms bind people and stand in the contract. Source: Cedar policy language 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from guantong.base.canonical import digest
from guantong.exchange.model import Agreement, Product
from guantong.exchange.policy import Check, compile_policy
from guantong.exchange.vocabulary import SETS, Point

__all__ = ["Permits", "cedar_permit"]

_ACTIONS: tuple[tuple[Point, tuple[str, ...]], ...] = (
    ("catalogue", ("see",)),
    ("agreement", ("negotiate",)),
    ("access", ("transfer", "read")),
)
"""Places of a policy, and the actions that are decided there."""


def cedar_permit(
    policy: Mapping[str, Any], *, name: str, dataset_id: str, partner: str = "", agreed: bool = False
) -> str:
    """One ``permit`` a place for the dataset, annotated with ``name``: to see the offer, to agree to it, to have the data.

    partner: the only one it is for (the other party of an agreement); empty: whomever the policy names ·
    agreed: there is an agreement, so only having the data is left to decide. The context carries ``now``
    (milliseconds, set by govern) and the facts of :meth:`Facts.context`; a fact that is missing permits nothing.
    Raises Refused ``exchange.term-refused``.
    """
    terms = compile_policy(policy)
    texts = []
    for point, named in _ACTIONS:
        if agreed and point != "access":
            continue
        conditions = [f"principal.did == {_text(partner)}"] if partner else []
        conditions += [_condition(check) for check in terms.by_point[point]]
        actions = ", ".join(f'Action::"{action}"' for action in named)
        when = f"\nwhen {{ {' && '.join(conditions)} }}" if conditions else ""
        texts.append(
            f"@id({_text(name)})\n"
            f"permit (principal is Participant, action in [{actions}], resource == Dataset::{_text(dataset_id)}){when};\n"
        )
    return "".join(texts)


def _condition(check: Check) -> str:
    fact = check.fact
    if fact in SETS:
        values = "[" + ", ".join(_text(value) for value in sorted(check.values)) + "]"
        if fact == "did":
            return f"{values}.contains(principal.did)"
        held = f"context has {fact} && "
        if check.test == "only":
            return f"({held}{values}.containsAll(context.{fact}))"
        if check.test == "all":
            return f"({held}context.{fact}.containsAll({values}))"
        return f"({held}{'!' * (check.test == 'none')}context.{fact}.containsAny({values}))"
    if fact in ("now", "elapsed"):
        value = "context.now" if fact == "now" else "context.now - context.agreed"
        held = "" if fact == "now" else "context has agreed && "
        bound = check.bound // 1_000_000 if check.test == "le" else -(-check.bound // 1_000_000)
        return f"({held}{value} {'<=' if check.test == 'le' else '>='} {bound})"
    return f"(context has {fact} && context.{fact} {'>=' if check.test == 'ge' else '<'} {check.bound})"


class Permits:
    """Permits of agreements and products, written once. All agreements on the same rules, dataset and partner have one text, so that the
    decision point parses it once; it is named by the hash of the rules, which the agreement's entry on record names too.
    """

    def __init__(self, keep: int = 10_000) -> None:
        self._keep = keep
        self._texts: dict[tuple[str, str, str], str] = {}

    def of_agreement(self, agreement: Agreement) -> str:
        """The permit of an agreement, for its partner alone."""
        name = (agreement.policy_hash, agreement.dataset_id, agreement.partner)
        return self._texts.get(name) or self._write(name, agreement.agreement, agreement.policy_hash)

    def of_products(self, products: Iterable[Product]) -> str:
        """The permits of offers, for whomever each names."""
        texts = []
        for product in products:
            name = (product.offer_id, product.dataset_id, digest(dict(product.policy)))
            texts.append(self._texts.get(name) or self._write(name, product.policy, product.offer_id, partner=False))
        return "".join(texts)

    def _write(
        self, name: tuple[str, str, str], policy: Mapping[str, Any], called: str, *, partner: bool = True
    ) -> str:
        text = cedar_permit(policy, name=called, dataset_id=name[1], partner=name[2] if partner else "", agreed=partner)
        if len(self._texts) >= self._keep:
            del self._texts[next(iter(self._texts))]
        self._texts[name] = text
        return text


def _text(value: str) -> str:
    # a Cedar string literal: nothing beyond plain printable ASCII stands for itself
    return '"' + "".join(_letter(letter) for letter in value) + '"'


def _letter(letter: str) -> str:
    if letter in _PLAIN:
        return letter
    # Cedar knows no half of a surrogate pair
    return f"\\u{{{ord(letter):x}}}" if not "\ud800" <= letter <= "\udfff" else "\\u{fffd}"


_PLAIN = frozenset(chr(code) for code in range(0x20, 0x7F)) - frozenset('"\\')
