"""What an auditor asks of a node: search over evidence, the regulator's pack, a deposit of evidence, and a link that may only read.

Everything here is built from what the rooms already hold; nothing is decided, and nothing is left out silently.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import and_, select

from guantong.base.canonical import b64, canonical_bytes, digest
from guantong.base.clock import iso, parse_iso
from guantong.base.errors import GuantongError, Skippable
from guantong.base.identifiers import normal
from guantong.prove.rules import write_zip
from guantong.records.tables import LEAVES
from guantong.web.ask import Ask, time_of
from guantong.web.rooms import Rooms

__all__ = ["AUDITOR_MAY", "AUDITOR_SEES", "deposit", "invite", "regulator", "search"]

AUDITOR_SEES = frozenset(
    {
        "journey",
        "describe",
        "dataset",
        "lineage",
        "govern",
        "products",
        "contracts",
        "contract",
        "evidence",
        "invoices",
        "netting",
        "help",
    }
)
"""Pages that the read-only role opens; readings, settings and partners' addresses are none of them."""
AUDITOR_MAY = frozenset(
    {"/evidence/verify", "/evidence/package", "/evidence/trust", "/audit/search", "/audit/regulator", "/audit/deposit"}
)
"""Actions that the read-only role may take; none of them changes anything but the record that a package was made."""
LIMIT = 1000


def _instant(ask: Ask, name: str) -> int | None:
    given = str(ask.query.get(name, "") or "").strip()
    if not given:
        return None
    at = parse_iso(given)
    if not 0 <= at < 2**63:  # what the records hold; ns reach the year 2262
        raise Skippable("base.time-unreadable", text=given[:40])
    return at


async def search(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Entries of the evidence log by kind, period and text, newest first: at most 1,000, and said if there are more."""
    where = [LEAVES.c.participant == rooms.participant]
    kind, words = str(ask.query.get("kind") or ""), str(ask.query.get("text") or "").encode()[:200]
    start, end = _instant(ask, "from"), _instant(ask, "to")
    if kind:
        where.append(LEAVES.c.kind == kind[:64])
    if start is not None:
        where.append(LEAVES.c.recorded_at >= start)
    if end is not None:
        where.append(LEAVES.c.recorded_at < end)
    found: list[dict[str, Any]] = []
    below: int | None = None
    while len(found) <= LIMIT:
        rows = await rooms.records.rows(
            select(LEAVES)
            .where(and_(*where, *([] if below is None else [LEAVES.c.number < below])))
            .order_by(LEAVES.c.number.desc())
            .limit(4096)
        )
        if not rows:
            break
        below = int(rows[-1]["number"])
        found += [
            {
                "number": row["number"],
                "at": time_of(row["recorded_at"]),
                "kind": row["kind"],
                "body": orjson.loads(row["leaf"])["body"],
            }
            for row in rows
            if words in bytes(row["leaf"])
        ]
    return {"entries": found[:LIMIT], "more": len(found) > LIMIT}


async def regulator(rooms: Rooms, ask: Ask) -> bytes:
    """Who received which grade of data, under which contract, when: tables as CSV and one JSON, in a zip file."""
    start, end = _instant(ask, "from"), _instant(ask, "to")
    me = rooms.participant
    grades = {one.id: one for one in await rooms.govern.grades(me)}
    agreements: list[dict[str, Any]] = []
    deliveries: list[dict[str, Any]] = []
    for one in await rooms.exchange.agreements(me):
        grade = grades.get(one.dataset_id) or grades.get(f"dataset:{one.dataset_id}")
        rights = await rooms.govern.rights(me, one.dataset_id) if one.role == "provider" else None
        told = {
            "agreement": one.id,
            "role": one.role,
            "partner": one.partner,
            "dataset": one.dataset_id,
            "grade": grade.level if grade else "not graded",
            "enforced": grade.enforce if grade else "",
            "personal": " ".join(grade.personal) if grade else "",
        }
        agreements.append(
            {
                **told,
                "state": one.state,
                "agreedAt": time_of(one.agreed_at),
                "agreementHash": one.agreement_hash,
                "policyHash": one.policy_hash,
                "termsHash": digest(one.terms) if one.terms else "",
                "holder": rights.holder if rights else "",
                "sourceOfRight": rights.source if rights else "",
            }
        )
        for receipt in await rooms.exchange.receipts(me, one.id):
            if (start is not None and receipt.recorded_at < start) or (end is not None and receipt.recorded_at >= end):
                continue
            record = receipt.record
            deliveries.append(
                {
                    "recordedAt": time_of(receipt.recorded_at),
                    **told,
                    "transfer": receipt.transfer_pid,
                    "seq": receipt.seq,
                    "rows": record.get("rows"),
                    "bytes": record.get("bytes"),
                    "purpose": record.get("purpose"),
                    "contentRoot": record.get("contentRoot"),
                    "receipt": receipt.state,
                }
            )
    graded: list[dict[str, Any]] = [
        {
            "id": one.id,
            "level": one.level,
            "status": one.status,
            "rules": list(one.rules),
            "unverified": list(one.unverified),
        }
        for one in grades.values()
    ]
    document: dict[str, Any] = {
        "type": "guantong-regulator-pack",
        "participant": me,
        "madeAt": iso(rooms.records.clock.now()),
        "from": time_of(start),
        "to": time_of(end),
        "agreements": agreements,
        "deliveries": deliveries,
        "grades": graded,
    }
    return write_zip(
        {
            "agreements.csv": _csv(agreements),
            "deliveries.csv": _csv(deliveries),
            "grades.csv": _csv(graded),
            "pack.json": orjson.dumps(document, option=orjson.OPT_INDENT_2),
            "README.txt": _ABOUT.encode(),
        }
    )


_ABOUT = """Who received which grade of data, under which contract, when. Each delivery is proven by the evidence package of its agreement
(guantong package AGREEMENT). A grade is the result of versioned rules; "important" and "core" are suspicions until an authority says so.

谁在何时依据哪份合约收到了哪一级别的数据。每次交付均可由该合约的存证包证明（guantong package 合约编号）。
级别由带版本的规则得出；在主管部门认定之前，“重要”“核心”仅为疑似。
"""


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """CSV (RFC 4180) with a byte-order mark, so that office programs read Chinese; cells that a spreadsheet would run are quoted."""
    out = io.StringIO()
    if rows:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        value = " ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


async def deposit(rooms: Rooms, ask: Ask) -> bytes:
    """A deposit of evidence (存证包) about a product under an agreement. It is never a registration certificate (登记证书), and says so.

    Fields: those that Chinese registration practice asks for; what the node does not know is null, never filled in.
    """
    agreement_id = str(ask.query.get("agreement") or "")
    me = rooms.participant
    if not agreement_id:
        raise Skippable("web.field-missing", field="agreement", reason="it is empty")
    one = await rooms.exchange.agreement(me, agreement_id)
    sets = {item.id: item for item in await rooms.describe.datasets(me)}
    data, rights = sets.get(one.dataset_id), await rooms.govern.rights(me, one.dataset_id)
    receipts = await rooms.exchange.receipts(me, agreement_id)
    numbers = await rooms.prove.numbers_about(me, agreement_id)
    view = await rooms.prove.view(me)
    last = receipts[-1].record if receipts else {}
    proof = (await rooms.prove.inclusion(me, numbers[0])).to_bytes() if numbers else b""
    document: dict[str, Any] = {
        "type": "guantong-deposit",
        "notice": {
            "en": "A deposit of evidence made by the party itself. It is not a registration certificate of any authority.",
            "zh": "本件为当事方自行制作的存证材料，不是任何登记机构颁发的登记证书。",
        },
        "madeAt": iso(rooms.records.clock.now()),
        "product": {
            "dataset": one.dataset_id,
            "title": {"en": data.title_en, "zh": data.title_zh} if data else None,
            "source": rights.source if rights else None,
            "processingRules": rights.processor if rights else None,
            "structure": list(data.signals) if data else None,
            "scale": {"rows": sum(int(item.record.get("rows", 0)) for item in receipts), "deliveries": len(receipts)},
            "updateRate": None,
            "scenario": data.description if data else None,
        },
        "content": {"root": last.get("contentRoot"), "algorithm": last.get("contentAlg")},
        "log": {
            "origin": view.origin,
            "index": numbers[0] if numbers else None,
            "proof": b64(proof) if proof else None,
        },
        "anchors": [
            {"kind": item.kind, "size": item.size, "at": time_of(item.at), "ref": dict(item.ref)}
            for item in view.anchors
        ],
        "parties": [{"did": me, "uscc": _uscc(ask, "uscc")}, {"did": one.partner, "uscc": _uscc(ask, "partner_uscc")}],
        "rights": None
        if rights is None
        else {
            "holder": rights.holder,
            "processor": rights.processor,
            "operator": rights.operator,
            "evidence": rights.evidence,
        },
        "policyHash": one.policy_hash,
        "agreementHash": one.agreement_hash,
        "validity": {"from": rights.valid_from, "to": rights.valid_to} if rights else None,
    }
    plain = orjson.loads(orjson.dumps(document))
    signature = rooms.prove.private_keys(me).log.sign(canonical_bytes(plain))
    signed = canonical_bytes({**plain, "signature": {"by": me, "alg": "Ed25519", "value": b64(signature)}})
    files = {"deposit.json": signed}
    try:
        files["evidence.guantong.zip"] = await rooms.package(agreement_id)
    except GuantongError as error:
        files["evidence-missing.txt"] = f"{error}\n".encode()
    return write_zip(files)


def _uscc(ask: Ask, name: str) -> str | None:
    """A unified social credit code as given, its check characters verified; None where none was."""
    given = str(ask.query.get(name) or "").strip()
    return normal("uscc", given) if given else None


async def invite(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """A one-time link whose session may only read."""
    from guantong.web.model import WebSettings
    from guantong.web.signin import SignIn

    sign_in = SignIn(rooms.records, WebSettings())
    return {"link": await sign_in.issue_link(rooms.participant, rooms.base_url, role="auditor")}
