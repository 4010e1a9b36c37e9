"""Interfaces as an Asset Interfaces Description 1.1 submodel (IDTA 02017-1-1), both ways and without loss.

Written: JSON of the AAS metamodel 3.1, strictly by the specification. Read: leniently, because the published template and its JSON
disagree (submodel-templates#323): semantic ids with blanks behind them, the MQTT id on OPC UA interfaces, ``ua_…`` for ``uav_…``
schemes, numbers and booleans where text is specified. What connect reads by is the base address first, then our own ``kind`` term.

guantong's own terms stand in the element ``guantong`` of the interface or property, with semantic ids in NAMESPACE. Secrets are not
part of it: a document whose base holds one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from guantong.base.errors import GuantongError, Skippable
from guantong.connect.model import KINDS, NAMESPACE, Form, Interface, Property, SecurityScheme

__all__ = ["SEMANTIC_ID", "Described", "from_aid", "to_aid"]

_A = "https://admin-shell.io/idta/AssetInterfacesDescription/1/0/"
_A1 = "https://admin-shell.io/idta/AssetInterfacesDescription/1/1/"
_TD = "https://www.w3.org/2019/wot/td#"
_HM = "https://www.w3.org/2019/wot/hypermedia#"
_JS = "https://www.w3.org/2019/wot/json-schema#"
_SEC = "https://www.w3.org/2019/wot/security#"
_UAV = "http://opcfoundation.org/UA/WoT-Binding/"
_TD_ID = "https://www.w3.org/2019/wot/td"

SEMANTIC_ID = _A1 + "Submodel"
"""Semantic id of the submodel."""

_TERMS: Mapping[str, str] = {
    "htv_methodName": "https://www.w3.org/2011/http#methodName",
    "modv_function": "https://www.w3.org/2019/wot/modbus#hasFunction",
    "modv_entity": "https://www.w3.org/2019/wot/modbus#hasEntity",
    "modv_mostSignificantByte": "https://www.w3.org/2019/wot/modbus#hasMostSignificantByte",
    "modv_mostSignificantWord": "https://www.w3.org/2019/wot/modbus#hasMostSignificantWord",
    "modv_pollingTime": "https://www.w3.org/2019/wot/modbus#hasPollingTime",
    "modv_timeout": "https://www.w3.org/2019/wot/modbus#hasTimeout",
    "modv_type": "https://www.w3.org/2019/wot/modbus#hasPayloadDataType",
    "modv_zeroBasedAddressing": "https://www.w3.org/2019/wot/modbus#hasZeroBasedAddressingFlag",
    "mqv_controlPacket": "https://www.w3.org/2019/wot/mqtt#ControlPacket",
    "mqv_qos": "https://www.w3.org/2019/wot/mqtt#hasQoSFlag",
    "mqv_retain": "https://www.w3.org/2019/wot/mqtt#hasRetainFlag",
    "uav_browsePath": _UAV + "browsePath",
    "uav_securityMode": _UAV + "securityMode",
    "uav_securityPolicy": _UAV + "securityPolicy",
    "uav_userIdentityToken": _UAV + "userIdentityToken",
}
_SCHEMES: Mapping[str, str] = {
    "nosec": _SEC + "NoSecurityScheme",
    "auto": _SEC + "AutoSecurityScheme",
    "basic": _SEC + "BasicSecurityScheme",
    "combo": _SEC + "ComboSecurityScheme",
    "apikey": _SEC + "APIKeySecurityScheme",
    "psk": _SEC + "PSKSecurityScheme",
    "digest": _SEC + "DigestSecurityScheme",
    "bearer": _SEC + "BearerSecurityScheme",
    "oauth2": _SEC + "OAuth2SecurityScheme",
    "uav_channelsec": _UAV + "OPCUASecurityChannelScheme",
    "uav_authentication": _UAV + "OPCUASecurityAuthenticationScheme",
}
_SPELLED = {"ua_channelsec": "uav_channelsec", "ua_authentication": "uav_authentication"}
_ID_SHORT = re.compile(r"[A-Za-z][A-Za-z0-9_-]*[A-Za-z0-9_]", re.ASCII)
_OWN = "guantong"
_ENDPOINT = ("base", "contentType", "security", "securityDefinitions")
_MAX_DEPTH, _MAX_ELEMENTS = 20, 200_000


@dataclass(frozen=True, slots=True)
class Described:
    """What a document describes."""

    interfaces: tuple[Interface, ...]
    unread: tuple[tuple[str, str], ...]
    """Interfaces that connect has no reader for, or that can't be used: idShort and why."""


def to_aid(interfaces: Iterable[Interface], *, id: str) -> dict[str, Any]:
    """The submodel, as JSON of the metamodel. ``id`` is the submodel's identifier."""
    elements, taken = [], set[str]()
    for interface in interfaces:
        short = _short(interface.name, taken)
        elements.append(_interface(interface, short, id))
    return {
        "modelType": "Submodel",
        "id": id,
        "idShort": "AssetInterfacesDescription",
        "semanticId": _external(SEMANTIC_ID),
        "submodelElements": elements,
    }


def _interface(interface: Interface, short: str, submodel: str) -> dict[str, Any]:
    endpoint = [_text("base", interface.base, _TD + "baseURI", "xs:anyURI")]
    if interface.content_type is not None:
        endpoint.append(_text("contentType", interface.content_type, _HM + "forContentType"))
    path = (submodel, short)
    endpoint.extend(_term(name, value) for name, value in interface.terms if name in _TERMS)
    endpoint.append(_security(interface.security, path))
    schemes = [
        _collection(
            scheme.name,
            [_text("scheme", scheme.scheme, _TD + "hasSecurityScheme"), *(_term(*term) for term in scheme.terms)],
            _SCHEMES.get(scheme.scheme, _SEC + "SecurityScheme"),
        )
        for scheme in interface.schemes
    ]
    endpoint.append(_collection("securityDefinitions", schemes, _TD + "definesSecurityScheme"))
    children = [_text("title", interface.title, _TD + "title")]
    for name, value, kind, meaning in (
        ("created", interface.created, "xs:dateTime", "http://purl.org/dc/terms/created"),
        ("modified", interface.modified, "xs:dateTime", "http://purl.org/dc/terms/modified"),
        ("support", interface.support, "xs:anyURI", _TD + "supportContact"),
    ):
        if value is not None:
            children.append(_text(name, value, meaning, kind))
    children.append(_collection("EndpointMetadata", endpoint, _A + "EndpointMetadata"))
    properties = _properties(interface.properties, _TD + "PropertyAffordance", path)
    metadata = _collection("InteractionMetadata", [properties], _A + "InteractionMetadata")
    metadata["supplementalSemanticIds"] = [_external(_TD + "InteractionAffordance")]
    children.append(metadata)
    own = [("kind", interface.kind), *(term for term in interface.terms if term[0] not in _TERMS)]
    if interface.name != short:
        own.append(("name", interface.name))
    children.append(
        _collection(_OWN, [_text(name, value, NAMESPACE + name) for name, value in own], NAMESPACE + "terms")
    )
    element = _collection(short, children, _A + "Interface")
    element["supplementalSemanticIds"] = [_external(_TD_ID), _external(interface.protocol)]
    return element


def _properties(items: Iterable[Property], meaning: str, path: tuple[str, str]) -> dict[str, Any]:
    taken = set[str]()
    return _collection("properties", [_property(item, _short(item.key, taken), path) for item in items], meaning)


def _property(item: Property, short: str, path: tuple[str, str]) -> dict[str, Any]:
    children: list[dict[str, Any]] = []
    if item.key != short:
        children.append(_text("key", item.key, _JS + "propertyName"))
    for name, value, meaning in (
        ("type", item.type, "https://www.w3.org/1999/02/22-rdf-syntax-ns#type"),
        ("title", item.title, _TD + "title"),
        ("unit", item.unit, "https://schema.org/unitCode"),
        ("const", item.const, _JS + "const"),
        ("default", item.default, _JS + "default"),
    ):
        if value is not None:
            children.append(_text(name, value, meaning))
    if item.observable is not None:
        children.append(_text("observable", str(item.observable).lower(), _TD + "isObservable", "xs:boolean"))
    if item.enum:
        children.append(
            {
                "modelType": "SubmodelElementList",
                "idShort": "enum",
                "semanticId": _external(_JS + "enum"),
                "typeValueListElement": "Property",
                "valueTypeListElement": "xs:string",
                "value": [{"modelType": "Property", "valueType": "xs:string", "value": value} for value in item.enum],
            }
        )
    if item.minimum is not None or item.maximum is not None:
        span: dict[str, Any] = {
            "modelType": "Range",
            "idShort": "min_max",
            "semanticId": _external(_JS + "minimum"),
            "valueType": "xs:integer" if item.type == "integer" else "xs:double",
        }
        if item.minimum is not None:
            span["min"] = item.minimum
        if item.maximum is not None:
            span["max"] = item.maximum
        children.append(span)
    if item.value_semantics is not None:
        children.append(
            {
                "modelType": "ReferenceElement",
                "idShort": "valueSemantics",
                "semanticId": _external(_A + "valueSemantics"),
                "value": _external(item.value_semantics),
            }
        )
    if item.properties:
        children.append(_properties(item.properties, _JS + "properties", path))
    if item.form is not None:
        children.append(_form(item.form, path))
    if item.terms:
        own = [_text(name, value, NAMESPACE + name) for name, value in item.terms]
        children.append(_collection(_OWN, own, NAMESPACE + "terms"))
    return _collection(short, children, _A + "PropertyDefinition")


def _form(form: Form, path: tuple[str, str]) -> dict[str, Any]:
    children = [_text("href", form.href, _HM + "hasTarget")]
    if form.content_type is not None:
        children.append(_text("contentType", form.content_type, _HM + "forContentType"))
    if form.subprotocol is not None:
        children.append(_text("subprotocol", form.subprotocol, _HM + "forSubProtocol"))
    if form.security:
        children.append(_security(form.security, path))
    children.extend(_term(name, value) for name, value in form.terms)
    return _collection("forms", children, _TD + "hasForm")


def _security(names: Iterable[str], path: tuple[str, str]) -> dict[str, Any]:
    submodel, short = path
    above = (
        ("Submodel", submodel),
        *(("SubmodelElementCollection", step) for step in (short, "EndpointMetadata", "securityDefinitions")),
    )
    references = [
        {
            "modelType": "ReferenceElement",
            "value": {
                "type": "ModelReference",
                "keys": [{"type": kind, "value": step} for kind, step in (*above, ("SubmodelElementCollection", name))],
            },
        }
        for name in names
    ]
    element: dict[str, Any] = {
        "modelType": "SubmodelElementList",
        "idShort": "security",
        "semanticId": _external(_TD + "hasSecurityConfiguration"),
        "typeValueListElement": "ReferenceElement",
    }
    if references:
        element["value"] = references
    return element


def _term(name: str, value: str) -> dict[str, Any]:
    return _text(name, value, _TERMS.get(name, NAMESPACE + name))


def _text(short: str, value: str, meaning: str, kind: str = "xs:string") -> dict[str, Any]:
    return {
        "modelType": "Property",
        "idShort": short,
        "semanticId": _external(meaning),
        "valueType": kind,
        "value": value,
    }


def _collection(short: str, children: list[dict[str, Any]], meaning: str) -> dict[str, Any]:
    element: dict[str, Any] = {
        "modelType": "SubmodelElementCollection",
        "idShort": short,
        "semanticId": _external(meaning),
    }
    if children:  # the metamodel has no empty lists
        element["value"] = children
    return element


def _external(value: str) -> dict[str, Any]:
    return {"type": "ExternalReference", "keys": [{"type": "GlobalReference", "value": value}]}


def _short(name: str, taken: set[str]) -> str:
    """An idShort for a name, unique among its siblings (AASd-002, AASd-022): the name itself where it may be one."""
    short = name
    if _ID_SHORT.fullmatch(name) is None or len(name) > 128:
        short = re.sub(r"[^A-Za-z0-9_]+", "_", name)[:100].strip("_")
        short = f"p_{short}" if not short or not short[0].isalpha() or len(short) < 2 else short
    base, number = short, 2
    while short.lower() in taken:
        short, number = f"{base}_{number}", number + 1
    taken.add(short.lower())
    return short


# reading --------------------------------------------------------------------------------------------------------------------------


def from_aid(document: Mapping[str, Any]) -> Described:
    """The interfaces of a submodel. Raises Skippable ``connect.interface-unreadable`` if it is no such submodel."""
    if not isinstance(document, Mapping) or document.get("modelType") != "Submodel":
        raise Skippable("connect.interface-unreadable", reason="not a submodel")
    if _size(document, 0) > _MAX_ELEMENTS:
        raise Skippable("connect.interface-unreadable", reason="too many elements")
    found: list[Interface] = []
    unread: list[tuple[str, str]] = []
    for element in _list(document.get("submodelElements")):
        children = _children(element)
        if "EndpointMetadata" not in children:
            continue
        short = str(element.get("idShort", ""))
        try:
            found.append(_read_interface(element, children, short))
        except GuantongError as error:
            unread.append((short, error.message()))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            unread.append((short, f"{type(error).__name__}: {error}"))
    if not found and not unread:
        raise Skippable("connect.interface-unreadable", reason="it holds no interface")
    return Described(tuple(found), tuple(unread))


def _read_interface(element: Mapping[str, Any], children: Mapping[str, Any], short: str) -> Interface:
    endpoint = _children(children["EndpointMetadata"])
    base = _value(endpoint.get("base")) or ""
    own = _own(children)
    kind = dict(own).get("kind") or _kind_of(base, _supplemental(element))
    if kind not in KINDS:
        raise Skippable("connect.interface-unreadable", reason=f"no reader for {base.partition(':')[0] or 'it'}")
    schemes = tuple(
        _read_scheme(name, _children(scheme)) for name, scheme in _children(endpoint.get("securityDefinitions")).items()
    )
    metadata = _children(children.get("InteractionMetadata"))
    protocol = next((value for value in _supplemental(element) if value != _TD_ID), "")
    if kind == "opcua" and not protocol.startswith(_UAV):
        protocol = _UAV  # the published template puts MQTT's id here
    return Interface(
        name=dict(own).get("name") or short,
        kind=kind,
        base=base,
        title=_value(children.get("title")) or "",
        created=_value(children.get("created")),
        modified=_value(children.get("modified")),
        support=_value(children.get("support")),
        content_type=_value(endpoint.get("contentType")),
        security=_read_security(endpoint.get("security")),
        schemes=schemes,
        properties=tuple(_read_properties(metadata.get("properties"))),
        protocol=protocol,
        terms=(
            *(term for term in own if term[0] not in ("kind", "name")),
            *(term for term in _rest(endpoint, _ENDPOINT) if term[0] in _TERMS),
        ),
    )


def _read_scheme(name: str, children: Mapping[str, Any]) -> SecurityScheme:
    scheme = _value(children.get("scheme")) or name.removesuffix("_sc")
    return SecurityScheme(name, _SPELLED.get(scheme, scheme), _rest(children, ("scheme",)))


def _read_properties(element: Any) -> Iterator[Property]:
    for short, item in _children(element).items():
        children = _children(item)
        span = children.get("min_max") or {}
        observable = _value(children.get("observable"))
        semantics = children.get("valueSemantics")
        yield Property(
            key=_value(children.get("key")) or short,
            type=_value(children.get("type")),
            title=_value(children.get("title")),
            unit=_value(children.get("unit")),
            observable=None if observable is None else observable.strip().lower() in ("true", "1"),
            const=_value(children.get("const")),
            default=_value(children.get("default")),
            enum=tuple(_value(entry) or "" for entry in _list((children.get("enum") or {}).get("value"))),
            minimum=_plain(span.get("min")),
            maximum=_plain(span.get("max")),
            value_semantics=_last_key(semantics.get("value")) if semantics else None,
            form=_read_form(children["forms"]) if "forms" in children else None,
            properties=tuple(_read_properties(children.get("properties"))),
            terms=tuple(_own(children)),
        )


def _read_form(element: Any) -> Form:
    children = _children(element)
    return Form(
        href=_value(children.get("href")) or "",
        content_type=_value(children.get("contentType")),
        subprotocol=_value(children.get("subprotocol")),
        security=_read_security(children.get("security")),
        terms=_rest(children, ("href", "contentType", "subprotocol", "security")),
    )


def _read_security(element: Any) -> tuple[str, ...]:
    entries = _list((element or {}).get("value"))
    return tuple(name for entry in entries if (name := _last_key(entry.get("value"))) is not None)


def _rest(children: Mapping[str, Any], known: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Terms that have no field of their own; those that are not plain text are left out."""
    return tuple(
        (name, value)
        for name, child in children.items()
        if name not in known and child.get("modelType") == "Property" and (value := _value(child)) is not None
    )


def _own(children: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, _value(child) or "") for name, child in _children(children.get(_OWN)).items()]


def _kind_of(base: str, protocols: list[str]) -> str:
    """By the scheme of the address first: the published template names the wrong protocols (submodel-templates#323)."""
    scheme = base.partition(":")[0].strip().lower()
    if scheme in ("mqtt", "mqtts", "modbus+tcp", "http", "https"):
        kind = {"mqtts": "mqtt", "modbus+tcp": "modbus", "https": "http"}.get(scheme, scheme)
        return "mtconnect" if any(value.endswith("mtconnect") for value in protocols) else kind
    return {"opc.tcp": "opcua", "shdr": "shdr", "file": "folder", "sparkplug": "sparkplug", "s7": "s7"}.get(scheme, "")


def _supplemental(element: Mapping[str, Any]) -> list[str]:
    return [value for entry in _list(element.get("supplementalSemanticIds")) if (value := _last_key(entry))]


def _last_key(reference: Any) -> str | None:
    keys = _list(reference.get("keys")) if isinstance(reference, Mapping) else []
    return str(keys[-1]["value"]).strip() if keys and isinstance(keys[-1], Mapping) and "value" in keys[-1] else None


def _children(element: Any) -> dict[str, Any]:
    """Children of a collection by idShort."""
    children = _list((element or {}).get("value")) if isinstance(element, Mapping) else []
    return {str(child["idShort"]): child for child in children if isinstance(child, Mapping) and child.get("idShort")}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _value(element: Any) -> str | None:
    """Text of a property, whatever its value type; of a text in several languages, the English or first one."""
    if not isinstance(element, Mapping):
        return None
    value = element.get("value")
    if isinstance(value, list):  # MultiLanguageProperty where a plain one is specified
        texts = [entry for entry in value if isinstance(entry, Mapping) and "text" in entry]
        english = next((entry for entry in texts if str(entry.get("language", "")).startswith("en")), None)
        value = (english or texts[0])["text"] if texts else None
    return _plain(value)


def _plain(value: Any) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def _size(value: Any, depth: int) -> int:
    if depth > 3 * _MAX_DEPTH:
        raise Skippable("connect.interface-unreadable", reason="nested too deeply")
    if isinstance(value, Mapping):
        return 1 + sum(_size(child, depth + 1) for child in value.values())
    if isinstance(value, list):
        return sum(_size(child, depth + 1) for child in value)
    return 0
