"""Company identifiers: the published samples pass, and a slip of the pen does not."""

from __future__ import annotations

import pytest

from guantong.base.errors import Skippable
from guantong.base.identifiers import is_bpn, is_did, is_lei, is_uscc, normal
from guantong.settle.model import SettleSettings

USCC = ["914403001922038216", "91330100799655058B", "9144030071526726XG"]
LEI = [
    "5493001KJTIIGC8Y1R12",
    "529900T8BM49AURSDO55",
    "HWUPKR0MPOU8FGXBT394",
]  # published by their holders and the register


@pytest.mark.parametrize("code", USCC)
def test_a_real_credit_code_passes_and_no_single_slip_does(code: str) -> None:
    assert is_uscc(code)
    for place in range(18):
        for char in "0123456789ABCDEFGHJKLMNPQRTUWXY":
            if char != code[place]:
                assert not is_uscc(code[:place] + char + code[place + 1 :]), (place, char)
    for place in range(17):
        swapped = code[:place] + code[place + 1] + code[place] + code[place + 2 :]
        assert swapped == code or not is_uscc(swapped)


@pytest.mark.parametrize(
    "code", ["", "91440300192203821", "9144030019220382160", "91440300192203821６", "I14403001922038216"]
)
def test_what_has_another_form_is_no_credit_code(code: str) -> None:
    assert not is_uscc(code)


@pytest.mark.parametrize("code", LEI)
def test_a_real_lei_passes_and_one_with_a_slip_does_not(code: str) -> None:
    assert is_lei(code)
    assert not is_lei(code[:5] + ("0" if code[5] != "0" else "1") + code[6:])
    assert not is_lei(code[:-1])


def test_partner_numbers_and_dids_are_checked_by_their_form() -> None:
    assert is_bpn("BPNL00000003AYRE")
    assert not is_bpn("BPNX00000003AYRE")
    assert is_did("did:web:supplier.example%3A8443:guests:7")
    assert not any(is_did(text) for text in ("did:web:", "did:WEB:x", "did:web:a b", "http://x", "did:web:x%3a1"))


def test_identifiers_are_written_one_way_and_a_wrong_one_is_named() -> None:
    assert normal("uscc", " 91330100799655058b ") == "91330100799655058B"
    with pytest.raises(Skippable) as caught:
        normal("lei", "5493001KJTIIGC8Y1R13")
    assert caught.value.code == "base.identifier-wrong"


@pytest.mark.parametrize(
    ("country", "registration", "tax_number", "kind"),
    [
        ("CN", "91330100799655058B", "91330100799655058B", None),
        ("CN", " 91330100799655058b ", "", None),
        ("CN", "91330100799655058C", "", "USCC"),
        ("CN", "", "91330100799655058C", "USCC"),
        ("CN", "", "330102198001010015", None),  # made of an identity card's number, not a USCC
        ("DE", "HRB 86891", "DE129274202", None),
        ("DE", "5493001KJTIIGC8Y1R12", "", None),
        ("DE", "5493001KJTIIGC8Y1R13", "", "LEI"),
        ("DE", "BPNL0000000000", "", "BPN"),
        ("China", "", "", "ISO 3166-1 alpha-2"),
    ],
)
def test_a_companys_own_particulars_are_checked_where_they_have_a_known_shape(
    country: str, registration: str, tax_number: str, kind: str | None
) -> None:
    if kind is None:
        SettleSettings(country=country, registration=registration, tax_number=tax_number)
        return
    with pytest.raises(Skippable) as error:
        SettleSettings(country=country, registration=registration, tax_number=tax_number)
    assert (error.value.code, error.value.facts["kind"]) == ("base.identifier-wrong", kind)
