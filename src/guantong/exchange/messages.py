"""Messages of the Dataspace Protocol 2025-1, built and checked.

What we send validates against the protocol's own schemas (``schemas/``, see PROVENANCE.md there). What we receive is put into the plain
form first, where partners differ without meaning anything else: a context that is one string, ``@type`` as a full IRI or with a prefix, a
filter that is one object; more contexts and unknown properties are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import orjson

from guantong.base.canonical import digest
from guantong.base.errors import GuantongError, Refused

__all__ = [
    "CONTEXT",
    "MESSAGES",
    "PATH",
    "VERSION",
    "base_of",
    "check",
    "content_digest",
    "data_address",
    "decode",
    "error",
    "message",
    "problems",
    "properties_of",
    "token_of",
    "version_document",
]

CONTEXT = "https://w3id.org/dspace/2025/1/context.jsonld"
VERSION = "2025-1"
PATH = "/dsp/2025-1"
"""Where the versioned endpoints are, below the root address of a participant."""

_NAMESPACE = "https://w3id.org/dspace/2025/1/"
EDC = "https://w3id.org/edc/v0.0.1/ns/"
TRACTUSX = "https://w3id.org/tractusx/auth/"
HTTP_ENDPOINT = "https://w3id.org/idsa/v4.1/HTTP"

MESSAGES: Mapping[str, str] = {
    "Catalog": "catalog/catalog-schema.json",
    "CatalogError": "catalog/catalog-error-schema.json",
    "CatalogRequestMessage": "catalog/catalog-request-message-schema.json",
    "ContractAgreementMessage": "negotiation/contract-agreement-message-schema.json",
    "ContractAgreementVerificationMessage": "negotiation/contract-agreement-verification-message-schema.json",
    "ContractNegotiation": "negotiation/contract-negotiation-schema.json",
    "ContractNegotiationError": "negotiation/contract-negotiation-error-schema.json",
    "ContractNegotiationEventMessage": "negotiation/contract-negotiation-event-message-schema.json",
    "ContractNegotiationTerminationMessage": "negotiation/contract-negotiation-termination-message-schema.json",
    "ContractOfferMessage": "negotiation/contract-offer-message-schema.json",
    "ContractRequestMessage": "negotiation/contract-request-message-schema.json",
    "Dataset": "catalog/dataset-schema.json",
    "DatasetRequestMessage": "catalog/dataset-request-message-schema.json",
    "TransferCompletionMessage": "transfer/transfer-completion-message-schema.json",
    "TransferError": "transfer/transfer-error-schema.json",
    "TransferProcess": "transfer/transfer-process-schema.json",
    "TransferRequestMessage": "transfer/transfer-request-message-schema.json",
    "TransferStartMessage": "transfer/transfer-start-message-schema.json",
    "TransferSuspensionMessage": "transfer/transfer-suspension-message-schema.json",
    "TransferTerminationMessage": "transfer/transfer-termination-message-schema.json",
    "VersionResponse": "common/protocol-version-schema.json",
}
"""Each message and object with the schema it is checked against."""


@cache
def _registry() -> Any:
    import jsonschema_rs

    folder = resources.files("guantong.exchange") / "schemas"
    found = []
    for area in ("catalog", "common", "negotiation", "transfer"):
        for entry in (folder / area).iterdir():
            if entry.name.endswith("-schema.json"):
                schema = orjson.loads(entry.read_bytes())
                found.append((schema["$id"], schema))
    return jsonschema_rs.Registry(resources=found, draft=jsonschema_rs.Draft201909)


@cache
def _validator(kind: str) -> Any:
    import jsonschema_rs

    # retrieval is impossible: every schema that is referred to is in the registry
    return jsonschema_rs.Draft201909Validator(
        {"$ref": f"{_NAMESPACE}{MESSAGES[kind]}"}, registry=_registry(), retriever=_nowhere
    )


def _nowhere(uri: str) -> Any:
    raise LookupError(uri)


def warm() -> None:
    """Compile every schema now, so that the first message is not slower than the others."""
    for kind in MESSAGES:
        _validator(kind)


def decode(body: bytes, *, limit: int, depth: int) -> dict[str, Any]:
    """The JSON object in a body. Raises Refused ``exchange.message-too-large`` and ``exchange.message-invalid``."""
    if len(body) > limit:
        raise Refused("exchange.message-too-large", limit=f"{limit} bytes")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused("exchange.message-invalid", message="JSON object", reason=str(error)[:200]) from error
    if not isinstance(value, dict):
        raise Refused("exchange.message-invalid", message="JSON object", reason="it is no object")
    level: list[Any] = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return value
    raise Refused("exchange.message-too-large", limit=f"{depth} levels")


def plain(body: Mapping[str, Any]) -> dict[str, Any]:
    """The message in plain form: context a list of texts, ``@type`` one bare term, filter a list."""
    message = dict(body)
    context = message.get("@context")
    if isinstance(context, str):
        message["@context"] = [context]
    elif isinstance(context, list):
        message["@context"] = [entry for entry in context if isinstance(entry, str)]
    message["@type"] = _term(message.get("@type"))
    if "filter" in message and not isinstance(message["filter"], list):
        message["filter"] = [message["filter"]] if message["filter"] else []
    return message


def _term(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        return value.removeprefix(_NAMESPACE).removeprefix("dspace:")
    return value


def speaks(body: Mapping[str, Any]) -> bool:
    """Whether a message is in the protocol's context (others beside it are ignored)."""
    context = body.get("@context")
    return CONTEXT in (context if isinstance(context, list) else [context])


def problems(kind: str, body: Mapping[str, Any]) -> list[str]:
    """Every way in which a body is not a valid message of a kind, empty if it is one."""
    validator = _validator(kind)
    value = dict(body)
    found = []
    if not validator.is_valid(value):
        for issue in validator.iter_errors(value):
            where = "/".join(str(part) for part in issue.instance_path) or "message"
            found.append(f"{where}: {issue.message[:300]}")
    for member in ("offer", "agreement"):
        policy = body.get(member)
        if kind.startswith("Contract") and isinstance(policy, dict):
            if not isinstance(policy.get("target"), str):
                found.append(f"{member}/target: is missing")
            if member == "agreement" and not isinstance(policy.get("timestamp"), str):
                found.append("agreement/timestamp: is missing")
    for name in ("consumerPid", "providerPid"):
        pid = body.get(name)
        if isinstance(pid, str) and not 0 < len(pid) <= 128:
            found.append(f"{name}: must have 1 to 128 characters")
    return found


def check(body: Mapping[str, Any], *kinds: str) -> dict[str, Any]:
    """The body in plain form, valid as one of ``kinds``. Raises Refused ``exchange.message-invalid`` with every problem."""
    message = plain(body)
    kind = message.get("@type")
    if kind not in kinds:
        raise Refused(
            "exchange.message-invalid", message=" or ".join(kinds), reason=f"its @type is {str(kind)[:100]!r}"
        )
    found = problems(str(kind), message)
    if found:
        raise Refused("exchange.message-invalid", message=kind, reason="; ".join(found)[:2000])
    return message


def content_digest(body: Mapping[str, Any]) -> str:
    """Digest of a message's canonical content, by which a repeated message is known."""
    return digest(dict(body))


def message(kind: str, /, **members: Any) -> dict[str, Any]:
    """A message or object: context and type first; members that are None or empty are left out."""
    body: dict[str, Any] = {"@context": [CONTEXT], "@type": kind}
    for name, value in members.items():
        if value is not None and value != "" and value != [] and value != {}:
            body["@id" if name == "id" else name] = value
    return body


def error(kind: str, failure: GuantongError, *, consumer_pid: str = "", provider_pid: str = "") -> dict[str, Any]:
    """The error body of a protocol area (``CatalogError``, ``ContractNegotiationError``, ``TransferError``)."""
    body: dict[str, Any] = {"@context": [CONTEXT], "@type": kind}
    if kind != "CatalogError":
        # both pids are required by the schema, also where one was never told
        body["providerPid"] = provider_pid or "unknown"
        body["consumerPid"] = consumer_pid or "unknown"
    body["code"] = failure.code
    body["reason"] = [failure.message("en"), failure.hint("en")]
    return body


def version_document(path: str = PATH) -> dict[str, Any]:
    """The answer of ``/.well-known/dspace-version``. Source: DSP 2025-1, Common, Version Metadata."""
    return {
        "protocolVersions": [
            {
                "version": VERSION,
                "path": path,
                "binding": "HTTPS",
                "identifierType": "did:web",
                "auth": {"protocol": "dcp", "version": "1.0", "profile": ["vc20-bssl/jwt", "vc11-sl2021/jwt"]},
            }
        ]
    }


def base_of(address: str) -> str:
    """A base or callback address without its trailing slash."""
    return address.rstrip("/")


def data_address(
    endpoint: str,
    token: str,
    expires_in_s: int | None,
    *,
    refresh_token: str = "",
    refresh_endpoint: str = "",
    audience: str = "",
    kind: str = HTTP_ENDPOINT,
) -> dict[str, Any]:
    """Where and with which token to pull or push. Source: CX-0018, HttpData-PULL (names of EDC and of Data Plane Signaling, both).

    ``expires_in_s`` None: the token lives as long as the transfer.
    """
    properties = {
        "authorization": token,
        "authType": "bearer",
        "endpoint": endpoint,
        f"{EDC}endpoint": endpoint,
        f"{EDC}endpointType": kind,
        f"{EDC}authorization": token,
        f"{EDC}authType": "bearer",
    }
    if expires_in_s is not None:
        properties["expiresIn"] = properties[f"{TRACTUSX}expiresIn"] = str(expires_in_s)
    if refresh_token:
        for name, value in (("refreshToken", refresh_token), ("refreshEndpoint", refresh_endpoint)):
            properties[name] = properties[TRACTUSX + name] = value
        properties[f"{TRACTUSX}refreshAudience"] = audience
    return {
        "@type": "DataAddress",
        "endpointType": kind,
        "endpoint": endpoint,
        "endpointProperties": [
            {"@type": "EndpointProperty", "name": name, "value": value} for name, value in properties.items()
        ],
    }


def with_token(address: Mapping[str, Any], **renewed: str) -> dict[str, Any]:
    """The data address with renewed properties, under whichever names it has them."""
    entries = []
    for entry in address.get("endpointProperties") or ():
        name = str(entry.get("name")) if isinstance(entry, dict) else ""
        plain_name = name.removeprefix(EDC).removeprefix(TRACTUSX)
        entries.append({**entry, "value": renewed[plain_name]} if plain_name in renewed else entry)
    return {**address, "endpointProperties": entries}


def checked_endpoint(text: str) -> str:
    """An http(s) address with its query. Raises Refused ``exchange.message-invalid``."""
    from guantong.exchange.hosting import checked_address

    base, mark, query = text.partition("?")
    return checked_address(base) + mark + query


def properties_of(address: Mapping[str, Any]) -> dict[str, str]:
    """The properties of a data address by their plain names, whatever namespace they were written in."""
    found: dict[str, str] = {}
    for entry in address.get("endpointProperties") or ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("value"), str):
            name = entry["name"]
            for space in (EDC, TRACTUSX):
                name = name.removeprefix(space)
            found.setdefault(name, entry["value"])
    endpoint = address.get("endpoint")
    if isinstance(endpoint, str):
        found["endpoint"] = endpoint
    return found


def token_of(address: Mapping[str, Any]) -> tuple[str, str]:
    """``(endpoint, authorization)`` of a data address, under either set of names; empty texts where they are missing."""
    found = properties_of(address)
    return found.get("endpoint", ""), found.get("authorization", "")
