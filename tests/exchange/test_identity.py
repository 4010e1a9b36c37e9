"""Identity tokens and DID documents: Decentralized Claims Protocol 1.0, Validating Self-Issued ID Tokens; did:web, Read."""

from __future__ import annotations

import orjson
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from guantong.base.canonical import b64url
from guantong.base.clock import NS
from guantong.base.errors import Refused, Retryable
from guantong.base.keys import Ed25519Key, P256Key
from guantong.base.wire import Response
from guantong.exchange.identity import Identity, Resolver, Tokens, did_document, did_of, did_url, service_of
from guantong.exchange.model import ExchangeSettings

ME = "did:web:me.example"
THEM = "did:web:them.example"


class Web:
    """Documents by URL, and how often each was asked for."""

    def __init__(self) -> None:
        self.documents: dict[str, dict] = {}
        self.asked: list[str] = []

    async def request(self, method, url, **_):
        self.asked.append(url)
        document = self.documents.get(url)
        return Response(404, b"") if document is None else Response(200, orjson.dumps(document))


@pytest.fixture
def them():
    return Identity(THEM, P256Key.generate(), Ed25519Key.generate())


@pytest.fixture
def web(them):
    web = Web()
    web.documents["https://them.example/.well-known/did.json"] = did_document(them, "https://them.example")
    return web


@pytest.fixture
def tokens(records, clock, web):
    settings = ExchangeSettings()
    return Tokens(records, Resolver(web, clock, settings), clock, settings)


def claims_of(clock, **changes):
    now = clock.now() // NS
    claims = {"iss": THEM, "sub": THEM, "aud": ME, "jti": "one", "iat": now, "exp": now + 300, **changes}
    return {name: value for name, value in claims.items() if value is not None}


def signed(identity, claims, **head):
    header = {"alg": "ES256", "kid": identity.token_kid, "typ": "JWT", **head}
    text = ".".join(b64url(orjson.dumps(part)) for part in ({k: v for k, v in header.items() if v is not None}, claims))
    return f"Bearer {text}.{b64url(identity.token_key.sign(text.encode()))}"


async def refusal(tokens, authorization, participant=ME):
    with pytest.raises(Refused) as refused:
        await tokens.identify(participant, authorization)
    assert refused.value.code == "exchange.token-refused"
    assert refused.value.status == 401
    return refused.value.facts["reason"]


async def test_our_own_token_names_its_maker(tokens, them):
    caller = await tokens.identify(ME, "Bearer " + tokens.issue(them, ME))

    assert caller.did == THEM
    assert set(caller.claims) == {"iss", "sub", "aud", "jti", "iat", "exp"}


async def test_a_foreign_library_reads_our_token(tokens, them):
    token = tokens.issue(them, ME)

    read = jwt.decode(token, ECKey.import_key(dict(them.token_key.jwk)), algorithms=["ES256"])

    assert read.header["kid"] == f"{THEM}#token"
    assert read.claims["iss"] == read.claims["sub"] == THEM
    assert read.claims["aud"] == ME


async def test_we_read_the_token_of_a_foreign_library(tokens, clock, them):
    key = ECKey.import_key({**them.token_key.jwk, "d": b64url(them.token_key.private_bytes())})
    token = jwt.encode({"alg": "ES256", "kid": f"{THEM}#token"}, claims_of(clock), key)

    assert (await tokens.identify(ME, f"Bearer {token}")).did == THEM


async def test_a_token_is_accepted_once(tokens, clock, them):
    authorization = signed(them, claims_of(clock))
    await tokens.identify(ME, authorization)

    assert await refusal(tokens, authorization) == "it was used before"


async def test_a_used_token_is_refused_also_after_a_restart(records, tokens, clock, them, web):
    authorization = signed(them, claims_of(clock))
    caller = await tokens.identify(ME, authorization)
    async with records.step(ME) as step:
        tokens.remember(step, caller)

    again = Tokens(records, Resolver(web, clock, ExchangeSettings()), clock, ExchangeSettings())
    await again.start()

    assert await refusal(again, authorization) == "it was used before"


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"sub": "did:web:other.example"}, "its issuer is not its subject"),
        ({"iss": None}, "its issuer is not its subject"),
        ({"aud": "did:web:other.example"}, "it is meant for somebody else"),
        ({"aud": [ME, "did:web:other.example"]}, "it is meant for somebody else"),
        ({"aud": None}, "it is meant for somebody else"),
        ({"jti": None}, "it has no identifier"),
        ({"jti": "x" * 256}, "it has no identifier"),
        ({"exp": None}, "its times are missing or unreadable"),
        ({"iat": None}, "its times are missing or unreadable"),
        ({"exp": True}, "its times are missing or unreadable"),
        ({"exp": 1}, "it has expired"),
        ({"exp": 2**39}, "it lives too long"),
        ({"nbf": 2**39}, "it is not valid yet"),
        ({"iat": 2**39, "exp": 2**39 + 1}, "it is not valid yet"),
    ],
)
async def test_a_token_with_a_wrong_claim_is_refused(tokens, clock, them, changes, reason):
    assert await refusal(tokens, signed(them, claims_of(clock, **changes))) == reason


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS512", "RS256", "ES384", None, 7])
async def test_other_algorithms_are_refused(tokens, clock, them, algorithm):
    reason = await refusal(tokens, signed(them, claims_of(clock), alg=algorithm))

    assert reason == "its algorithm is neither ES256 nor EdDSA"


async def test_a_public_key_is_no_shared_secret(tokens, clock, them):
    key = OctKey.import_key(orjson.dumps(them.token_key.jwk))
    token = jwt.encode({"alg": "HS256", "kid": them.token_kid}, claims_of(clock), key, algorithms=["HS256"])

    assert await refusal(tokens, f"Bearer {token}") == "its algorithm is neither ES256 nor EdDSA"


async def test_a_key_of_another_kind_does_not_verify(tokens, clock, them):
    reason = await refusal(tokens, signed(them, claims_of(clock), alg="EdDSA"))

    assert reason == "its signature does not match"


async def test_the_evidence_key_can_not_make_tokens(tokens, clock, them):
    reason = await refusal(tokens, signed(them, claims_of(clock), kid=f"{THEM}#evidence", alg="EdDSA"))

    assert reason == "its key is not listed for capabilityInvocation"


async def test_without_a_key_id_an_issuer_with_several_keys_is_refused(tokens, clock, them):
    assert (
        await refusal(tokens, signed(them, claims_of(clock), kid=None)) == "it names no key and its issuer has several"
    )


async def test_without_a_key_id_the_only_key_of_an_issuer_is_taken(tokens, clock, them, web):
    document = web.documents["https://them.example/.well-known/did.json"]
    document["verificationMethod"] = document["verificationMethod"][:1]

    assert (await tokens.identify(ME, signed(them, claims_of(clock), kid=None))).did == THEM


async def test_a_stranger_s_signature_is_refused(tokens, clock, them):
    stranger = Identity(THEM, P256Key.generate(), Ed25519Key.generate())

    assert await refusal(tokens, signed(stranger, claims_of(clock))) == "its signature does not match"


@pytest.mark.parametrize(
    "text", ["", "Basic abc", "Bearer", "Bearer a.b", "Bearer a.b.c.d", "Bearer é.b.c", "Bearer " + "a" * 20_000]
)
async def test_what_is_no_token_is_refused(tokens, text):
    assert await refusal(tokens, text)


async def test_a_document_about_somebody_else_is_refused(tokens, clock, them, web):
    web.documents["https://them.example/.well-known/did.json"]["id"] = "did:web:other.example"

    assert "exchange.did-refused" in await refusal(tokens, signed(them, claims_of(clock)))


async def test_a_caller_whose_document_cannot_be_read_now_is_asked_to_come_again(tokens, clock, them, web):
    """A refusal would be final for it, though only an answer on its way to us was lost."""
    document = web.documents.pop("https://them.example/.well-known/did.json")
    with pytest.raises(Retryable) as later:
        await tokens.identify(ME, signed(them, claims_of(clock)))
    web.documents["https://them.example/.well-known/did.json"] = document
    clock.advance(6)

    assert (later.value.code, later.value.status) == ("exchange.did-unresolved", 502)
    assert (await tokens.identify(ME, signed(them, claims_of(clock)))).did == THEM


async def test_documents_are_kept_and_missing_ones_are_not_asked_for_at_once(records, clock, web):
    resolver = Resolver(web, clock, ExchangeSettings())
    await resolver.document(THEM)
    await resolver.document(THEM)
    for _ in range(3):
        with pytest.raises(Retryable):
            await resolver.document("did:web:nobody.example")

    assert len(web.asked) == 2
    clock.advance(301)
    await resolver.document(THEM)
    assert len(web.asked) == 3


async def test_another_key_under_the_same_name_is_fetched_at_once_but_bad_tokens_make_no_flood(
    tokens, clock, them, web
):
    await tokens.identify(ME, signed(them, claims_of(clock)))
    rotated = Identity(THEM, P256Key.generate(), Ed25519Key.generate())
    web.documents["https://them.example/.well-known/did.json"] = did_document(rotated, "https://them.example")

    assert (await tokens.identify(ME, signed(rotated, claims_of(clock, jti="first")))).did == THEM
    assert len(web.asked) == 2

    stranger = Identity(THEM, P256Key.generate(), Ed25519Key.generate())
    for n in range(100):
        bad = signed(stranger, claims_of(clock, jti=f"bad{n}"))
        assert await refusal(tokens, bad) == "its signature does not match"
    assert len(web.asked) <= 33, "32 at once, the first of them for the rotation"

    clock.advance(6)
    assert await refusal(tokens, signed(stranger, claims_of(clock, jti="late"))) == "its signature does not match"
    assert len(web.asked) <= 34


@pytest.mark.parametrize(
    "did, url",
    [
        ("did:web:example.com", "https://example.com/.well-known/did.json"),
        ("did:web:example.com:p:shop", "https://example.com/p/shop/did.json"),
        ("did:web:example.com%3A8443", "https://example.com:8443/.well-known/did.json"),
        ("did:web:localhost%3A8080", "http://localhost:8080/.well-known/did.json"),
        ("did:web:127.0.0.1%3A8080:a", "http://127.0.0.1:8080/a/did.json"),
    ],
)
def test_a_did_web_names_one_address(did, url):
    assert did_url(did) == url


@pytest.mark.parametrize(
    "did",
    [
        "did:key:z6Mk",
        "did:web:",
        "did:web:example.com:",
        "did:web:example.com:..:x",
        "did:web:user@example.com",
        "did:web:example.com%2Fpath",
        "did:web:example.com:a%2Fb",
        "did:web:" + "a" * 200,
        "",
    ],
)
def test_a_malformed_did_is_refused(did):
    with pytest.raises(Refused) as refused:
        did_url(did)
    assert refused.value.code == "exchange.did-refused"


def test_the_document_is_that_of_dcp(them):
    document = did_document(them, "https://them.example")

    assert document["id"] == THEM
    assert document["capabilityInvocation"] == [f"{THEM}#token"]
    assert [method["publicKeyJwk"]["crv"] for method in document["verificationMethod"]] == ["P-256", "Ed25519"]
    assert service_of(document, "DataService") == "https://them.example/.well-known/dspace-version"
    assert did_of("https://them.example") == THEM
    assert did_of("http://localhost:8080/p/shop") == "did:web:localhost%3A8080:p:shop"
