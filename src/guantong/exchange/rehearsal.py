"""Rehearsal: what a contract that nobody has signed yet would have done to the own history, visit by visit.

The same terms, the same decision point, the same encoder and counters as a delivery, at the instants of then; nothing leaves and no counter
moves. What was rehearsed is named by the digest of the offer as it would be made, and an offer is published when that was seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import digest
from guantong.base.clock import iso
from guantong.base.errors import Refused
from guantong.exchange.deliveries import QUERY_TERM, stated
from guantong.exchange.facts import MODES, Facts, facts_of
from guantong.exchange.hosting import Hosting
from guantong.exchange.model import Product
from guantong.exchange.permits import cedar_permit
from guantong.exchange.policy import Terms, compile_policy, explain, policy_hash, with_contract
from guantong.exchange.ports import Access, Verdict
from guantong.exchange.tables import REHEARSALS
from guantong.exchange.transfers import PULL

if TYPE_CHECKING:
    from guantong.exchange.dataplane import DataPlane

__all__ = ["Consider", "Outcome", "Rehearsal", "Rehearsed", "Visit", "offer_digest"]

Consider = Callable[[Access, str], Awaitable[Verdict]]
"""``(access, Cedar permits)``: the decision point's answer at the access's own instant, without an entry in its log (govern's)."""


@dataclass(frozen=True, slots=True)
class Visit:
    """One time that somebody would have come for the data."""

    at: int
    """Nanoseconds since the epoch."""
    subject: str
    purpose: str = ""
    """Empty: the purposes of the contract."""
    start: int | None = None
    """First instant asked for (closed), nanoseconds; None: from the beginning."""
    end: int | None = None
    """First instant no longer asked for."""
    claims: Mapping[str, Any] = field(default_factory=dict)
    """What it would have proven, as its credentials' claims."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would have become of a visit."""

    visit: Visit
    refused: str
    """Why nothing would have left; empty where it would have."""
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """A whole rehearsal."""

    offer: str
    """Digest of the offer as it would be made."""
    outcomes: tuple[Outcome, ...]
    terms: tuple[tuple[str, str, str], ...]
    """Each term in English and Chinese, with ``enforced`` or ``legal``."""
    records: tuple[Mapping[str, Any], ...]
    """The usage records that would have been signed; unsigned."""

    @property
    def rows(self) -> int:
        """Rows that would have left."""
        return sum(one.rows for one in self.outcomes)

    @property
    def bytes(self) -> int:
        """Bytes that would have left."""
        return sum(one.bytes for one in self.outcomes)


def offer_digest(product: Product) -> str:
    """The digest of everything of an offer that decides what it does."""
    rules = with_contract(product.policy, terms=product.terms, price=product.price)
    return digest(
        {"dataset": product.dataset_id, "policy": policy_hash(rules), "visibleTo": sorted(set(product.visible_to))}
    )


class Rehearsal:
    """Replays visits, and knows which offers were rehearsed."""

    def __init__(self, hosting: Hosting, plane: DataPlane) -> None:
        self._hosting = hosting
        self._plane = plane

    async def run(self, participant: str, product: Product, visits: Sequence[Visit], consider: Consider) -> Rehearsed:
        """Replay visits in the order of time. Each subject agrees at its first visit and would ask for a pull at each.

        Raises Refused ``exchange.term-refused`` for a policy that could not be offered, and ``exchange.dataset-unknown``.
        """
        rules = with_contract(product.policy, terms=product.terms, price=product.price)
        terms = compile_policy(rules)
        permits = cedar_permit(product.policy, name=product.offer_id, dataset_id=product.dataset_id)
        outcomes: list[Outcome] = []
        records: list[Mapping[str, Any]] = []
        contracts: dict[str, _Contract] = {}
        for visit in sorted(visits, key=lambda one: one.at):
            contract = contracts.get(visit.subject)
            if contract is None or not contract.agreed_at:
                contract = contracts[visit.subject] = await self._agree(
                    participant, product, terms, permits, visit, consider
                )
            refused = contract.refused or await self._access(
                participant, product, terms, permits, visit, contract, consider
            )
            if refused:
                outcomes.append(Outcome(visit, refused))
                continue
            rows = self._plane.rows_of(participant, product.dataset_id, visit.start, visit.end)
            counting = await self._plane.measure(rows)
            over = _over(terms, contract, counting.rows, counting.bytes)
            if over:
                outcomes.append(Outcome(visit, over))
                continue
            contract.uses += 1
            contract.rows += counting.rows
            contract.bytes += counting.bytes
            outcomes.append(Outcome(visit, "", counting.rows, counting.bytes))
            records.append(_record(participant, product, visit, contract, counting.rows, counting.bytes))
        said = zip(explain(rules, "en"), explain(rules, "zh"), strict=True)
        return Rehearsed(
            offer_digest(product),
            tuple(outcomes),
            tuple((en, zh, status) for (en, status), (zh, _) in said),
            tuple(records),
        )

    async def seen(self, participant: str, product: Product, summary: Mapping[str, Any]) -> None:
        """Note that a person was shown this rehearsal; the offer may be published from then on."""
        async with self._hosting.records.step(participant) as step:
            step.upsert(
                REHEARSALS,
                id=offer_digest(product),
                dataset_id=product.dataset_id,
                summary=orjson.dumps(dict(summary)),
                seen_at=step.at,
            )

    async def known(self, participant: str, product: Product) -> bool:
        """Whether this very offer was rehearsed and seen."""
        row = await self._hosting.records.row(
            select(REHEARSALS.c.id).where(
                and_(REHEARSALS.c.participant == participant, REHEARSALS.c.id == offer_digest(product))
            )
        )
        return row is not None

    async def gate(self, participant: str, product: Product) -> str:
        """The rehearsal that lets an offer be published: its digest, or ``waived``. Raises Refused ``exchange.not-rehearsed``."""
        if await self.known(participant, product):
            return offer_digest(product)
        if self._hosting.settings.rehearsal == "waived":
            return "waived"
        raise Refused("exchange.not-rehearsed", dataset=product.dataset_id)

    # -- inside

    async def _agree(
        self, participant: str, product: Product, terms: Terms, permits: str, visit: Visit, consider: Consider
    ) -> _Contract:
        facts = facts_of(visit.subject, visit.at, visit.claims)
        refused = ""
        if product.visible_to and visit.subject not in product.visible_to:
            refused = "it does not see the offer / 对其不可见"
        refused = refused or terms.refusal("catalogue", facts) or terms.refusal("agreement", facts)
        refused = refused or await self._asked(
            participant, product, permits, visit, "negotiate", facts, terms, consider
        )
        return _Contract(f"rehearsal:{visit.subject}", 0 if refused else visit.at, refused)

    async def _access(
        self,
        participant: str,
        product: Product,
        terms: Terms,
        permits: str,
        visit: Visit,
        contract: _Contract,
        consider: Consider,
    ) -> str:
        purposes = [one.strip() for one in visit.purpose.split(",") if one.strip()] or list(terms.purposes)
        facts = dataclasses.replace(
            facts_of(visit.subject, visit.at, visit.claims),
            agreed_at=contract.agreed_at,
            mode=MODES[PULL],
            uses=contract.uses,
            rows=contract.rows,
            bytes=contract.bytes,
            purposes=frozenset(purposes),
        )
        for name, limit in terms.limits.items():
            if facts.number(name) >= limit:
                return f"{name}: all {limit} are used / 约定的 {limit} 已用完"
        if stated(product.policy, QUERY_TERM):
            return "answers of a query template are not rehearsed: they depend on what is asked / 查询模板的结果取决于提问，不作预演"
        refused = terms.refusal("access", facts)
        return refused or await self._asked(participant, product, permits, visit, "read", facts, terms, consider)

    async def _asked(
        self,
        participant: str,
        product: Product,
        permits: str,
        visit: Visit,
        action: str,
        facts: Facts,
        terms: Terms,
        consider: Consider,
    ) -> str:
        agreement = "" if action == "negotiate" else "rehearsal"
        access = Access(
            participant,
            visit.subject,
            action,
            product.dataset_id,
            agreement,
            visit.purpose or ", ".join(terms.purposes),
            visit.at,
            dict(visit.claims),
            facts.uses,
            facts.context(terms.needs),
        )
        verdict = await consider(access, permits)
        return "" if verdict.allowed else verdict.reason


@dataclass(slots=True)
class _Contract:
    """One subject's contract as it would stand."""

    id: str
    agreed_at: int
    """0 while there is none."""
    refused: str
    uses: int = 0
    rows: int = 0
    bytes: int = 0


def _over(terms: Terms, contract: _Contract, rows: int, size: int) -> str:
    for name, after in (("rows", contract.rows + rows), ("bytes", contract.bytes + size)):
        if name in terms.limits and after > terms.limits[name]:
            return f"{name}: no more than {terms.limits[name]} were agreed / 约定至多 {terms.limits[name]}"
    return ""


def _record(
    participant: str, product: Product, visit: Visit, contract: _Contract, rows: int, size: int
) -> Mapping[str, Any]:
    at = iso(visit.at, digits=6)
    return {
        "v": 1,
        "type": "usage",
        "recordId": f"{contract.id}:{contract.uses}",
        "agreementId": contract.id,
        "transferProcessId": f"{contract.id}:{contract.uses}",  # each visit asks for a transfer of its own
        "seq": 1,
        "provider": participant,
        "consumer": visit.subject,
        "from": at,
        "to": at,
        "unit": "row",
        "quantity": str(rows),
        "rows": rows,
        "bytes": size,
        "assetId": product.dataset_id,
        "purpose": visit.purpose,
        "complete": True,
    }
