"""Datasets as DCAT 3 in JSON-LD. Source: W3C Data Catalog Vocabulary (DCAT) version 3, 2024-08-22."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from guantong.base.clock import iso
from guantong.describe.model import Dataset, DatasetStats

__all__ = ["CONTEXT", "catalog", "dataset_node"]

CONTEXT: Mapping[str, str] = {
    "dcat": "http://www.w3.org/ns/dcat#",
    "dcterms": "http://purl.org/dc/terms/",
    "dqv": "http://www.w3.org/ns/dqv#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}


def dataset_node(
    dataset: Dataset,
    stats: DatasetStats | None,
    *,
    publisher: str,
    namespace: str,
    names: Iterable[str],
    units: Iterable[str],
) -> dict[str, Any]:
    """One ``dcat:Dataset``. What was not counted is left out.

    names, units: names and UCUM codes of the dataset's signals, shown so that a partner knows what is inside.
    """
    node: dict[str, Any] = {
        "@id": f"{namespace}:dataset:{dataset.id}",
        "@type": "dcat:Dataset",
        "dcterms:identifier": dataset.id,
        "dcterms:title": [
            {"@language": language, "@value": text}
            for language, text in (("en", dataset.title_en), ("zh", dataset.title_zh))
            if text
        ],
        "dcterms:publisher": {"@id": publisher},
        "dcterms:type": dataset.kind,
    }
    if dataset.description:
        node["dcterms:description"] = dataset.description
    keywords = sorted({*dataset.keywords, *names})
    if keywords:
        node["dcat:keyword"] = keywords[:200]
    used = sorted({unit for unit in units if unit})
    if used:
        node["dcterms:conformsTo"] = [{"@id": f"urn:ucum:{unit}"} for unit in used]
    first = stats.first if stats and stats.first is not None else dataset.start
    last = stats.last if stats and stats.last is not None else dataset.end
    if first is not None or last is not None:
        period: dict[str, Any] = {"@type": "dcterms:PeriodOfTime"}
        if first is not None:
            period["dcat:startDate"] = {"@type": "xsd:dateTime", "@value": iso(first)}
        if last is not None:
            period["dcat:endDate"] = {"@type": "xsd:dateTime", "@value": iso(last)}
        node["dcterms:temporal"] = period
    if stats is not None:
        node["dcat:distribution"] = [
            {
                "@type": "dcat:Distribution",
                "dcat:mediaType": "application/vnd.apache.arrow.stream",
                "dcat:byteSize": {"@type": "xsd:nonNegativeInteger", "@value": str(stats.bytes_estimated)},
            }
        ]
    return node


def catalog(nodes: list[dict[str, Any]], *, publisher: str, namespace: str) -> dict[str, Any]:
    """A ``dcat:Catalog`` with the datasets."""
    return {
        "@context": dict(CONTEXT),
        "@id": f"{namespace}:catalog:{publisher}",
        "@type": "dcat:Catalog",
        "dcterms:publisher": {"@id": publisher},
        "dcat:dataset": nodes,
    }
