"""Two companies that settle with each other through memory: real keys, real records, real receipts; only the wire is short."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from guantong.base.errors import GuantongError, Refused
from guantong.base.keys import Ed25519Key
from guantong.records import METADATA, Message, Records
from guantong.settle.model import Terms
from guantong.settle.service import Settle

AGREEMENT = "urn:uuid:0d2f6a4e-5a0c-4a55-9d2b-000000000001"
PROVIDER, CONSUMER = "did:web:supplier.example", "did:web:customer.example"
PLAN = {
    "currency": "CNY",
    "charges": [{"per": "row", "price": "0.0028", "free": "1000"}, {"per": "transfer", "price": "0.5"}],
    "minimum": "1.00",
    "taxes": [{"name": "增值税 6%", "rate": "0.06"}],
}


def usage(seq: int, rows: int, *, transfer: str = "urn:uuid:t1", **more: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "type": "usage",
        "recordId": f"urn:uuid:record-{transfer[-2:]}-{seq}",
        "agreementId": AGREEMENT,
        "transferProcessId": transfer,
        "seq": seq,
        "provider": PROVIDER,
        "consumer": CONSUMER,
        "from": "2026-11-24T08:00:00Z",
        "to": f"2026-11-24T08:00:{seq % 60:02d}Z",
        "unit": "row",
        "quantity": rows,
        "rows": rows,
        "bytes": rows * 40,
        **more,
    }


def receipt(record: dict[str, Any], state: str = "acknowledged") -> dict[str, Any]:
    return {"record": record, "providerSignature": "", "countersignature": None, "state": state}


@dataclass
class Company:
    did: str
    records: Records
    key: Ed25519Key = field(default_factory=Ed25519Key.generate)
    receipts: list[dict[str, Any]] = field(default_factory=list)
    plan: Mapping[str, Any] = field(default_factory=lambda: dict(PLAN))
    partner: Company | None = None
    has_endpoint: bool = True
    posted: list[dict[str, Any]] = field(default_factory=list)
    settle: Settle = None  # type: ignore[assignment]

    async def usage(self, participant: str, agreement_id: str) -> list[dict[str, Any]]:
        assert participant == self.did
        return list(self.receipts)

    async def terms(self, participant: str, agreement_id: str) -> Terms:
        if agreement_id != AGREEMENT:
            raise Refused("settle.invoice-unknown", agreement=agreement_id)
        return Terms(AGREEMENT, PROVIDER, CONSUMER, self.plan)

    def evidence_key(self, participant: str) -> Ed25519Key:
        return self.key

    async def partner_key(self, did: str) -> bytes:
        assert self.partner is not None
        assert did == self.partner.did
        return self.partner.key.public

    async def fall_silent(self, participant: str, agreement_id: str, older_than_s: float) -> list[str]:
        return []

    async def blocks(self, participant: str, record_id: str) -> list[bytes]:
        return []

    async def ask(self, participant: str, agreement_id: str, kind: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        raise Refused("exchange.question-refused", kind=kind)

    async def post(
        self, participant: str, partner: str, path: str, body: Mapping[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        assert self.partner is not None
        self.posted.append(dict(body))
        if not self.partner.has_endpoint:
            return 404, {}
        try:
            return 200, await self.partner.settle.receive(partner, participant, body)
        except GuantongError as error:
            return error.status, {"code": error.code}

    async def carry(self) -> None:
        """Take every queued message out, as the outbox would."""
        import orjson
        from sqlalchemy import select

        from guantong.records.tables import OUTBOX

        for row in await self.records.rows(select(OUTBOX).where(OUTBOX.c.state == "queued").order_by(OUTBOX.c.number)):
            message = Message(row["lane"], row["kind"], row["key"], orjson.loads(row["payload"]))
            await self.settle.deliver(self.did, message)
            async with self.records.step(self.did) as step:
                step.update(OUTBOX, {"kind": row["kind"], "key": row["key"]}, {"state": "sent"})


@pytest.fixture
def companies(clock: Any) -> Iterator[tuple[Company, Company]]:
    pair = []
    for did in (PROVIDER, CONSUMER):
        records = Records("sqlite://", clock, inline=True)
        records.open(METADATA.create_all)
        company = Company(did, records)
        company.settle = Settle(records, company, company, clock)
        pair.append(company)
    supplier, customer = pair
    supplier.partner, customer.partner = customer, supplier
    yield supplier, customer
    for company in pair:
        company.records.close()
