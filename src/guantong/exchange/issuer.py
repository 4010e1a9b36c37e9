"""Credentials that a participant issues: who is admitted to what is decided by a person, the rest follows from that.

A member asks (``CredentialRequestMessage``), the credential leaves through the outbox to its credential service, and its place in the
status list is where it can be ended. Source: Decentralized Claims Protocol 1.0, Credential Issuance Protocol; W3C Bitstring Status List.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import and_, func, select

from guantong.base.clock import NS, iso
from guantong.base.entry import Entry
from guantong.base.errors import Refused
from guantong.exchange.claims import CONTEXT, SERVICE
from guantong.exchange.credentials import PROFILES, made_credential
from guantong.exchange.dids import service_of
from guantong.exchange.hosting import checked_address, verdict_of
from guantong.exchange.identity import ISSUER_PATH
from guantong.exchange.model import CREDENTIAL_ENDED, CREDENTIAL_ISSUED, Participant
from guantong.exchange.status_list import encoded
from guantong.exchange.tables import CREDENTIAL_REQUESTS, CREDENTIALS_ISSUED, MEMBERS
from guantong.records.model import Message

if TYPE_CHECKING:
    from guantong.exchange.hosting import Hosting

__all__ = ["ISSUE_KIND", "Issuer"]

ISSUE_KIND = "exchange.credential"
"""Kind of the outbox message that brings issued credentials to their holder."""
_DAY = 86_400


class Issuer:
    """What the hosted participants issue."""

    def __init__(self, hosting: Hosting) -> None:
        self._hosting = hosting

    # -- a person decides

    async def admit(self, participant: str, holder: str, kind: str, claims: Mapping[str, Any] | None = None) -> None:
        """Let a holder have a credential of a type, with what it says about it. Raises Refused ``exchange.claims-refused``."""
        if kind not in self._hosting.trust.issued(participant):
            raise Refused("exchange.claims-refused", reason=f"{kind} is not among the credentials issued here")
        async with self._hosting.records.step(participant) as step:
            step.upsert(
                MEMBERS,
                holder=holder,
                kind=kind,
                claims=orjson.dumps(dict(claims or {})),
                state="admitted",
                changed_at=step.at,
            )

    async def revoke(self, participant: str, holder: str, kind: str) -> int:
        """End every credential of a type that a holder has from us, and admit it no more; how many were ended."""
        records = self._hosting.records
        rows = await records.rows(
            select(CREDENTIALS_ISSUED.c.place).where(
                and_(
                    CREDENTIALS_ISSUED.c.participant == participant,
                    CREDENTIALS_ISSUED.c.holder == holder,
                    CREDENTIALS_ISSUED.c.kind == kind,
                    CREDENTIALS_ISSUED.c.ended_at == 0,
                )
            )
        )
        async with records.step(participant) as step:
            step.upsert(MEMBERS, holder=holder, kind=kind, claims=b"{}", state="ended", changed_at=step.at)
            for row in rows:
                step.update(CREDENTIALS_ISSUED, {"place": row["place"]}, {"ended_at": step.at})
                step.record(Entry(CREDENTIAL_ENDED, {"holder": holder, "kind": kind, "place": str(row["place"])}))
        return len(rows)

    async def members(self, participant: str) -> list[Mapping[str, Any]]:
        """Who is admitted to what: ``holder``, ``kind``, ``claims``, ``state``, ``changed_at``."""
        rows = await self._hosting.records.rows(
            select(MEMBERS).where(MEMBERS.c.participant == participant).order_by(MEMBERS.c.holder, MEMBERS.c.kind)
        )
        return [{**row, "claims": orjson.loads(row["claims"])} for row in rows]

    async def own(self, participant: str, kind: str, claims: Mapping[str, Any]) -> None:
        """Issue a credential to oneself, straight into the own wallet."""
        await self.admit(participant, participant, kind, claims)
        made = await self._made(participant, participant, f"{kind}-2.0")
        await self._hosting.wallet.keep(participant, kind, made["payload"])

    # -- the protocol

    def metadata(self, participant: str) -> dict[str, Any]:
        """What is issued here. Source: DCP 1.0, Issuer Metadata API."""
        supported = [
            {
                "id": f"{kind}-{version}",
                "type": "CredentialObject",
                "credentialType": kind,
                "offerReason": "issuance",
                "bindingMethods": ["did:web"],
                "profile": profile,
            }
            for kind in self._hosting.trust.issued(participant)
            for version, profile in PROFILES.items()
        ]
        return {
            "@context": [CONTEXT],
            "type": "IssuerMetadata",
            "issuer": participant,
            "credentialsSupported": supported,
        }

    async def request(self, participant: str, caller: Participant, body: Mapping[str, Any]) -> str:
        """A holder asks for credentials; the identifier of the request. Its answer is sent to the holder's credential service.

        Raises Refused ``exchange.message-invalid``.
        """
        holder_pid, entries = body.get("holderPid"), body.get("credentials")
        known = {entry["id"]: entry for entry in self.metadata(participant)["credentialsSupported"]}
        if body.get("type", body.get("@type")) != "CredentialRequestMessage":
            raise _invalid("its type is another")
        if not isinstance(holder_pid, str) or not 0 < len(holder_pid) <= 128:
            raise _invalid("holderPid: is missing")
        if not isinstance(entries, list) or not 0 < len(entries) <= 32:
            raise _invalid("credentials: is missing or empty")
        wanted = [entry.get("id") if isinstance(entry, dict) else None for entry in entries]
        if not all(one in known for one in wanted):
            raise _invalid("credentials: one is not issued here")
        hosting = self._hosting
        admitted = {
            row["kind"]
            for row in await hosting.records.rows(
                select(MEMBERS.c.kind).where(
                    and_(
                        MEMBERS.c.participant == participant,
                        MEMBERS.c.holder == caller.did,
                        MEMBERS.c.state == "admitted",
                    )
                )
            )
        }
        refused = [known[one]["credentialType"] for one in wanted if known[one]["credentialType"] not in admitted]
        pid = hosting.new_id()
        async with hosting.records.step(participant) as step:
            hosting.tokens.remember(step, caller)
            step.insert(
                CREDENTIAL_REQUESTS,
                id=pid,
                role="issuer",
                partner=caller.did,
                partner_pid=holder_pid,
                kinds=orjson.dumps(wanted),
                state="REJECTED" if refused else "RECEIVED",
                reason=f"not admitted to {', '.join(refused)}" if refused else "",
                created_at=step.at,
                changed_at=step.at,
            )
            step.send(Message(f"{caller.did} credentials", ISSUE_KIND, pid, {"request": pid}))
        return pid

    async def status(self, participant: str, caller: Participant, pid: str) -> dict[str, Any]:
        """How a holder's request stands. Raises Refused ``exchange.process-unknown``."""
        row = await self._request(participant, pid)
        if row is None or row["partner"] != caller.did:
            raise Refused("exchange.process-unknown", pid=pid[:200])
        return {
            "@context": [CONTEXT],
            "type": "CredentialStatus",
            "issuerPid": pid,
            "holderPid": row["partner_pid"],
            "status": row["state"],
        }

    async def status_list(self, participant: str) -> dict[str, Any]:
        """The list of ended credentials, as an unsigned credential: its address stands in each credential that we sign."""
        rows = await self._hosting.records.rows(
            select(CREDENTIALS_ISSUED.c.place).where(
                and_(CREDENTIALS_ISSUED.c.participant == participant, CREDENTIALS_ISSUED.c.ended_at > 0)
            )
        )
        address = self._list_address(participant)
        return {
            "@context": ["https://www.w3.org/ns/credentials/v2"],
            "id": address,
            "type": ["VerifiableCredential", "BitstringStatusListCredential"],
            "issuer": participant,
            "validFrom": iso(self._hosting.clock.now(), digits=0),
            "credentialSubject": {
                "id": f"{address}#list",
                "type": "BitstringStatusList",
                "statusPurpose": "revocation",
                "ttl": self._hosting.settings.claims_cache_s * 1000,
                "encodedList": encoded({int(row["place"]) for row in rows}),
            },
        }

    async def carry(self, participant: str, message: Message, attempt: int) -> None:
        """Sender of the outbox: make what was asked for and bring it to the holder."""
        hosting = self._hosting
        pid = str(message.payload["request"])
        row = await self._request(participant, pid)
        assert row is not None
        holder = row["partner"]
        document = await hosting.resolver.document(holder)
        service = service_of(document, SERVICE)
        if not service:
            raise Refused(
                "exchange.answer-unusable",
                partner=holder,
                status="–",
                message="credentials",
                reason="it has no credential service",
            )
        rejected = row["state"] == "REJECTED"
        made = [] if rejected else [await self._made(participant, holder, one) for one in orjson.loads(row["kinds"])]
        body: dict[str, Any] = {
            "@context": [CONTEXT],
            "type": "CredentialMessage",
            "issuerPid": pid,
            "holderPid": row["partner_pid"],
            "status": "REJECTED" if rejected else "ISSUED",
        }
        if made:
            body["credentials"] = made
        response = await hosting.request(participant, holder, "POST", f"{checked_address(service)}/credentials", body)
        verdict_of(response.status, attempt, first=False, partner=holder, message="CredentialMessage")
        if not rejected:
            async with hosting.records.step(participant) as step:
                step.update(CREDENTIAL_REQUESTS, {"id": pid}, {"state": "ISSUED", "changed_at": step.at})

    async def _made(self, participant: str, holder: str, wanted: str) -> dict[str, Any]:
        hosting = self._hosting
        kind, _, version = wanted.rpartition("-")
        member = await hosting.records.row(
            select(MEMBERS.c.claims).where(
                and_(MEMBERS.c.participant == participant, MEMBERS.c.holder == holder, MEMBERS.c.kind == kind)
            )
        )
        identity = hosting.hosted(participant).identity
        now = hosting.clock.now()
        last = await hosting.records.row(
            select(func.max(CREDENTIALS_ISSUED.c.place).label("place")).where(
                CREDENTIALS_ISSUED.c.participant == participant
            )
        )
        place = 0 if last is None or last["place"] is None else int(last["place"]) + 1
        credential_id = f"urn:uuid:{hosting.new_id()}"
        address = self._list_address(participant)
        text = made_credential(
            identity.token_key,
            identity.token_kid,
            participant,
            kind,
            {**(orjson.loads(member["claims"]) if member else {}), "id": holder},
            version,
            credential_id=credential_id,
            first=iso(now // NS * NS),
            last=iso((now // NS + hosting.settings.issued_lifetime_d * _DAY) * NS),
            status={
                "id": f"{address}#{place}",
                "type": "BitstringStatusListEntry",
                "statusPurpose": "revocation",
                "statusListIndex": str(place),
                "statusListCredential": address,
            },
        )
        async with hosting.records.step(participant) as step:
            step.insert(
                CREDENTIALS_ISSUED,
                place=place,
                holder=holder,
                kind=kind,
                credential_id=credential_id,
                issued_at=step.at,
                ended_at=0,
            )
            step.record(Entry(CREDENTIAL_ISSUED, {"holder": holder, "kind": kind, "place": str(place)}))
        return {"credentialType": kind, "format": PROFILES[version], "payload": text}

    def _list_address(self, participant: str) -> str:
        return f"{self._hosting.hosted(participant).address}{ISSUER_PATH}/status"

    async def _request(self, participant: str, pid: str) -> Mapping[str, Any] | None:
        return await self._hosting.records.row(
            select(CREDENTIAL_REQUESTS).where(
                and_(
                    CREDENTIAL_REQUESTS.c.participant == participant,
                    CREDENTIAL_REQUESTS.c.id == pid,
                    CREDENTIAL_REQUESTS.c.role == "issuer",
                )
            )
        )


def _invalid(reason: str) -> Refused:
    return Refused("exchange.message-invalid", message="CredentialRequestMessage", reason=reason)
