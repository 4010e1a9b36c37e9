"""Which documents a company's machines and parts have: one shell each, and its submodels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guantong.base.canonical import b64url
from guantong.describe.documents import Draft
from guantong.describe.elements import id_short, shell
from guantong.describe.machine import SignalFacts, operational_data, time_series
from guantong.describe.nameplate import nameplate
from guantong.describe.part import part_measurements

if TYPE_CHECKING:
    from guantong.fuse.model import Part, Signal

__all__ = ["Names", "machine_drafts", "part_drafts"]

_QUERY_SIGNALS = 200
"""Signals named one by one in a query; above that it says ``all``."""


@dataclass(frozen=True, slots=True)
class Names:
    """How identifiers are made: the namespace, the participant whose things they are, and the node's address."""

    namespace: str
    participant: str
    base_url: str

    def __call__(self, kind: str, *names: str) -> str:
        """An identifier. The participant is part of it: two companies' machines may bear one name."""
        owner = self.participant.removeprefix("did:").replace(":", "-").replace("%", "-")
        return ":".join((self.namespace, owner, kind, *names))


def machine_drafts(
    names: Names,
    signals: Iterable[Signal],
    stated: Mapping[str, Mapping[str, str]],
    interfaces: Iterable[Mapping[str, Any]],
) -> list[Draft]:
    """Shell and submodels of every source: Nameplate, OperationalData, TimeSeries and, where described, its interfaces."""
    machines: dict[str, list[SignalFacts]] = {}
    for signal in signals:
        machines.setdefault(signal.source, []).append(
            SignalFacts(
                signal.id, signal.native_id, signal.name, signal.path, signal.unit, signal.type, signal.category
            )
        )
    described = {str(item["source"]): item["submodel"] for item in interfaces}
    drafts: list[Draft] = []
    for source in sorted({*machines, *described}):
        asset = names("asset", "machine", source)
        facts = {"URIOfTheProduct": asset, **stated.get(f"machine:{source}", {})}
        submodels = [Draft(asset, nameplate(names("submodel", source, "nameplate"), facts))]
        submodels += _data_drafts(names, source, asset, sorted(machines.get(source, ()), key=lambda one: one.id))
        if source in described:
            interface = {**described[source], "id": names("submodel", source, "interfaces")}
            submodels.append(Draft(asset, interface))
        drafts += submodels
        drafts.append(
            Draft(
                asset,
                shell(
                    names("shell", "machine", source),
                    id_short(source, "machine"),
                    asset,
                    [str(draft.body["id"]) for draft in submodels],
                    specific={"serialNumber": facts.get("SerialNumber", ""), "source": source},
                    title=source,
                ),
            )
        )
    return drafts


def _data_drafts(names: Names, source: str, asset: str, signals: Sequence[SignalFacts]) -> list[Draft]:
    if not signals:
        return []
    ids = tuple(signal.id for signal in signals)
    data, live = operational_data(names("submodel", source, "operational-data"), signals)
    series_id = names("submodel", source, "time-series")
    series, filled = time_series(
        series_id,
        source,
        signals,
        endpoint=f"{names.base_url}/guantong/series/{b64url(series_id.encode())}",
        query="signals=" + (",".join(map(str, ids)) if len(ids) <= _QUERY_SIGNALS else "all"),
    )
    return [Draft(asset, data, tuple(live), ids), Draft(asset, series, tuple(filled), ids)]


def part_drafts(
    names: Names,
    parts: Iterable[Part],
    stated: Mapping[str, Mapping[str, str]],
    measured: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[Draft]:
    """Shell, Nameplate and PartMeasurements of every part."""
    drafts: list[Draft] = []
    for part in parts:
        asset = names("asset", "part", part.id)
        key = f"part:{part.id}"
        facts = {
            "URIOfTheProduct": asset,
            "ManufacturerProductDesignation": part.design,
            "SerialNumber": part.serial,
            **stated.get(key, {}),
        }
        submodels = [
            Draft(asset, nameplate(names("submodel", key, "nameplate"), facts)),
            Draft(
                asset,
                part_measurements(names("submodel", key, "measurements"), part.names, measured.get(part.id, ())),
            ),
        ]
        drafts += submodels
        drafts.append(
            Draft(
                asset,
                shell(
                    names("shell", "part", part.id),
                    id_short(f"{part.design}_{part.serial}", "part"),
                    asset,
                    [str(draft.body["id"]) for draft in submodels],
                    specific={"serialNumber": part.serial, "part": part.id},
                    title=f"{part.design} {part.serial}".strip(),
                ),
            )
        )
    return drafts
