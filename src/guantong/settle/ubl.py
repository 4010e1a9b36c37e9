"""Invoices and credit notes as UBL 2.1 documents by the semantic model of EN 16931, from the very document that both sides signed.

EN 16931-1:2017 knows one tax, with a category and rate on each line, whose amount is computed once for each of them: an invoice with more
than one tax can't be written so and is refused by name. A minimum that raised the subtotal is a charge on the whole document, a cap or
discounts that lowered it are allowances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

from guantong.base.errors import Refused

if TYPE_CHECKING:
    from lxml.etree import _Element

__all__ = ["Party", "ubl"]

_CAC = "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
_CBC = "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2"
_ROOT = "urn:oasis:names:specification:ubl:schema:xsd:{}-2"
_UNITS = {"byte": "AD", "hour": "HUR", "machine-hour": "HUR", "month": "MON"}
"""UN/ECE Recommendation 20 codes; what else is counted is C62, one."""
_NAMES = {
    "agreement": "Flat fee", "byte": "Bytes delivered", "call": "Deliveries", "figure": "Figures with proof", "hour": "Hours of delivery",
    "machine-hour": "Machine hours", "month": "Subscription, months", "opening": "Chunks opened", "part": "Parts", "reading": "Readings",
    "revenue": "Share of revenue", "row": "Rows of data", "transfer": "Transfers",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Party:
    """A company as papers name it."""

    name: str
    country: str = "CN"
    """ISO 3166-1 alpha-2."""
    registration: str = ""
    """Company number: in China the unified social credit code (统一社会信用代码)."""
    tax_number: str = ""
    """VAT number; in China the same code."""
    address: str = ""
    city: str = ""
    zip: str = ""


def ubl(
    document: Mapping[str, Any], provider: Party, consumer: Party, *, reference: str = "", fapiao: str = ""
) -> bytes:
    """The UBL 2.1 bytes of an invoice or credit note. reference: the buyer's, where it gave one. fapiao: number of the tax invoice.

    Raises Refused ``settle.paper-impossible``.
    """
    from lxml import etree

    note = document["type"] == "credit-note"
    taxes = document["taxes"]
    if len(taxes) > 1:
        raise Refused(
            "settle.paper-impossible",
            number=document["number"],
            reason=f"EN 16931 knows one tax, this has {len(taxes)}",
        )
    if taxes and not provider.tax_number:
        raise Refused(
            "settle.paper-impossible", number=document["number"], reason="the provider's tax number is missing"
        )
    kind = "CreditNote" if note else "Invoice"
    root = etree.Element(
        f"{{{_ROOT.format(kind)}}}{kind}",
        nsmap={None: _ROOT.format(kind), "cac": _CAC, "cbc": _CBC},
    )
    write = _Writer(document)
    write.text(root, "CustomizationID", "urn:cen.eu:en16931:2017")
    write.text(root, "ProfileID", "urn:guantong:settle:invoice:1")
    write.text(root, "ID", document["number"] or "–")
    write.text(root, "IssueDate", str(document["issuedAt"])[:10])
    write.text(root, f"{kind}TypeCode", "381" if note else "380")
    if fapiao:
        write.text(root, "Note", f"发票 {fapiao}")
    write.text(root, "DocumentCurrencyCode", document["currency"])
    write.text(root, "BuyerReference", reference or document["agreementId"])
    period = document.get("period")
    if period:
        place = write.node(root, "InvoicePeriod")
        write.text(place, "StartDate", period["from"][:10])
        write.text(place, "EndDate", period["to"][:10])
    before = document.get("invoice") if note else document.get("replaces")
    if before:
        write.text(write.node(write.node(root, "BillingReference"), "InvoiceDocumentReference"), "ID", before)
    write.text(write.node(root, "ContractDocumentReference"), "ID", document["agreementId"])
    write.party(root, "AccountingSupplierParty", provider)
    write.party(root, "AccountingCustomerParty", consumer)
    write.terms(root)
    lines = write.lines(note=note)
    changes = write.changes()
    for charge, amount, reason in changes:
        place = write.node(root, "AllowanceCharge")
        write.text(place, "ChargeIndicator", "true" if charge else "false")
        write.text(place, "AllowanceChargeReason", reason)
        write.amount(place, "Amount", amount)
        write.category(place, "TaxCategory")
    total = write.node(root, "TaxTotal")
    tax = Decimal(taxes[0]["amount"]) if taxes else Decimal(0)
    write.amount(total, "TaxAmount", tax)
    part = write.node(total, "TaxSubtotal")
    write.amount(part, "TaxableAmount", Decimal(document["subtotal"]))
    write.amount(part, "TaxAmount", tax)
    write.category(part, "TaxCategory", reason=True)
    sums = write.node(root, "LegalMonetaryTotal")
    write.amount(sums, "LineExtensionAmount", sum((amount for _, _, amount, _, _ in lines), Decimal(0)))
    write.amount(sums, "TaxExclusiveAmount", Decimal(document["subtotal"]))
    write.amount(sums, "TaxInclusiveAmount", Decimal(document["total"]))
    less = sum((amount for charge, amount, _ in changes if not charge), Decimal(0))
    more = sum((amount for charge, amount, _ in changes if charge), Decimal(0))
    if less:
        write.amount(sums, "AllowanceTotalAmount", less)
    if more:
        write.amount(sums, "ChargeTotalAmount", more)
    write.amount(sums, "PayableAmount", Decimal(document["total"]))
    for number, (name, quantity, amount, price, unit) in enumerate(lines, 1):
        line = write.node(root, f"{kind}Line")
        write.text(line, "ID", str(number))
        write.text(line, "CreditedQuantity" if note else "InvoicedQuantity", _plain(quantity), unitCode=unit)
        write.amount(line, "LineExtensionAmount", amount)
        item = write.node(line, "Item")
        write.text(item, "Name", name)
        write.category(item, "ClassifiedTaxCategory")
        write.text(write.node(line, "Price"), "PriceAmount", _plain(price), currencyID=document["currency"])
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True))


class _Writer:
    """Puts elements of the two namespaces in, with the document's currency and tax."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.places = len(str(document["total"]).partition(".")[2])
        taxes = document["taxes"]
        # no rate is no tax at all here (category O), a rate of nothing is zero-rated
        self.rate = Decimal(taxes[0]["rate"]) * 100 if taxes else None
        self.code = "O" if self.rate is None else "S" if self.rate else "Z"
        self.tax_name = str(taxes[0]["name"]) if taxes else ""

    def node(self, above: _Element, name: str) -> _Element:
        from lxml import etree

        return etree.SubElement(above, f"{{{_CAC}}}{name}")

    def text(self, above: _Element, name: str, text: str, **attributes: str) -> None:
        from lxml import etree

        etree.SubElement(above, f"{{{_CBC}}}{name}", attributes).text = _fit(text)

    def amount(self, above: _Element, name: str, amount: Decimal) -> None:
        self.text(above, name, f"{amount:.{self.places}f}", currencyID=str(self.document["currency"]))

    def category(self, above: _Element, name: str, *, reason: bool = False) -> None:
        place = self.node(above, name)
        self.text(place, "ID", self.code)
        if self.rate is not None:
            self.text(place, "Percent", _plain(self.rate))
        elif reason:
            self.text(place, "TaxExemptionReason", "Not subject to VAT")
        self.text(self.node(place, "TaxScheme"), "ID", "VAT")

    def party(self, root: _Element, name: str, party: Party) -> None:
        place = self.node(self.node(root, name), "Party")
        self.text(self.node(place, "PartyName"), "Name", party.name)
        address = self.node(place, "PostalAddress")
        for element, value in (("StreetName", party.address), ("CityName", party.city), ("PostalZone", party.zip)):
            if value:
                self.text(address, element, value)
        self.text(self.node(address, "Country"), "IdentificationCode", party.country)
        if party.tax_number and self.rate is not None:
            scheme = self.node(place, "PartyTaxScheme")
            number = party.tax_number
            # EN 16931, BR-CO-09: the number begins with the country
            self.text(scheme, "CompanyID", number if number[:2] == party.country else party.country + number)
            self.text(self.node(scheme, "TaxScheme"), "ID", "VAT")
        entity = self.node(place, "PartyLegalEntity")
        self.text(entity, "RegistrationName", party.name)
        if party.registration:
            self.text(entity, "CompanyID", party.registration)

    def terms(self, root: _Element) -> None:
        if self.document["type"] == "invoice":
            self.text(self.node(root, "PaymentTerms"), "Note", "As agreed in the contract")

    def lines(self, *, note: bool) -> list[tuple[str, Decimal, Decimal, Decimal, str]]:
        """(name, quantity, amount, price of one, unit code)"""
        found = []
        for line in self.document["lines"]:
            amount = Decimal(line["amount"])
            quantity = Decimal(line["quantity"] if note else line["billable"])
            price = Decimal(line.get("price", "0"))
            unit = _UNITS.get(line["per"], "C62")
            exact = (quantity * price).quantize(Decimal(1).scaleb(-self.places), ROUND_HALF_UP)
            if not quantity or exact != amount or len(_plain(quantity).partition(".")[2]) > 10:
                # tiers, or counts that have no short decimal: the line stands as one
                quantity, price, unit = Decimal(1), amount, "C62"
            found.append((_NAMES[line["per"]], quantity, amount, price, unit))
        if not found or (note and not sum((one[2] for one in found), Decimal(0))):
            amount = Decimal(self.document["subtotal"])
            name = "Service level not reached" if self.document.get("reason") == "service-level" else "Adjustment"
            return [(name, Decimal(1), amount, amount, "C62")]
        return found

    def changes(self) -> list[tuple[bool, Decimal, str]]:
        """What stands between the lines and the subtotal: (whether it adds, amount, reason)."""
        if not self.document["lines"]:
            return []
        found = [
            (False, Decimal(one["amount"]), f"{one['name']}: {one['reason']}")
            for one in self.document.get("discounts", ())
        ]
        lines = sum((Decimal(one["amount"]) for one in self.document["lines"]), Decimal(0))
        if not lines and self.document["type"] == "credit-note":
            return []
        rest = Decimal(self.document["subtotal"]) - lines + sum((amount for _, amount, _ in found), Decimal(0))
        if rest > 0:
            found.append((True, rest, "Minimum of the contract"))
        elif rest < 0:
            found.append(
                (False, -rest, "Cap of the contract" if self.document.get("adjusted") == "cap" else "Adjustment")
            )
        return [one for one in found if one[1]]


def _plain(value: Decimal) -> str:
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def _fit(text: str) -> str:
    """Text that XML can hold: without control characters."""
    return "".join(letter for letter in text if letter in "\t\n" or ord(letter) >= 32)
