"""The asker's side of query templates: ask one of a partner's data under a contract, or run a partner's template over one's own data.

Each run is a delivery under the contract: counted against its limits, with a usage record that both sides sign, invoiced by its price plan.
What is read at home never leaves; the platform learns that a run happened, not of what.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING

import orjson

from guantong.base.errors import Refused
from guantong.exchange.queries import TEMPLATE_DATASET

if TYPE_CHECKING:
    import pyarrow as pa

    from guantong.exchange.service import Exchange

__all__ = ["ask_template", "run_at_home"]


async def ask_template(
    exchange: Exchange,
    participant: str,
    agreement_id: str,
    parameters: Mapping[str, str],
    *,
    purpose: str = "",
    timeout_s: float = 30.0,
) -> pa.Table:
    """The answer of the contract's template for these parameters. Raises Refused where a rule of the provider forbids it."""
    import pyarrow as pa

    pid = await exchange.request_transfer(participant, agreement_id)
    transfer = await exchange.wait_transfer(participant, pid, timeout_s=timeout_s)
    if transfer.state != "STARTED":
        raise Refused("exchange.decision-denied", reason=transfer.reason or f"the transfer is {transfer.state}")
    body = exchange.pull(participant, pid, purpose=purpose, parameters=parameters)
    try:
        async with aclosing(body) as batches:  # type: ignore[type-var]
            found = [batch async for batch in batches]
    finally:
        # one run, one transfer: nobody keeps its token
        await exchange.decide_transfer(participant, pid, "complete")
    if not found:
        raise Refused("exchange.decision-denied", reason="the provider sent no answer")
    return pa.Table.from_batches(found)


async def run_at_home(
    exchange: Exchange,
    participant: str,
    agreement_id: str,
    dataset_id: str,
    parameters: Mapping[str, str],
    *,
    timeout_s: float = 30.0,
) -> pa.Table:
    """Fetch the signed template of a contract, metered, check it against contract and signature, and run it over a dataset of ours.

    Raises Refused ``exchange.template-refused``, ``exchange.query-failed``, and where the platform refuses the run.
    """
    agreement = await exchange.agreement(participant, agreement_id)
    wanted = agreement.dataset_id.removeprefix(TEMPLATE_DATASET)
    if wanted == agreement.dataset_id:
        raise Refused("exchange.template-refused", what="agreement", reason="it is not on a template")
    permit = await ask_template(exchange, participant, agreement_id, {}, timeout_s=timeout_s)
    documents = permit.column("document").to_pylist() if "document" in permit.schema.names else []
    if len(documents) != 1 or not isinstance(documents[0], str) or len(documents[0]) > 256 * 1024:
        raise Refused("exchange.template-refused", what="document", reason="the platform sent no template")
    try:
        document = orjson.loads(documents[0])
    except orjson.JSONDecodeError as error:
        raise Refused("exchange.template-refused", what="document", reason="it is not JSON") from error
    signed = await exchange.queries.verified(participant, document)
    if signed.template.digest != wanted:
        raise Refused("exchange.template-refused", what="digest", reason="it is not the template of the contract")
    job = exchange.hosting.new_id()
    return await exchange.queries.at_home(participant, signed, agreement_id, dataset_id, parameters, job)
