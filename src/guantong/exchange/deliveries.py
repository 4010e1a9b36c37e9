"""What a delivery under an agreement holds: the rows of the dataset, a marked copy of them, the answer of a query template, or a template.

The contract decides, by constraints that both sides have signed; who asks can only give a query its parameters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from guantong.base.errors import Refused
from guantong.exchange.hosting import Hosting
from guantong.exchange.model import Agreement
from guantong.exchange.queries import TEMPLATE_DATASET, Queries

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.exchange.fingerprint import Marks

__all__ = ["FINGERPRINT_TERM", "PARAMETER", "QUERY_TERM", "Deliveries", "bound", "stated"]

QUERY_TERM = "https://w3id.org/guantong/ns/queryTemplate"
"""Left operand: only the answers of the template with this digest leave."""
FINGERPRINT_TERM = "https://w3id.org/guantong/ns/fingerprint"
"""Left operand: every copy is marked; the right operand states how, and the resolution."""

PARAMETER = "p."
"""What the name of a template's parameter begins with in the query of a delivery's address."""


class Deliveries:
    """Chooses by the agreement."""

    def __init__(self, hosting: Hosting, queries: Queries, marks: Marks) -> None:
        self._hosting = hosting
        self._queries = queries
        self._marks = marks

    def rows(
        self,
        participant: str,
        agreement: Agreement,
        record_id: str,
        query: Mapping[str, str],
        start: int | None,
        end: int | None,
    ) -> AsyncIterator[pa.RecordBatch]:
        """The record batches of one delivery. Raises Refused, when it is read, where a rule of the contract forbids it."""
        template = stated(agreement.agreement, QUERY_TERM)
        if template:
            given = {name.removeprefix(PARAMETER): text for name, text in query.items() if name.startswith(PARAMETER)}
            return self._queries.answer(
                participant,
                agreement.partner,
                agreement.id,
                agreement.dataset_id,
                template,
                given,
                record_id,
                start=start,
                end=end,
            )
        rows = self.dataset(participant, agreement.dataset_id, start, end)
        marking = stated(agreement.agreement, FINGERPRINT_TERM)
        return self._marks.marked(participant, agreement.id, marking, rows) if marking else rows

    async def floor(self, participant: str, agreement: Agreement) -> int:
        """Fewest units that a delivered row stands for: the smallest group of the contract's template, 1 for rows as they are."""
        template = stated(agreement.agreement, QUERY_TERM)
        if not template:
            return 1
        signed = await self._queries.template(participant, template)
        return max(signed.template.min_group, self._hosting.settings.query_min_group)

    def dataset(
        self, participant: str, dataset_id: str, start: int | None, end: int | None
    ) -> AsyncIterator[pa.RecordBatch]:
        """The rows of a dataset, or the one row of a template that is offered as such."""
        if dataset_id.startswith(TEMPLATE_DATASET):
            return self._template(participant, dataset_id.removeprefix(TEMPLATE_DATASET))
        return self._hosting.rows(participant, dataset_id, start, end)

    async def _template(self, participant: str, name: str) -> AsyncIterator[pa.RecordBatch]:
        import orjson
        import pyarrow as pa

        signed = await self._queries.template(participant, name)
        yield pa.RecordBatch.from_pydict({"document": [orjson.dumps(signed.document()).decode()]})


def bound(policy: Mapping[str, Any], term: str, value: str) -> dict[str, Any]:
    """A policy whose every permission states one of our own terms, instead of what it stated of it before."""
    permissions = [
        {
            **rule,
            "constraint": [
                *(one for one in rule.get("constraint") or () if one.get("leftOperand") != term),
                {"leftOperand": term, "operator": "eq", "rightOperand": value},
            ],
        }
        for rule in policy.get("permission") or [{"action": "use"}]
    ]
    return {**policy, "permission": permissions}


def stated(policy: Mapping[str, Any], term: str) -> str:
    """The value of one of our own terms in a policy's permissions, empty where it is not there.

    Raises Refused ``exchange.term-refused`` where two permissions state different values.
    """
    found = {
        str(constraint.get("rightOperand"))
        for rule in policy.get("permission") or ()
        for constraint in _flat(rule.get("constraint") or ())
        if str(constraint.get("leftOperand")) in (term, "guantong:" + term.rpartition("/")[2])
    }
    if len(found) > 1:
        raise Refused("exchange.term-refused", term=term, reason="it is stated twice, with different values")
    return next(iter(found), "")


def _flat(constraints: Any) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for one in constraints:
        if isinstance(one, Mapping):
            found += _flat(one["and"]) if isinstance(one.get("and"), list) else [one]
    return found
