"""The catalogue: products rendered once, shown to those who may see them, and partners' catalogues read.

Source: Dataspace Protocol 2025-1, Catalog Protocol; CX-0018, CAC-007 (type and version of a dataset).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from guantong.base.errors import Refused
from guantong.exchange.facts import Facts
from guantong.exchange.messages import CONTEXT
from guantong.exchange.model import Catalogue, CatalogueOffer, Product
from guantong.exchange.policy import Terms, compile_policy, with_contract
from guantong.exchange.transfers import FORMATS

__all__ = ["Shelf", "Wanted", "filter_of", "read_catalogue"]

NS = "https://w3id.org/guantong/ns/"
TERMS_TEXT = NS + "contractTermsText"
PRICE_PLAN = NS + "pricePlanDocument"
TITLE = "http://purl.org/dc/terms/title"
TYPE = "http://purl.org/dc/terms/type"
CX_VERSION = "https://w3id.org/catenax/ontology/common#version"
EDC_ID = "https://w3id.org/edc/v0.0.1/ns/id"


@dataclass(frozen=True, slots=True)
class _Shown:
    product: Product
    visible_to: frozenset[str] | None
    terms: Terms
    rendered: bytes
    place: int
    """Its place in the order of offering."""

    def listed_under(self) -> list[tuple[str, str]] | None:
        """The facts of callers of which one must be so for it to be shown, None where that can't be told by one fact alone."""
        named = self.visible_to
        wider: list[tuple[str, str]] | None = None
        for check in self.terms.by_point["catalogue"]:
            if check.test == "any" and check.fact == "did":
                named = frozenset(check.values) if named is None else named & frozenset(check.values)
            elif check.test == "any" and wider is None:
                wider = [(check.fact, value) for value in dict.fromkeys(check.values)]
        return wider if named is None else [("did", caller) for caller in named]

    @property
    def settled(self) -> bool:
        """Whether the list it stands in says all: nothing but names decides."""
        return all(check.test == "any" and check.fact == "did" for check in self.terms.by_point["catalogue"])

    def is_for(self, caller: Facts) -> bool:
        """Whether a caller may see it: not hidden from it, and its own terms not already refusing it."""
        return (self.visible_to is None or caller.did in self.visible_to) and not self.terms.refusal(
            "catalogue", caller
        )

    def ends(self) -> int | None:
        """The last instant at which it is shown, None where time does not end that."""
        ends = [end for check in self.terms.by_point["catalogue"] if (end := check.ends(0)) is not None]
        return min(ends, default=None)


_LISTED = ("did", "parties", "credentials", "bpns", "groups", "regions")
"""Facts that offers are listed by."""
_CALLERS = 64
"""Callers whose view of the shelf is kept."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a catalogue request asks for."""

    ids: frozenset[str] | None = None
    offset: int = 0
    limit: int | None = None


class Shelf:
    """The products on offer of one participant, rendered."""

    def __init__(self, participant: str, callback: str) -> None:
        self.participant = participant
        self.callback = callback
        self._shown: dict[str, _Shown] = {}
        self._by_dataset: dict[str, dict[str, _Shown]] = {}
        self._by_offer: dict[str, dict[str, _Shown]] = {}
        self._open: dict[int, _Shown] = {}
        self._named: dict[tuple[str, str], dict[int, _Shown]] = {}
        self._places = 0
        self._seen: OrderedDict[tuple[Any, ...], tuple[int | None, list[_Shown]]] = OrderedDict()

    def put(self, product: Product) -> None:
        """Show a product, instead of an earlier one of the same id."""
        visible = frozenset(product.visible_to) if product.visible_to else None
        dataset = self.dataset(product)
        old = self._shown.get(product.id)
        if old is not None:
            self._unlist(old)
        else:
            self._places += 1
        place = self._places if old is None else old.place  # a changed product keeps its place
        shown = _Shown(product, visible, compile_policy(product.policy), orjson.dumps(dataset), place)
        self._shown[product.id] = shown
        for listed in self._lists(shown):
            listed[place] = shown
        self._by_dataset.setdefault(product.dataset_id, {})[product.id] = shown
        self._by_offer.setdefault(product.offer_id, {})[product.id] = shown
        self._seen.clear()

    def take(self, product_id: str) -> None:
        """Show it no more."""
        shown = self._shown.pop(product_id, None)
        if shown is not None:
            self._unlist(shown)
            self._seen.clear()

    def _lists(self, shown: _Shown) -> list[dict[int, _Shown]]:
        names = shown.listed_under()
        return [self._open] if names is None else [self._named.setdefault(name, {}) for name in names]

    def _unlist(self, shown: _Shown) -> None:
        for listed in self._lists(shown):
            listed.pop(shown.place, None)
        product = shown.product
        for index, name in ((self._by_dataset, product.dataset_id), (self._by_offer, product.offer_id)):
            index[name].pop(product.id, None)
            if not index[name]:
                del index[name]

    def products(self, dataset_id: str = "") -> list[Product]:
        """All products on the shelf, or those of a dataset."""
        listed = self._by_dataset.get(dataset_id, {}) if dataset_id else self._shown
        return [shown.product for shown in listed.values()]

    def product(self, product_id: str) -> Product | None:
        """A product by its id."""
        shown = self._shown.get(product_id)
        return shown.product if shown else None

    def visible(self, caller: Facts) -> list[_Shown]:
        """What a caller may see, in the order of offering: looked up by what it is and has proven, not by trying every policy.

        Equal to asking the decision point whether it may ``see`` each offer. Found once for a caller, what it has proven and a change of
        the shelf, and again when the first of its offers has ended.
        """
        name = (caller.did, *caller.proven())
        kept = self._seen.get(name)
        if kept is None or (kept[0] is not None and caller.at > kept[0]):
            listed = {**self._open}
            for fact in _LISTED:
                for value in caller.members(fact):
                    listed.update(self._named.get((fact, value), {}))
            found = [listed[place] for place in sorted(listed)]
            found = [shown for shown in found if shown.settled or shown.is_for(caller)]
            ends = [end for shown in found if not shown.settled and (end := shown.ends()) is not None]
            kept = self._seen[name] = (min(ends, default=None), found)
            while len(self._seen) > _CALLERS:
                self._seen.popitem(last=False)
        self._seen.move_to_end(name)
        return kept[1]

    def find(self, caller: Facts, *, offer_id: str = "", dataset_id: str = "") -> Product | None:
        """The product of an offer or dataset if the caller may see it; the offer's id decides where both are given."""
        for index, name in ((self._by_offer, offer_id), (self._by_dataset, dataset_id)):
            for shown in index.get(name, {}).values() if name else ():
                if dataset_id in ("", shown.product.dataset_id) and shown.is_for(caller):
                    return shown.product
        return None

    def page(self, caller: Facts, wanted: Wanted, page_size: int) -> tuple[bytes, int | None, int | None]:
        """The body of a ``Catalog`` with the offsets of the next and the previous page."""
        shown = self.visible(caller)
        if wanted.ids is not None:
            shown = [item for item in shown if item.product.dataset_id in wanted.ids]
        size = min(wanted.limit or page_size, page_size)
        part = shown[wanted.offset : wanted.offset + size]
        head = {
            "@context": [CONTEXT],
            "@id": f"{self.participant}#catalog",
            "@type": "Catalog",
            "participantId": self.participant,
            "service": [self.service()],
        }
        body = orjson.dumps(head)
        if part:
            body = body[:-1] + b',"dataset":[' + b",".join(item.rendered for item in part) + b"]}"
        following = wanted.offset + size if wanted.offset + size < len(shown) else None
        previous = max(0, wanted.offset - size) if wanted.offset > 0 else None
        return body, following, previous

    def one(self, caller: Facts, dataset_id: str) -> dict[str, Any]:
        """A dataset by its id. Raises Refused ``exchange.dataset-unknown``."""
        found = [item for item in self._by_dataset.get(dataset_id, {}).values() if item.is_for(caller)]
        if not found:
            raise Refused("exchange.dataset-unknown", dataset=dataset_id[:200])
        dataset = {"@context": [CONTEXT], **orjson.loads(found[0].rendered)}
        dataset["hasPolicy"] = [policy for item in found for policy in orjson.loads(item.rendered)["hasPolicy"]]
        return dataset

    def service(self) -> dict[str, Any]:
        """The data service that serves every distribution."""
        return {"@id": f"{self.participant}#connector", "@type": "DataService", "endpointURL": self.callback}

    def dataset(self, product: Product) -> dict[str, Any]:
        """A product as a DCAT dataset with its offer."""
        rules = with_contract(product.policy, terms=product.terms, price=product.price)
        dataset: dict[str, Any] = {
            "@id": product.dataset_id,
            "@type": "Dataset",
            TYPE: {"@id": NS + "IndustrialData"},
            CX_VERSION: "1",
            **product.properties,
            "hasPolicy": [{"@id": product.offer_id, "@type": "Offer", **rules}],
            "distribution": [
                {"@type": "Distribution", "format": form, "accessService": f"{self.participant}#connector"}
                for form in FORMATS
            ],
        }
        titles = [
            {"@value": text, "@language": language}
            for text, language in ((product.title_en, "en"), (product.title_zh, "zh-CN"))
            if text
        ]
        if titles:
            dataset[TITLE] = titles
        if product.terms:
            dataset[TERMS_TEXT] = product.terms
        if product.price:
            # as text: the digest in the offer is over these very bytes' value, whatever a reader does with unknown objects
            dataset[PRICE_PLAN] = orjson.dumps(dict(product.price)).decode()
        return dataset


def filter_of(filters: Any) -> Wanted:
    """The filter of a request. An EDC QuerySpec (which EDC always sends) is understood where it asks for datasets by id.

    Raises Refused ``exchange.filter-unsupported``.
    """
    entries = filters if isinstance(filters, list) else [filters] if filters else []
    ids: frozenset[str] | None = None
    offset, limit = 0, None
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise Refused("exchange.filter-unsupported")
        spec = {
            str(name).rpartition("/")[2].rpartition(":")[2]: value
            for name, value in entry.items()
            if name != "@context"
        }
        if set(spec) - {"@type", "@id", "offset", "limit", "sortOrder", "sortField", "filterExpression"}:
            raise Refused("exchange.filter-unsupported")
        if not spec.get("@type", "QuerySpec").endswith("QuerySpec"):
            raise Refused("exchange.filter-unsupported")
        offset = _whole(spec.get("offset", 0))
        limit = _whole(spec["limit"]) or None if "limit" in spec else None
        expressions = spec.get("filterExpression") or []
        for expression in expressions if isinstance(expressions, list) else [expressions]:
            wanted = _criterion(expression)
            ids = wanted if ids is None else ids & wanted
    return Wanted(ids, offset, limit)


def _criterion(expression: Any) -> frozenset[str]:
    if not isinstance(expression, Mapping):
        raise Refused("exchange.filter-unsupported")
    plain = {str(name).rpartition("/")[2].rpartition(":")[2]: value for name, value in expression.items()}
    left, operator, right = plain.get("operandLeft"), plain.get("operator"), plain.get("operandRight")
    left = left.get("@value", left.get("@id")) if isinstance(left, Mapping) else left
    values = right if isinstance(right, list) else [right]
    if left not in ("id", "@id", EDC_ID) or operator not in ("=", "in") or not all(isinstance(v, str) for v in values):
        raise Refused("exchange.filter-unsupported")
    return frozenset(values)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise Refused("exchange.filter-unsupported")
    return value


def read_catalogue(body: Mapping[str, Any]) -> Catalogue:
    """A partner's catalogue as offers that can be asked for. Offers with terms we do not know are listed too; asking is refused."""
    offers = []
    datasets = body.get("dataset")
    for dataset in datasets if isinstance(datasets, list) else [datasets] if isinstance(datasets, dict) else []:
        if not isinstance(dataset, dict) or not isinstance(dataset.get("@id"), str):
            continue
        policies = dataset.get("hasPolicy")
        for policy in policies if isinstance(policies, list) else [policies]:
            if not isinstance(policy, dict) or not isinstance(policy.get("@id"), str):
                continue
            offer = {**policy, "@type": "Offer", "target": dataset["@id"]}
            offers.append(
                CatalogueOffer(
                    dataset_id=dataset["@id"],
                    offer=offer,
                    title=_title(dataset),
                    terms=str(dataset.get(TERMS_TEXT, "")),
                    price=_price(dataset.get(PRICE_PLAN)),
                    formats=_formats(dataset),
                    dataset=dataset,
                )
            )
    return Catalogue(str(body.get("participantId", "")), tuple(offers))


def _title(dataset: Mapping[str, Any]) -> str:
    title = dataset.get(TITLE, dataset.get("title", ""))
    for entry in title if isinstance(title, list) else [title]:
        if isinstance(entry, str):
            return entry
        if isinstance(entry, dict) and isinstance(entry.get("@value"), str):
            return str(entry["@value"])
    return ""


def _price(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    return value if isinstance(value, dict) else {}


def _formats(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    found = dataset.get("distribution")
    texts = []
    for entry in found if isinstance(found, list) else [found]:
        form = entry.get("format") if isinstance(entry, dict) else None
        form = form.get("@id") if isinstance(form, dict) else form
        if isinstance(form, str):
            texts.append(form)
    return tuple(texts)
