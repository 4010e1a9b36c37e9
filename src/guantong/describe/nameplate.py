"""Submodel Nameplate 3.0.1 (IDTA 02006-3-0). A mandatory element whose fact nobody stated is there without a value: nothing is invented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guantong.describe.elements import collection, languages, prop, submodel

__all__ = ["FACTS", "SEMANTIC_ID", "nameplate"]

SEMANTIC_ID = "https://admin-shell.io/idta/nameplate/3/0/Nameplate"
_IEC = "0112/2///61987#"
_ECLASS = "0173-1#02-"
_ADDRESS = "https://admin-shell.io/zvei/nameplate/1/0/ContactInformations/AddressInformation"

_ROWS: tuple[tuple[str, str, str, str, bool], ...] = (
    ("URIOfTheProduct", "anyURI", "ABN590#002", "ABH173#003", True),
    ("ManufacturerName", "MLP", "ABA565#009", "AAO677#004", True),
    ("ManufacturerProductDesignation", "MLP", "ABA567#009", "AAW338#003", True),
    ("ManufacturerProductFamily", "MLP", "ABP464#002", "AAU731#003", False),
    ("ManufacturerProductType", "string", "ABA300#008", "AAO057#004", False),
    ("OrderCodeOfManufacturer", "string", "ABA950#008", "AAO227#004", True),
    ("ProductArticleNumberOfManufacturer", "string", "ABA581#007", "AAO676#005", False),
    ("SerialNumber", "string", "ABA951#009", "AAM556#004", False),
    ("YearOfConstruction", "string", "ABP000#002", "AAP906#003", False),
    ("DateOfManufacture", "date", "ABB757#007", "AAR972#004", False),
    ("HardwareVersion", "string", "ABA926#008", "AAN270#004", False),
    ("FirmwareVersion", "string", "ABA302#006", "AAM985#004", False),
    ("SoftwareVersion", "string", "ABA601#008", "AAM737#004", False),
    ("CountryOfOrigin", "string", "ABP462#001", "AAO259#007", False),
)
"""idShort, kind, IEC CDD code, ECLASS code, mandatory; in the template's order."""

_ADDRESS_ROWS = (
    ("Street", f"{_ECLASS}AAO128#002"),
    ("Zipcode", f"{_ECLASS}AAO129#002"),
    ("CityTown", f"{_ECLASS}AAO132#002"),
    ("NationalCode", f"{_ECLASS}AAO134#002"),
)

FACTS: tuple[str, ...] = (*(row[0] for row in _ROWS), "UniqueFacilityIdentifier", *(row[0] for row in _ADDRESS_ROWS))
"""Facts that may be stated."""


def nameplate(id: str, facts: Mapping[str, str]) -> dict[str, Any]:
    """The submodel as metamodel JSON. ``facts``: by idShort, of :data:`FACTS`. Source: IDTA 02006-3-0-1."""
    elements: list[dict[str, Any]] = []
    for name, kind, code, eclass, mandatory in _ROWS:
        value = facts.get(name)
        if name == "ManufacturerProductFamily":
            elements.append(
                collection(
                    "AddressInformation",
                    [
                        languages(part, {"en": facts[part]}, semantic)
                        for part, semantic in _ADDRESS_ROWS
                        if facts.get(part)
                    ],
                    _ADDRESS,
                )
            )
        if not value and not mandatory:
            continue
        supplemental = (_ECLASS + eclass,)
        if kind == "MLP":
            elements.append(languages(name, {"en": value} if value else {}, _IEC + code, supplemental=supplemental))
        else:
            elements.append(prop(name, value or None, _IEC + code, type=f"xs:{kind}", supplemental=supplemental))
    if facts.get("UniqueFacilityIdentifier"):
        elements.append(
            prop(
                "UniqueFacilityIdentifier",
                facts["UniqueFacilityIdentifier"],
                "https://admin-shell.io/idta/nameplate/3/0/UniqueFacilityIdentifier",
            )
        )
    return submodel(
        id, "Nameplate", elements, SEMANTIC_ID, version=("3", "0"), template="https://admin-shell.io/idta-02006-3-0"
    )
