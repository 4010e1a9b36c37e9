"""Agreements as values: made from a negotiation, compared with what was asked for, read from their table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from guantong.base.canonical import digest
from guantong.base.errors import Refused
from guantong.exchange.model import Agreement, CatalogueOffer, Negotiation
from guantong.exchange.policy import CONTRACT_TERM, PRICE_TERM, compile_policy, policy_hash, same_policy
from guantong.records.service import Row

__all__ = ["agreement_from", "agreement_of", "agreement_received", "asked_of"]


def asked_of(offer: CatalogueOffer | Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for: the offer with the texts shown beside it. Raises Refused ``exchange.term-refused`` where they are not bound in."""
    if not isinstance(offer, CatalogueOffer):
        return {"offer": dict(offer), "terms": "", "price": {}}
    asked = {"offer": dict(offer.offer), "terms": offer.terms, "price": dict(offer.price)}
    bound = {item.left: item.right[0] for item in compile_policy(offer.offer).constraints if item.left and item.right}
    for term, value in ((CONTRACT_TERM, offer.terms), (PRICE_TERM, dict(offer.price))):
        if term in bound and bound[term] != digest(value):
            # what was shown is not what would be signed
            raise Refused("exchange.term-refused", term=term, reason="its digest is not that of the text shown")
        if value and term not in bound:
            raise Refused("exchange.term-refused", term=term, reason="the text shown is not bound into the offer")
    return asked


def agreement_from(process: Negotiation, document: Mapping[str, Any], asked: Mapping[str, Any], at: int) -> Agreement:
    """The agreement of a negotiation from its ODRL document."""
    return Agreement(
        id=str(document["@id"]),
        role=process.role,
        partner=process.partner,
        partner_address=process.partner_address,
        dataset_id=process.dataset_id,
        product_id=str(asked.get("product", "")),
        agreement=dict(document),
        agreement_hash=digest(dict(document)),
        policy_hash=policy_hash(document),
        terms=str(asked.get("terms", "")),
        price=asked.get("price") or {},
        state="agreed",
        agreed_at=at,
        negotiation_pid=process.pid,
    )


def agreement_received(
    participant: str, process: Negotiation, document: Mapping[str, Any], asked: Mapping[str, Any], at: int
) -> tuple[Agreement, str]:
    """The agreement, and in which way it is not what we asked for (EDC's provider ignores the offer asked for: compare)."""
    identifier = document.get("@id")
    if not isinstance(identifier, str) or not 0 < len(identifier) <= 128:
        raise Refused("exchange.message-invalid", message="Agreement", reason="@id: must have 1 to 128 characters")
    wanted = process.offer if process.state == "ACCEPTED" else (asked.get("offer") or process.offer)
    differs = ""
    if document.get("target") != process.dataset_id:
        differs = "target"
    elif document.get("assigner") != process.partner or document.get("assignee") != participant:
        differs = "assigner or assignee"
    elif not same_policy(wanted, document):
        differs = "policy"
    return agreement_from(process, document, asked, at), differs


def agreement_of(row: Row) -> Agreement:
    """A row of the table as a value."""
    return Agreement(
        id=row["id"],
        role=row["role"],
        partner=row["partner"],
        partner_address=row["partner_address"],
        dataset_id=row["dataset_id"],
        product_id=row["product_id"],
        agreement=orjson.loads(row["agreement"]),
        agreement_hash=row["agreement_hash"],
        policy_hash=row["policy_hash"],
        terms=row["terms"],
        price=orjson.loads(row["price"]),
        state=row["state"],
        agreed_at=row["agreed_at"],
        negotiation_pid=row["negotiation_pid"],
    )
