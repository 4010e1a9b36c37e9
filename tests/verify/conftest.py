"""A whole package put together from pure functions: agreement, receipts, an invoice, the log they were recorded in, two witnesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from guantong.base.canonical import b64, canonical_bytes, digest, sha256
from guantong.base.clock import parse_iso
from guantong.base.entry import Entry, EntryKind, leaf_bytes
from guantong.base.keys import Ed25519Key
from guantong.base.merkle import inclusion_proof, leaf_hash, nodes_of, root
from guantong.base.note import COSIGNATURE, Checkpoint, Proof, cosign, key_of, sign
from guantong.exchange.model import AGREEMENT_MADE, USAGE_COUNTERSIGNED, USAGE_RECORDED
from guantong.exchange.rules import statement_of
from guantong.prove import package, rules
from guantong.prove.model import origin_of, witness_name_of
from guantong.settle import rules as settle
from guantong.settle.model import INVOICE_DERIVED

AT = parse_iso("2026-11-24T08:00:00Z")
PRICE = settle.PricePlan.parse(
    {"currency": "CNY", "charges": [{"per": "row", "price": "0.0028"}], "taxes": [{"name": "VAT", "rate": "0.06"}]}
).document()
TERMS = "Data of the milling shop, for incoming inspection only."
OTHER = EntryKind("test.noted", "", "", {})


def key(name: str) -> Ed25519Key:
    return Ed25519Key(sha256(name.encode()))


@dataclass
class World:
    """Everything a package is made of; change a part, then ``pack``."""

    provider: str = "did:web:supplier.example"
    consumer: str = "did:web:customer.example"
    agreement_id: str = "urn:uuid:8a6f0f4e-0001-4c00-9c00-000000000001"
    rows: tuple[int, ...] = (1000, 2500, 40)
    salt: str = ""
    keys: dict[str, Ed25519Key] = field(default_factory=dict)
    log_size_before: int = 300

    def __post_init__(self) -> None:
        for did in (self.provider, self.consumer, "did:web:auditor.example"):
            self.keys[did] = key(self.salt + did)
            self.keys["witness " + did] = key(self.salt + "witness" + did)
        self.agreement: dict[str, Any] = {
            "@id": self.agreement_id,
            "@type": "Agreement",
            "assigner": self.provider,
            "assignee": self.consumer,
            "target": "urn:uuid:dataset",
            "permission": [
                {
                    "action": "use",
                    "constraint": [
                        {"leftOperand": rules.PRICE_TERM, "operator": "eq", "rightOperand": digest(PRICE)},
                        {"leftOperand": rules.CONTRACT_TERM, "operator": "eq", "rightOperand": digest(TERMS)},
                    ],
                }
            ],
        }
        self.receipts = [self.receipt(number, count) for number, count in enumerate(self.rows, 1)]
        self.invoice = settle.invoice(
            settle.PricePlan.parse(PRICE),
            [item["record"] for item in self.receipts],
            number="GT-2026-000001",
            issued_at=AT,
        )

    def receipt(self, seq: int, rows: int, verdict: str = "accept", complete: bool = True) -> dict[str, Any]:
        record = {
            "v": 1, "type": "usage", "recordId": f"urn:uuid:record-{seq}", "agreementId": self.agreement_id,
            "agreementHash": digest(self.agreement), "policyHash": digest({}), "assetId": "urn:uuid:dataset", "assetVersion": "1",
            "transferProcessId": "urn:uuid:transfer", "consumerProcessId": "urn:uuid:c", "seq": seq, "provider": self.provider,
            "consumer": self.consumer, "from": "2026-11-24T07:00:00Z", "to": "2026-11-24T07:30:00Z", "unit": "rows",
            "quantity": str(rows), "rows": rows, "bytes": rows * 40, "complete": complete, "purpose": "inspection",
            "contentAlg": "sha256-rfc6962", "blockBytes": 65536, "contentRoot": digest(rows), "chunkCount": 1, "prev": "",
            "meterSource": self.provider + "#evidence", "clock": "system", "salt": b64(seq.to_bytes(2, "big") * 8),
        }  # fmt: skip
        signature = b64(self.keys[self.provider].sign(canonical_bytes(record)))
        counted = {"rows": rows, "bytes": rows * 40, "contentRoot": digest(rows)}
        if verdict == "dispute":
            counted["rows"] -= 1
        statement = statement_of(record, signature, counted, consumer=self.consumer, at="2026-11-24T07:31:00Z")
        answer = {"statement": statement, "signature": b64(self.keys[self.consumer].sign(canonical_bytes(statement)))}
        return {
            "record": record,
            "signature": signature,
            "countersignature": answer,
            "state": "acknowledged" if verdict == "accept" else "disputed",
        }

    def invoice_signatures(self) -> list[dict[str, str]]:
        return [
            {"by": did, "key": f"{did}#evidence", "algorithm": "Ed25519", "value": b64(self.keys[did].sign(canonical_bytes(self.invoice)))}
            for did in (self.provider, self.consumer)
        ]  # fmt: skip

    def entries(self) -> list[Entry]:
        found = [
            Entry(
                AGREEMENT_MADE,
                {
                    "agreement": self.agreement_id, "partner": self.consumer, "role": "provider", "dataset": "urn:uuid:dataset",
                    "agreementHash": digest(self.agreement), "policyHash": digest({}),
                },
            )
        ]  # fmt: skip
        for item in self.receipts:
            common = {"role": "provider", "partner": self.consumer, "state": "offered", "signature": item["signature"]}
            found.append(
                Entry(USAGE_RECORDED, {"recordHash": digest(item["record"]), "record": item["record"], **common})
            )
            answer = item["countersignature"]
            if answer:
                found.append(
                    Entry(
                        USAGE_COUNTERSIGNED,
                        {
                            "record": item["record"]["recordId"], "agreement": self.agreement_id, "role": "provider",
                            "partner": self.consumer, "state": item["state"], "signature": answer["signature"],
                            "statement": answer["statement"],
                        },
                    )
                )  # fmt: skip
        found.append(Entry(INVOICE_DERIVED, {"agreementId": self.agreement_id, "invoice": digest(self.invoice)}))
        return found

    def trust(self) -> rules.Trust:
        return rules.parse_trust(self.trust_text())

    def trust_text(self, quorum: str = "") -> str:
        people = (self.provider, self.consumer)
        text = rules.trust_text(
            {did: self.keys[did].public for did in people},
            [key_of(origin_of(did), self.keys[did]) for did in people],
            [key_of(witness_name_of(did), self.keys["witness " + did], COSIGNATURE) for did in (self.consumer, "did:web:auditor.example")],
        )  # fmt: skip
        return text.replace("group witnesses any", f"group witnesses {quorum}") if quorum else text

    def files(
        self,
        *,
        cosigners: tuple[tuple[str, str], ...] = (
            ("did:web:customer.example", "2026-11-24T08:00:05Z"),
            ("did:web:auditor.example", "2026-11-24T09:00:00Z"),
        ),
        change_entries: Callable[[list[bytes]], None] = lambda _: None,
    ) -> dict[str, bytes]:
        maker = self.provider
        ours = [
            leaf_bytes(entry, participant=maker, at=AT - 10**9, salt=number.to_bytes(2, "big") * 8)
            for number, entry in enumerate(self.entries())
        ]
        others = [
            leaf_bytes(Entry(OTHER, {"n": number}), participant=maker, at=AT - 10**10, salt=bytes(16))
            for number in range(self.log_size_before)
        ]
        leaves = others + ours + others[:5]
        hashes = [leaf_hash(leaf) for leaf in leaves]
        change_entries(ours)
        origin = origin_of(maker)
        text = Checkpoint(origin, len(leaves), root(hashes)).text
        note = sign(text, origin, self.keys[maker]).adding(
            cosign(text, witness_name_of(did), self.keys["witness " + did], parse_iso(at) // 10**9)
            for did, at in cosigners
        )
        node = nodes_of(hashes)
        entries = []
        for number, leaf in enumerate(ours, len(others)):
            proof = Proof(number, tuple(inclusion_proof(node, number, len(leaves))), note.to_bytes())
            entries.append((number, leaf, proof.to_bytes()))
        documents = {rules.AGREEMENT_PATH: rules.agreement_paper(self.agreement, price=PRICE, terms=TERMS)}
        for number, item in enumerate(self.receipts, 1):
            documents[f"receipts/{number:06d}.json"] = rules.receipt_paper(
                item["record"],
                signature=item["signature"],
                countersignature=item["countersignature"],
                state=item["state"],
            )
        return package.files(
            participant=maker,
            agreement_id=self.agreement_id,
            documents=documents,
            extra={"invoices/000001.json": rules.invoice_paper(self.invoice, self.invoice_signatures())},
            entries=entries,
            log_key=key_of(origin, self.keys[maker]),
            witnesses=[
                (did, key_of(witness_name_of(did), self.keys["witness " + did], COSIGNATURE)) for did, _ in cosigners
            ],
        )

    def pack(
        self, files: dict[str, bytes] | None = None, *, maker: str = "", signer: Ed25519Key | None = None
    ) -> bytes:
        files = self.files() if files is None else files
        manifest = rules.manifest(
            files,
            maker=maker or self.provider,
            agreement_id=self.agreement_id,
            made_at=AT,
            key=signer or self.keys[maker or self.provider],
        )
        return rules.write_zip({rules.MANIFEST: manifest, **files})


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def make_world() -> type[World]:
    return World


@pytest.fixture(scope="session")
def package_bytes() -> bytes:
    return World().pack()
