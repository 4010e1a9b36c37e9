"""Figures between partners: ordering, challenging and receiving under an agreement, over the exchange's questions."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from guantong.base.canonical import b64, canonical_bytes, digest, unb64
from guantong.base.clock import iso, parse_iso
from guantong.base.errors import GuantongError, Refused, Skippable
from guantong.base.merkle import HASH_BYTES
from guantong.exchange.model import Answer, Question
from guantong.prove import figure_proof
from guantong.prove.figure import OPEN_FIGURE, ORDER_FIGURE, RECEIVE_FIGURE, Checked, Made
from guantong.prove.figure_functions import Wrong
from guantong.prove.figure_proof import check_bundle
from guantong.prove.figures import Figures, challenged
from guantong.prove.tables import FIGURES
from guantong.records.service import Row

__all__ = ["FigureTrade"]

Ask = Callable[[str, str, str, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""``(participant, agreement id, kind, body)`` to the body of the partner's answer: ``Exchange.ask``."""


class FigureTrade:
    """Both sides of the trade in figures; exchange's ``Answerer`` of the three kinds of question."""

    def __init__(self, figures: Figures, ask: Ask) -> None:
        self.figures = figures
        self._ask = ask

    # ---- buying

    async def order(self, participant: str, agreement_id: str, definition_id: str, start: int, end: int) -> Made:
        """Order a figure from the partner of an agreement; our nonce is fixed with the order, by its digest."""
        nonce = self.figures.records.random(32)
        answer = await self._ask(
            participant,
            agreement_id,
            ORDER_FIGURE,
            {
                "definition": definition_id,
                "from": iso(start),
                "to": iso(end),
                "nonceHash": figure_proof.nonce_hash(nonce),
            },
        )
        bundle = answer.get("proof")
        if not isinstance(bundle, dict) or not isinstance(bundle.get("figure"), dict):
            raise Skippable("prove.figure-unusable", reason="there is no proof in the answer")
        figure = bundle["figure"]
        if (
            figure.get("nonceHash") != figure_proof.nonce_hash(nonce)
            or figure.get("agreementId") != agreement_id
            or figure.get("window") != {"from": iso(start), "to": iso(end)}
        ):
            raise Skippable("prove.figure-unusable", reason="it answers another order")
        name = digest(figure)
        await self.figures.store(
            participant,
            name,
            "buyer",
            definition_id,
            str(figure.get("seller")),
            agreement_id,
            "",
            nonce,
            bundle,
            self.figures.clock.now(),
        )
        return await self.figures.figure(participant, name)

    async def challenge_partner(self, participant: str, name: str, count: int) -> Checked:
        """Challenge a figure that a partner made for us, check what it opens, sign the verdict and hand it over: the figure's receipt."""
        row = await self.figures.row(participant, name)
        if row["role"] != "buyer":
            raise Skippable("prove.figure-unknown", figure=name)
        bundle = orjson.loads(row["proof"])
        agreement_id = str(row["agreement_id"])
        if bundle.get("challenge") is None:
            challenge = await self._ask(
                participant,
                agreement_id,
                OPEN_FIGURE,
                {"figure": name, "nonce": b64(bytes(row["secret"])), "count": count},
            )
            bundle["challenge"] = dict(challenge)
        trust = await self.figures.trust(participant)
        checked = await asyncio.to_thread(check_bundle, bundle, trust)
        figure = bundle["figure"]
        if bundle.get("receipt") is None:
            statement = figure_proof.receipt_statement(checked, figure, buyer=participant, at=self.figures.clock.now())
            signature = figure_proof.sign_as(participant, self.figures.key(participant), canonical_bytes(statement))
            bundle["receipt"] = {"statement": statement, "signature": signature}
            async with self.figures.records.step(participant) as step:
                step.update(FIGURES, {"digest": name}, {"proof": orjson.dumps(bundle), "verdict": checked.verdict})
                seed = bytes.fromhex(checked.seed[7:] or "00" * 32)
                verdict = "wrong" if checked.verdict == "wrong" else "clean"
                step.record(challenged(figure, name, seed, checked.opened, verdict, digest(statement)))
        with contextlib.suppress(Refused, Skippable):
            # the verdict stands on our own record; a seller that will not hear it changes nothing
            await self._ask(participant, agreement_id, RECEIVE_FIGURE, bundle["receipt"])
        return checked

    # ---- selling: exchange's Answerer

    async def answer(self, participant: str, question: Question) -> Answer:
        """Answer a partner's order, challenge or receipt under an agreement."""
        body = question.body
        if question.kind == ORDER_FIGURE:
            return Answer({"proof": await self._sell(participant, question)})
        name = str(body.get("figure") or _of(body, "statement", "figure"))[:71]
        row = await self.figures.row(participant, name)
        if row["partner"] != question.partner or row["agreement_id"] != question.agreement.id:
            raise Skippable("prove.figure-unknown", figure=name)
        if question.kind == OPEN_FIGURE:
            try:
                nonce, count = unb64(str(body.get("nonce", ""))), int(body.get("count", 0))
            except (TypeError, ValueError) as error:
                raise Refused("prove.challenge-refused", figure=name, reason="nonce or count is missing") from error
            return Answer(await self.figures.open(participant, name, nonce, count))
        await self._take_receipt(participant, name, row, body)
        return Answer({"figure": name, "taken": True})

    async def _sell(self, participant: str, question: Question) -> Mapping[str, Any]:
        body = question.body
        try:
            start, end = parse_iso(str(body["from"])), parse_iso(str(body["to"]))
            definition_id, nonce_hash = str(body["definition"]), str(body["nonceHash"])
        except KeyError as error:
            raise Refused("prove.figure-impossible", figure="–", reason="the order is incomplete") from error
        definition = await self.figures.definition(participant, definition_id)
        if question.agreement.id not in definition.agreements or question.agreement.role != "provider":
            raise Refused("prove.figure-refused", figure=definition_id, agreement=question.agreement.id)
        contract = question.agreement.price.get("openings")
        openings = min(definition.openings, contract) if isinstance(contract, int) else definition.openings
        made = await self.figures.make(
            participant,
            definition_id,
            start,
            end,
            nonce_hash=nonce_hash[:71],
            agreement_id=question.agreement.id,
            partner=question.partner,
            openings=openings,
        )
        return made.proof

    async def _take_receipt(self, participant: str, name: str, row: Row, body: Mapping[str, Any]) -> None:
        statement, signature = body.get("statement"), body.get("signature")
        if not isinstance(statement, dict) or not isinstance(signature, dict):
            raise Refused("prove.challenge-refused", figure=name, reason="the receipt is of another form")
        bundle = orjson.loads(row["proof"])
        if bundle.get("receipt") is not None:
            return
        trust = await self.figures.trust(participant)
        checked = Checked()
        try:
            figure_proof.check_signature(signature, canonical_bytes(statement), str(row["partner"]), trust, checked)
        except (Wrong, GuantongError, KeyError, ValueError) as error:
            raise Refused("base.signature-bad", signer=row["partner"]) from error
        if statement.get("figure") != name or statement.get("buyer") != row["partner"]:
            raise Refused("prove.challenge-refused", figure=name, reason="the receipt is about another figure")
        bundle["receipt"] = {"statement": statement, "signature": signature}
        opened = statement.get("opened")
        seed = str(statement.get("seed", ""))
        async with self.figures.records.step(participant) as step:
            step.update(FIGURES, {"digest": name}, {"proof": orjson.dumps(bundle)})
            step.record(
                challenged(
                    bundle["figure"],
                    name,
                    bytes.fromhex(seed[7:]) if len(seed) == 71 else bytes(HASH_BYTES),
                    opened if isinstance(opened, int) and opened >= 0 else 0,
                    "wrong" if statement.get("verdict") == "wrong" else "clean",
                    digest(statement),
                )
            )


def _of(body: Mapping[str, Any], *names: str) -> Any:
    found: Any = body
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
