"""Documents that change or end a live agreement, for both sides and for strangers who verify them: no I/O.

A proposal is one canonical JSON text (RFC 8785) signed by who makes it; the other side signs a statement that names the proposal and its
signature by their digests. An amendment holds with both signatures; an end holds with its own, and the statement says that it was heard.
Published in ``docs/amendments.md``; a plain Dataspace Protocol connector never meets these messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guantong.base.canonical import canonical_bytes, digest, sha256, unb64
from guantong.base.errors import Refused, Skippable
from guantong.base.keys import verify_ed25519
from guantong.exchange.model import Agreement
from guantong.exchange.policy import CONTRACT_TERM, PRICE_TERM, compile_policy, rules_of, with_contract

__all__ = ["AMEND", "END", "amended", "kind_of", "proposal_of", "statement_of", "verify_amendment"]

AMEND, END = "amend", "end"
_TYPES: Mapping[str, str] = {AMEND: "agreement-amendment", END: "agreement-end"}
_MEMBERS = ("v", "type", "id", "agreementId", "agreementHash", "proposer", "other", "reason", "at")


def proposal_of(
    kind: str,
    before: Agreement,
    *,
    identifier: str,
    proposer: str,
    at: str,
    reason: str,
    policy: Mapping[str, Any] | None = None,
    terms: str = "",
) -> dict[str, Any]:
    """A proposal: ``amend`` names the whole agreement as it would be, ``end`` only the one that ends. Raises what :func:`amended` does."""
    proposal: dict[str, Any] = {
        "v": 1,
        "type": _TYPES[kind],
        "id": identifier,
        "agreementId": before.id,
        "agreementHash": before.agreement_hash,
        "proposer": proposer,
        "other": before.partner,
        "reason": reason[:1000],
        "at": at,
    }
    if kind == AMEND:
        proposal["agreement"] = {**before.agreement, "timestamp": at}
        for place in ("permission", "prohibition", "obligation"):
            proposal["agreement"].pop(place, None)
        proposal["agreement"] |= with_contract(_unbound(policy or {}), terms=terms, price=before.price)
        proposal["terms"] = terms
        amended(before, proposal)
    return proposal


def kind_of(proposal: Mapping[str, Any]) -> str:
    """``amend`` or ``end``. Raises Refused ``exchange.message-invalid`` where the proposal's form is neither's."""
    kind = next((kind for kind, name in _TYPES.items() if name == proposal.get("type")), "")
    wanted = {*_MEMBERS, "agreement", "terms"} if kind == AMEND else set(_MEMBERS)
    if not kind or set(proposal) != wanted or proposal["v"] != 1:
        raise _invalid("its members are not those of a proposal of version 1")
    texts = [name for name in _MEMBERS if name not in ("v", "type")]
    if any(not isinstance(proposal[name], str) or len(proposal[name]) > 1024 for name in texts):
        raise _invalid("a member is no short text")
    if not 0 < len(proposal["id"]) <= 128:
        raise _invalid("id: must have 1 to 128 characters")
    return kind


def amended(before: Agreement, proposal: Mapping[str, Any]) -> dict[str, Any]:
    """The agreement's document as an amendment would have it.

    Parties, target and identifier stay; so does the price, since deliveries were made for it. Raises Refused ``exchange.message-invalid``,
    and ``exchange.term-refused`` for rules that would be neither enforced nor shown.
    """
    document = proposal.get("agreement")
    if not isinstance(document, Mapping) or not isinstance(proposal.get("terms"), str):
        raise _invalid("it holds no agreement")
    for name in ("@id", "@type", "target", "assigner", "assignee"):
        if document.get(name) != before.agreement.get(name):
            raise _invalid(f"{name}: can't be amended")
    prices = [
        {item.right for item in compile_policy(policy).constraints if item.left == PRICE_TERM}
        for policy in (before.agreement, document)
    ]
    if prices[0] != prices[1]:
        raise _invalid("the price can't be amended: end this agreement and make another")
    bound = {item.right for item in compile_policy(document).constraints if item.left == CONTRACT_TERM}
    if bound != ({(digest(proposal["terms"]),)} if proposal["terms"] else set()):
        raise _invalid("the terms shown are not bound into the agreement")
    return dict(document)


def _unbound(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The rules without the digests of terms and price, which are bound in anew."""
    rules = rules_of(policy)
    if "permission" in rules:
        rules["permission"] = [
            {
                name: value
                if name != "constraint"
                else [one for one in value if one.get("leftOperand") not in (CONTRACT_TERM, PRICE_TERM)]
                for name, value in rule.items()
            }
            for rule in rules["permission"]
        ]
    return rules


def signature_digest(signature: str) -> str:
    """How a statement names a signature: digest of its 64 bytes."""
    return "sha256:" + sha256(unb64(signature)).hex()


def statement_of(
    proposal: Mapping[str, Any], signature: str, *, by: str, verdict: str, reason: str, at: str
) -> dict[str, Any]:
    """The other side's statement: ``accept`` or ``refuse`` an amendment, ``heard`` of an end."""
    return {
        "v": 1,
        "type": "amendment-statement",
        "id": proposal["id"],
        "proposal": digest(dict(proposal)),
        "proposerSig": signature_digest(signature),
        "by": by,
        "verdict": verdict,
        "reason": reason[:1000],
        "at": at,
    }


def verify_amendment(
    proposal: Mapping[str, Any],
    signature: str,
    answer: Mapping[str, Any] | None,
    proposer_key: bytes,
    other_key: bytes | None,
) -> list[str]:
    """Everything that is wrong with a proposal and its answer (``{statement, signature}``), empty where both hold. Keys: Ed25519."""
    try:
        kind = kind_of(proposal)
        if not verify_ed25519(proposer_key, canonical_bytes(dict(proposal)), unb64(signature)):
            return ["the proposer's signature does not match"]
    except Refused as error:
        return [error.message("en")]
    except (Skippable, ValueError):
        return ["the proposal or its signature can't be read"]
    if answer is None:
        return []
    statement, given = answer.get("statement"), answer.get("signature")
    if not isinstance(statement, Mapping) or not isinstance(given, str) or other_key is None:
        return ["the answer can't be checked"]
    found = []
    try:
        if not verify_ed25519(other_key, canonical_bytes(dict(statement)), unb64(given)):
            found.append("the signature of the answer does not match")
    except (Skippable, ValueError):
        return ["the answer can't be read"]
    wanted = statement_of(
        proposal,
        signature,
        by=str(proposal["other"]),
        verdict=str(statement.get("verdict")),
        reason=str(statement.get("reason", "")),
        at=str(statement.get("at")),
    )
    found += [f"{name}: is another proposal's" for name in sorted(wanted) if statement.get(name) != wanted[name]]
    if statement.get("verdict") not in (("accept", "refuse") if kind == AMEND else ("heard",)):
        found.append("it has no verdict")
    return found


def _invalid(reason: str) -> Refused:
    return Refused("exchange.message-invalid", message="agreement proposal", reason=reason)
