"""Identifiers of companies, checked before anybody relies on them: 统一社会信用代码 (USCC), LEI, BPN, DID. Pure.

A check digit shows a slip of the pen, never that the company exists or that somebody speaks for it; that takes a credential.
"""

from __future__ import annotations

import re

from guantong.base.errors import Skippable

__all__ = ["check_particulars", "is_bpn", "is_did", "is_lei", "is_uscc", "normal"]

_USCC = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""GB 32100-2015, 4.2: 31 characters, no I, O, S, V and Z."""
_USCC_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)
_DID = re.compile(r"did:[a-z0-9]+:(?:[A-Za-z0-9._-]|%[0-9A-F]{2})+(?::(?:[A-Za-z0-9._-]|%[0-9A-F]{2})+)*", re.ASCII)


def is_uscc(text: str) -> bool:
    """Whether 18 characters are a unified social credit code whose two check characters are right.

    Source: GB 32100-2015 (check character 18, weights 3^(i-1) mod 31) and GB 11714 (organisation code in characters 9 to 17, its own check
    character last).
    """
    if len(text) != 18 or any(char not in _USCC for char in text):
        return False
    total = sum(_USCC.index(char) * weight for char, weight in zip(text, _USCC_WEIGHTS, strict=False))
    if _USCC[(31 - total % 31) % 31] != text[17]:
        return False
    code = text[8:17]
    rest = 11 - sum(int(char, 36) * weight for char, weight in zip(code, _ORGANISATION_WEIGHTS, strict=False)) % 11
    return code[8] == {10: "X", 11: "0"}.get(rest, str(rest))


def is_lei(text: str) -> bool:
    """Whether 20 characters are a legal entity identifier (ISO 17442) whose check digits are right (ISO 7064, MOD 97-10)."""
    if not re.fullmatch(r"[A-Z0-9]{18}[0-9]{2}", text, re.ASCII):
        return False
    return int("".join(str(int(char, 36)) for char in text)) % 97 == 1


def is_bpn(text: str) -> bool:
    """Whether it has the form of a Catena-X business partner number: BPN, L, S or A, and twelve characters. Its checksum is not checked:
    no public text says how it is made.
    """
    return re.fullmatch(r"BPN[LSA][0-9A-Z]{12}", text, re.ASCII) is not None


def is_did(text: str) -> bool:
    """Whether it has the form of a DID (W3C DID Core 1.0, 3.1)."""
    return len(text) <= 2048 and _DID.fullmatch(text) is not None


_KINDS = {"uscc": is_uscc, "lei": is_lei, "bpn": is_bpn, "did": is_did}


def normal(kind: str, text: str) -> str:
    """The identifier as it is written: without blanks around, in capitals but for a DID. Raises Skippable ``base.identifier-wrong``.

    kind: ``uscc``, ``lei``, ``bpn`` or ``did``.
    """
    given = text.strip()
    found = given if kind == "did" else given.upper()
    if not _KINDS[kind](found):
        raise Skippable("base.identifier-wrong", kind=kind.upper(), text=given[:80])
    return found


def check_particulars(country: str, registration: str, tax_number: str) -> None:
    """What a company says of itself, where it has the shape of an identifier that can be checked. Raises Skippable
    ``base.identifier-wrong``.

    A registration number of 18 characters in China is a USCC, one of 20 an LEI, one that begins with BPN a business partner number. A Chinese
    tax number of 18 characters that begins with 9 is the USCC; other tax numbers (a sole trader's is made of the identity card's) pass.
    """
    if not re.fullmatch(r"[A-Z]{2}", country, re.ASCII):
        raise Skippable("base.identifier-wrong", kind="ISO 3166-1 alpha-2", text=country[:80])
    number = registration.strip().upper()
    if number.startswith("BPN"):
        normal("bpn", number)
    elif len(number) == 20 and number.isalnum():
        normal("lei", number)
    elif country == "CN" and len(number) == 18 and number.isalnum():
        normal("uscc", number)
    tax = tax_number.strip().upper()
    if country == "CN" and len(tax) == 18 and tax.startswith("9"):
        normal("uscc", tax)
