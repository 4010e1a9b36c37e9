"""Claims: Decentralized Claims Protocol 1.0 between a leader who issues, a member who shows and a provider who asks."""

from __future__ import annotations

import asyncio
import base64
import gzip
import os

import orjson
import pyarrow as pa
import pytest

from guantong.base.canonical import b64url
from guantong.base.clock import NS, iso
from guantong.base.errors import GuantongError, Refused
from guantong.base.keys import Ed25519Key, P256Key
from guantong.base.wire import Response
from guantong.exchange.claims import scope_of, type_of
from guantong.exchange.credentials import credential_in, made_credential, made_presentation, presentation_in
from guantong.exchange.dids import did_key, jwk_of_multibase
from guantong.exchange.identity import Identity, Retired, did_document, did_of
from guantong.exchange.jws import opened, signed, verified
from guantong.exchange.model import Participant
from guantong.exchange.status_list import encoded, status_list

MEMBERSHIP = "MembershipCredential"
LEADER = did_of("http://localhost:7100")
MEMBER = did_of("http://localhost:7101")
PROVIDER = did_of("http://localhost:7102")


@pytest.fixture
async def space(companies, clock):
    """``await space(…)`` starts a leader, a member and a provider that asks for membership."""

    async def start(**options):
        leader = await companies("localhost:7100", clock=clock, issued_credentials=(MEMBERSHIP,))
        member = await companies("localhost:7101", clock=clock)
        settings = {"required_credentials": (MEMBERSHIP,), "trusted_issuers": (LEADER,), **options}
        provider = await companies("localhost:7102", clock=clock, **settings)
        return leader, member, provider

    return start


async def join(leader, member, kind=MEMBERSHIP):
    await leader.exchange.issuer.admit(leader.did, member.did, kind, {"since": "2026"})
    pid = await member.exchange.wallet.request(member.did, leader.did, [kind])
    for _ in range(200):
        if member.exchange.wallet.held(member.did):
            return pid
        await asyncio.sleep(0.005)
    raise AssertionError("no credential came")


async def refusal(member, provider):
    with pytest.raises(GuantongError) as refused:
        await member.exchange.catalogue(member.did, provider.base, provider.did)
    assert refused.value.facts["status"] == 401
    return str(refused.value.facts["reason"])


async def test_a_member_gets_in_and_a_stranger_does_not(space):
    leader, member, provider = await space()
    assert "no access token" in await refusal(member, provider)

    await join(leader, member)
    catalogue = await member.exchange.catalogue(member.did, provider.base, provider.did)

    assert catalogue.participant_id == provider.did
    standing = provider.exchange.hosting.claims.standing(provider.did, member.did)
    assert standing.claims() == [
        {"types": [MEMBERSHIP], "issuer": leader.did, "subject": {"since": "2026", "id": member.did}}
    ]
    assert leader.leaves("exchange.credential-issued") == [{"holder": member.did, "kind": MEMBERSHIP, "place": "0"}]
    assert len(member.leaves("exchange.credential-stored")) == 1


async def test_who_is_not_admitted_is_rejected_and_told_so(space):
    leader, member, _ = await space()
    pid = await member.exchange.wallet.request(member.did, leader.did, [MEMBERSHIP])
    for _ in range(100):
        await asyncio.sleep(0.005)
        from sqlalchemy import select

        from guantong.exchange.tables import CREDENTIAL_REQUESTS

        row = await member.records.row(select(CREDENTIAL_REQUESTS).where(CREDENTIAL_REQUESTS.c.id == pid))
        if row["state"] != "RECEIVED":
            break

    assert row["state"] == "REJECTED"
    assert member.exchange.wallet.held(member.did) == []


async def test_a_presentation_that_was_verified_is_kept_for_its_partner(space, network):
    leader, member, provider = await space()
    await join(leader, member)
    for _ in range(3):
        await member.exchange.catalogue(member.did, provider.base, provider.did)

    queries = [url for _, url, _ in network.log if url.endswith("/presentations/query")]
    assert len(queries) == 1


async def test_a_revocation_takes_effect_within_the_time_a_presentation_is_kept(space, clock):
    leader, member, provider = await space()
    await join(leader, member)
    await member.exchange.catalogue(member.did, provider.base, provider.did)
    assert await leader.exchange.issuer.revoke(leader.did, member.did, MEMBERSHIP) == 1

    clock.advance(59)
    await member.exchange.catalogue(member.did, provider.base, provider.did)
    assert await provider.exchange.hosting.claims.still(provider.did, member.did) == ""
    clock.advance(1)
    assert "ended by its issuer (revocation)" in await provider.exchange.hosting.claims.still(provider.did, member.did)
    assert "ended by its issuer (revocation)" in await refusal(member, provider)
    assert leader.leaves("exchange.credential-ended") == [{"holder": member.did, "kind": MEMBERSHIP, "place": "0"}]


async def test_the_status_list_s_own_time_to_live_shortens_it(space, clock):
    leader, member, provider = await space()
    leader.exchange.settings = leader.exchange.hosting.settings = type(leader.settings)(
        issued_credentials=(MEMBERSHIP,), claims_cache_s=10
    )
    await join(leader, member)
    await member.exchange.catalogue(member.did, provider.base, provider.did)
    await leader.exchange.issuer.revoke(leader.did, member.did, MEMBERSHIP)
    clock.advance(10)

    assert "ended by its issuer" in await refusal(member, provider)


async def test_a_credential_of_an_issuer_nobody_trusts_proves_nothing_and_its_addresses_are_not_visited(space, network):
    leader, member, provider = await space(trusted_issuers=("did:web:other.example",))
    await join(leader, member)
    network.log.clear()

    assert "did not show MembershipCredential" in await refusal(member, provider)
    assert not [url for _, url, _ in network.log if "/dcp/issuer/" in url]


async def test_an_issuer_is_trusted_for_one_type_only_where_the_setting_says_so(space):
    leader, member, provider = await space(trusted_issuers=(f"{LEADER} BpnCredential",))
    await join(leader, member)

    assert "did not show MembershipCredential" in await refusal(member, provider)


async def test_an_access_token_that_was_given_to_one_partner_opens_nothing_to_another(space, companies, clock, network):
    leader, member, provider = await space()
    await join(leader, member)
    token = member.exchange.wallet.access_token(member.did, provider.did)
    spy = await companies("localhost:7103", clock=clock)
    body = {"@context": ["https://w3id.org/dspace-dcp/v1.0/dcp.jsonld"], "type": "PresentationQueryMessage"}

    async def query(asker, access_token, scope):
        headers = {
            "authorization": "Bearer "
            + asker.exchange.hosting.tokens.issue(asker.identity, member.did, access_token=access_token)
        }
        return await network.request(
            "POST",
            f"{member.address}/dcp/presentations/query",
            body=orjson.dumps({**body, "scope": scope}),
            headers=headers,
        )

    scope = [f"org.eclipse.dspace.dcp.vc.type:{MEMBERSHIP}"]
    assert (await query(provider, token, scope)).status == 200
    assert (await query(spy, token, scope)).status == 401
    assert (await query(provider, "", scope)).status == 401
    assert (await query(provider, token, [])).status == 400
    other = orjson.loads((await query(provider, token, ["org.eclipse.dspace.dcp.vc.type:Other"])).body)
    assert other["presentation"] == []
    clock.advance(601)
    assert (await query(provider, token, scope)).status == 401


async def test_a_definition_is_not_understood_and_both_forms_at_once_are_refused(space, network):
    leader, member, provider = await space()
    await join(leader, member)
    token = member.exchange.wallet.access_token(member.did, provider.did)
    for members, status in (
        ({"presentationDefinition": {"id": "x"}}, 501),
        ({"presentationDefinition": {"id": "x"}, "scope": ["a:b"]}, 400),
    ):
        header = provider.exchange.hosting.tokens.issue(provider.identity, member.did, access_token=token)
        answer = await network.request(
            "POST",
            f"{member.address}/dcp/presentations/query",
            body=orjson.dumps({"type": "PresentationQueryMessage", **members}),
            headers={"authorization": f"Bearer {header}"},
        )
        assert answer.status == status


async def test_credentials_of_an_issuer_that_was_not_asked_are_not_taken(space, network):
    leader, member, _ = await space()
    header = leader.exchange.hosting.tokens.issue(leader.identity, member.did)
    body = {"type": "CredentialMessage", "issuerPid": "1", "holderPid": "2", "status": "ISSUED", "credentials": [{}]}
    answer = await network.request(
        "POST",
        f"{member.address}/dcp/credentials",
        body=orjson.dumps(body),
        headers={"authorization": f"Bearer {header}"},
    )

    assert answer.status == 401
    assert b"claims-refused" in answer.body


# -- foreign wallets and issuers: documents made by hand


class Outside:
    """A holder and an issuer with keys of any kind, whose answers the test writes."""

    def __init__(self, network, clock, *, issuer_key=None, issuer=""):
        self.clock = clock
        self.holder = Identity("did:web:localhost%3A7200", P256Key.generate(), Ed25519Key.generate())
        self.issuer_key = issuer_key or P256Key.generate()
        self.issuer = issuer or "did:web:localhost%3A7201"
        self.credentials: list[str] = []
        self.version = "2.0"
        self.presentation = None
        self.lists: dict[str, bytes] = {}
        self.asked: list[dict] = []
        network.before.append(self.answer)

    @property
    def kid(self):
        return f"{self.issuer}#key" if self.issuer.startswith("did:web") else f"{self.issuer}#{self.issuer[8:]}"

    def answer(self, method, url, body):
        if url == "http://localhost:7200/.well-known/did.json":
            return Response(200, orjson.dumps(did_document(self.holder, "http://localhost:7200")))
        if url == "http://localhost:7201/.well-known/did.json":
            method = {"id": self.kid, "type": "JsonWebKey2020", "publicKeyJwk": self.issuer_key.jwk}
            document = {"id": self.issuer, "verificationMethod": [method], "assertionMethod": [self.kid]}
            return Response(200, orjson.dumps(document))
        if url == "http://localhost:7200/dcp/presentations/query":
            self.asked.append(orjson.loads(body))
            made = self.presentation or self.present()
            return Response(200, orjson.dumps({"type": "PresentationResponseMessage", "presentation": [made]}))
        if url in self.lists:
            return Response(200, self.lists[url])
        return None

    def present(self, **changes):
        options = {"at": self.clock.now(), "jti": "1", **changes}
        holder, audience = options.pop("holder", self.holder.did), options.pop("audience", PROVIDER)
        return made_presentation(
            self.holder.token_key, self.holder.token_kid, holder, audience, self.credentials, self.version, **options
        )

    def issue(self, version="2.0", kind=MEMBERSHIP, subject=None, *, first=0, last=3600, status=None):
        now = self.clock.now()
        return made_credential(
            self.issuer_key,
            self.kid,
            self.issuer,
            kind,
            subject or {"id": self.holder.did},
            version,
            credential_id="urn:uuid:1",
            first=iso(now + first * NS),
            last=iso(now + last * NS),
            status=status,
        )

    async def call(self, network, provider):
        header = signed(
            self.holder.token_key,
            self.holder.token_kid,
            {
                "iss": self.holder.did,
                "sub": self.holder.did,
                "aud": provider.did,
                "jti": b64url(os.urandom(8)),
                "iat": self.clock.now() // NS,
                "exp": self.clock.now() // NS + 60,
                "token": "opaque",
            },
        )
        answer = await network.request(
            "POST",
            f"{provider.base}/catalog/request",
            body=b'{"@context": ["https://w3id.org/dspace/2025/1/context.jsonld"], "@type": "CatalogRequestMessage"}',
            headers={"authorization": f"Bearer {header}"},
        )
        return answer.status, b" ".join(answer.body.split()).decode()


@pytest.fixture
async def asking(companies, clock):
    """``await asking(issuer)`` is a provider that asks for a membership of that issuer."""

    async def start(issuer="did:web:localhost%3A7201", **options):
        settings = {"required_credentials": (MEMBERSHIP,), "trusted_issuers": (issuer,), **options}
        return await companies("localhost:7102", clock=clock, **settings)

    return start


@pytest.mark.parametrize("version", ["1.1", "2.0"])
@pytest.mark.parametrize("key", [P256Key, Ed25519Key])
async def test_both_data_models_and_both_algorithms_are_understood(asking, network, clock, version, key):
    provider = await asking()
    outside = Outside(network, clock, issuer_key=key.generate())
    outside.version = version
    outside.credentials = [outside.issue(version)]

    assert (await outside.call(network, provider))[0] == 200


async def test_an_issuer_may_be_a_did_key(asking, network, clock):
    key = Ed25519Key.generate()
    did = "did:key:z" + base58(b"\xed\x01" + key.public)
    provider = await asking(did)
    outside = Outside(network, clock, issuer_key=key, issuer=did)
    outside.credentials = [outside.issue()]

    assert (await outside.call(network, provider))[0] == 200


@pytest.mark.parametrize(
    ("kind", "entry", "subject", "text"),
    [
        ("BitstringStatusListCredential", "BitstringStatusListEntry", "BitstringStatusList", encoded({3})),
        (
            "StatusList2021Credential",
            "StatusList2021Entry",
            "StatusList2021",
            base64.b64encode(gzip.compress(bytes([0b00010000]) + bytes(16383), mtime=0)).decode(),
        ),
    ],
    ids=["bitstring", "2021"],
)
@pytest.mark.parametrize(("index", "held"), [(3, False), (4, True), (2, True)])
@pytest.mark.parametrize("as_jwt", [False, True])
async def test_both_kinds_of_status_list_say_which_credential_was_ended(
    asking, network, clock, kind, entry, subject, text, index, held, as_jwt
):
    provider = await asking()
    outside = Outside(network, clock)
    address = "http://localhost:7201/status/1"
    content = {"id": f"{address}#list", "type": subject, "statusPurpose": "revocation", "encodedList": text}
    document = {"type": ["VerifiableCredential", kind], "issuer": outside.issuer, "credentialSubject": content}
    outside.lists[address] = (
        signed(outside.issuer_key, outside.kid, {**document, "iss": outside.issuer}).encode()
        if as_jwt
        else orjson.dumps(document)
    )
    status = {
        "type": entry,
        "statusPurpose": "revocation",
        "statusListIndex": str(index),
        "statusListCredential": address,
    }
    outside.credentials = [outside.issue(status=status)]

    answer, body = await outside.call(network, provider)
    assert answer == (200 if held else 401)
    assert held or "ended by its issuer (revocation)" in body


async def test_a_wrong_presentation_is_refused_with_its_reason(asking, network, clock):
    provider = await asking()
    outside = Outside(network, clock)
    stranger = P256Key.generate()

    def swapped(text, **claims):
        jws = opened(text)
        return signed(outside.holder.token_key, outside.holder.token_kid, {**jws.claims, **claims})

    good = outside.issue()
    cases = {
        "is another's": ([good], lambda: outside.present(holder="did:web:other.example")),
        "meant for somebody else": ([good], lambda: outside.present(audience="did:web:other.example")),
        "has expired": ([good], lambda: outside.present(at=clock.now() - 3600 * NS)),
        "not valid yet": ([good], lambda: outside.present(at=clock.now() + 3600 * NS)),
        "mixes versions": ([good, outside.issue("1.1")], None),
        "no VerifiablePresentation": ([good], lambda: swapped(outside.present(), type=["Other"])),
        "names two holders": ([good], lambda: swapped(outside.present(), holder="did:web:other.example")),
        "signature does not match": (
            [good],
            lambda: signed(stranger, outside.holder.token_kid, opened(outside.present()).claims),
        ),
        "key is not listed for authentication": (
            [good],
            lambda: signed(outside.holder.evidence_key, outside.holder.evidence_kid, opened(outside.present()).claims),
        ),
        "neither ES256 nor EdDSA": ([good], lambda: none_of(outside.present())),
        "did not show": ([outside.issue(kind="BpnCredential")], None),
        "subject is not the holder": ([outside.issue(subject={"id": "did:web:other.example"})], None),
        "it has expired": ([outside.issue(first=-7200, last=-1)], None),
        "not valid yet ": ([outside.issue(first=3600)], None),
        "key is not its issuer's": (
            [signed(outside.issuer_key, "did:web:other.example#key", opened(good).claims, kind="vc+jwt")],
            None,
        ),
        "it is not understood": (
            [
                outside.issue(
                    status={
                        "type": "Other",
                        "statusListIndex": 1,
                        "statusPurpose": "revocation",
                        "statusListCredential": "",
                    }
                )
            ],
            None,
        ),
        "more than 32": ([good] * 33, None),
    }
    for reason, (credentials, present) in cases.items():
        outside.credentials = credentials
        outside.presentation = present() if present else None
        status, body = await outside.call(network, provider)
        assert status == 401, (reason, body)
        assert reason.strip().removeprefix("it is ") in body, (reason, body)

    outside.credentials, outside.presentation = [good], None
    assert (await outside.call(network, provider))[0] == 200


async def test_a_new_access_token_is_a_new_question(asking, network, clock):
    """A grant is for what its holder lets be seen: what an earlier token showed is not taken for a later one."""
    provider = await asking()
    outside = Outside(network, clock)
    outside.credentials = [outside.issue()]
    await outside.call(network, provider)
    claims = provider.exchange.hosting.claims
    await claims.proven(provider.did, Participant(outside.holder.did, {"token": "opaque"}))
    assert len(outside.asked) == 1
    await claims.proven(provider.did, Participant(outside.holder.did, {"token": "another"}))

    assert len(outside.asked) == 2
    assert outside.asked[0]["scope"] == ["org.eclipse.dspace.dcp.vc.type:MembershipCredential"]


async def test_a_credential_service_that_does_not_answer_is_no_refusal(asking, network, clock):
    provider = await asking()
    outside = Outside(network, clock)
    network.before.insert(0, lambda method, url, body: Response(503, b"") if url.endswith("/query") else None)

    assert (await outside.call(network, provider))[0] == 502


# -- small parts


def base58(data: bytes) -> str:
    letters, number, text = (
        "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz",
        int.from_bytes(data, "big"),
        "",
    )
    while number:
        number, rest = divmod(number, 58)
        text = letters[rest] + text
    return text


def none_of(token: str) -> str:
    head = b64url(b'{"alg":"none"}')
    return f"{head}.{token.split('.')[1]}."


def test_a_did_key_of_the_method_s_own_examples_is_its_key():
    """Vectors of the did:key method specification, Ed25519 and P-256."""
    ed = did_key("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK")
    assert ed["verificationMethod"][0]["publicKeyJwk"]["crv"] == "Ed25519"
    p256 = did_key("did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169")["verificationMethod"][0]["publicKeyJwk"]
    assert p256["x"] == "fyNYMN0976ci7xqiSdag3buk-ZCwgXU4kz9XNkBlNUI"
    assert p256["y"] == "hW2ojTNfH7Jbi8--CJUo3OCbH3y5n91g-IMA9MLMbTU"
    for text in ("z6Mk", "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", "uAbc", "z0OIl", "z" * 200):
        with pytest.raises(Refused):
            did_key(f"did:key:{text}")
    assert jwk_of_multibase("") is None


@pytest.mark.parametrize(
    ("subject", "reason"),
    [
        ({"type": "Other"}, "is no BitstringStatusList"),
        ({"type": "BitstringStatusList"}, "cut short"),
        ({"type": "BitstringStatusList", "encodedList": "u!!"}, "can't be unpacked"),
        (
            {
                "type": "BitstringStatusList",
                "encodedList": "u" + base64.urlsafe_b64encode(gzip.compress(bytes(3 * 1024 * 1024))).decode(),
            },
            "too large",
        ),
    ],
)
def test_an_unusable_status_list_is_named(subject, reason):
    with pytest.raises(ValueError, match=reason):
        status_list(subject, "BitstringStatusList")


def test_a_status_may_be_several_bits_wide():
    bits = bytes([0b01101100, 0b00000001])
    found = status_list(
        {"type": "BitstringStatusList", "encodedList": "u" + base64.urlsafe_b64encode(gzip.compress(bits)).decode()},
        "BitstringStatusList",
    )

    assert [found.value(index, 2) for index in range(8)] == [1, 2, 3, 0, 0, 0, 0, 1]
    with pytest.raises(ValueError, match="not in the list"):
        found.value(8, 2)


def test_a_scope_is_a_type_or_as_it_is_written():
    assert scope_of("MembershipCredential") == "org.eclipse.dspace.dcp.vc.type:MembershipCredential"
    assert scope_of("org.eclipse.edc.vc.type:X:read") == "org.eclipse.edc.vc.type:X:read"
    assert (type_of("X"), type_of("org.eclipse.edc.vc.type:X:read")) == ("X", "X")


def test_a_retired_key_stays_listed_until_its_time_and_the_new_one_signs():
    old, new = P256Key.generate(), P256Key.generate()
    identity = Identity(MEMBER, new, Ed25519Key.generate(), "token-2", (Retired("token", old.jwk, until=100),))

    during, after = (did_document(identity, "http://localhost:7101", at=at) for at in (99, 100))
    assert during["capabilityInvocation"] == [f"{MEMBER}#token-2", f"{MEMBER}#token"]
    assert after["capabilityInvocation"] == [f"{MEMBER}#token-2"]
    token = signed(identity.token_key, identity.token_kid, {})
    assert verified(opened(token), new.jwk)
    assert not verified(opened(token), old.jwk)


async def test_after_a_rotation_the_first_token_is_taken_at_once_and_what_the_old_key_signed_still_verifies(
    pair, network
):
    provider, consumer = pair
    hosting = consumer.exchange.hosting
    before = hosting.tokens.issue(consumer.identity, provider.did)
    await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)
    rotated = Identity(
        consumer.did,
        Ed25519Key.generate(),
        consumer.identity.evidence_key,
        "token-2",
        (Retired("token", consumer.identity.token_key.jwk, until=consumer.clock.now() + 60 * NS),),
    )
    consumer.exchange.host(rotated, consumer.address)

    await consumer.exchange.catalogue(consumer.did, provider.base, provider.did)
    assert (await provider.exchange.identify(provider.did, f"Bearer {before}")).did == consumer.did


def test_a_credential_and_a_presentation_survive_a_round_trip():
    key = P256Key.generate()
    for version in ("1.1", "2.0"):
        text = made_credential(
            key, "did:web:a#k", "did:web:a", "X", {"id": "did:web:b"}, version,
            credential_id="urn:x", first="2026-01-01T00:00:00Z", last="2027-01-01T00:00:00Z",
        )  # fmt: skip
        credential = credential_in(text)
        assert (credential.version, credential.issuer, credential.types[-1]) == (version, "did:web:a", "X")
        vp = presentation_in(made_presentation(key, "k", "did:web:b", "did:web:c", [text], version, at=0, jti="1"))
        assert (vp.holder, vp.audience, vp.credentials[0].text) == ("did:web:b", ("did:web:c",), text)


async def test_a_revocation_stops_a_delivery_that_runs_and_the_next_ones(space, clock, network, agreed, started):
    leader, member, provider = await space(chunk_rows=1000)
    provider.table = pa.table({"signal": list(range(300_000)), "value": [os.urandom(8).hex()] * 300_000})
    await join(leader, member)
    transfer = await started(provider, member, await agreed(provider, member))
    pulling = member.exchange.pull(member.did, transfer)
    first = await anext(pulling)
    assert first.num_rows == 1000
    await leader.exchange.issuer.revoke(leader.did, member.did, MEMBERSHIP)
    clock.advance(61)

    with pytest.raises(GuantongError):
        async for _ in pulling:
            pass
    with pytest.raises(GuantongError):
        async for _ in member.exchange.pull(member.did, transfer):
            pass
