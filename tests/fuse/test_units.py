"""Units: names to UCUM codes, conversion, and what is kept apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guantong.base.errors import Skippable
from guantong.base.units import (
    absolute_pressure,
    canonical,
    compatible,
    convert,
    find_unit,
    refer,
    unece_code,
    unit_of,
)


@pytest.mark.parametrize(
    "written, code",
    [
        ("MILLIMETER", "mm"),
        ("MILLIMETER_3D", "mm"),
        ("REVOLUTION/MINUTE", "{rev}/min"),
        ("PERCENT", "%"),
        ("CELSIUS", "Cel"),
        ("KILOWATT_HOUR", "kW.h"),
        ("MILLIMETER/SECOND^2", "mm/s2"),
        ("VOLT_AMPERE_REACTIVE", "var"),
        ("DECIBEL", "dB"),
        ("5066068", "mm"),  # OPC UA unitId: the characters MMT as one number
        ("4408652", "Cel"),
        ("4937556", "kW"),
        ("4937544", "kW.h"),
        ("UNECE:KWH", "kW.h"),
        ("0112/2///62720#UAA862", "mm"),
        ("°C", "Cel"),
        ("kWh", "kW.h"),
        ("l/min", "L/min"),
        ("m³/h", "m3/h"),
        ("rpm", "{rev}/min"),
        ("rev/min", "{rev}/min"),
        ("mm/s", "mm/s"),
        ("bar(g)", "bar{gauge}"),
        ("psi", "[psi]"),
        ("Nm3/h", "m3/h{normal}"),
        ("degree", "deg"),
        ("毫米", "mm"),
        ("", ""),
    ],
)
def test_a_unit_is_known_however_it_is_written(written: str, code: str) -> None:
    assert canonical(written) == code


@pytest.mark.parametrize(
    "value, source, target, expected",
    [
        # expected values from outside: NIST SP 811, appendix B, and the definitions of the units
        (1.0, "bar", "[psi]", 14.503773773),
        (100.0, "Cel", "[degF]", 212.0),
        (-40.0, "[degF]", "Cel", -40.0),
        (0.0, "Cel", "K", 273.15),
        (10.0, "Cel{difference}", "[degF]{difference}", 18.0),
        (1.0, "kW.h", "MJ", 3.6),
        (1.0, "[in_i]", "mm", 25.4),
        (60.0, "{rev}/min", "{rev}/s", 1.0),
        (1.0, "m3/h", "L/min", 16.666666667),
        (1.0, "[HP]", "W", 745.6999),
        (180.0, "deg", "rad", 3.14159265359),
    ],
)
def test_values_are_converted(value: float, source: str, target: str, expected: float) -> None:
    assert convert(value, source, target) == pytest.approx(expected, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize(
    "one, other",
    [
        ("bar", "bar{gauge}"),
        ("Cel", "Cel{difference}"),
        ("m3/h", "m3/h{normal}"),
        ("N.m", "J"),
        ("Hz", "{rev}/min"),
        ("W", "var"),
        ("W", "V.A"),
        ("mm", "s"),
        ("dB", "%"),
    ],
)
def test_what_measures_different_things_is_not_converted(one: str, other: str) -> None:
    assert not compatible(one, other)
    with pytest.raises(Skippable) as caught:
        convert(1.0, one, other)
    assert caught.value.code == "base.unit-mismatch"
    assert one in caught.value.message()
    assert other in caught.value.message("zh")


def test_an_unknown_unit_is_a_named_error() -> None:
    with pytest.raises(Skippable) as caught:
        canonical("furlongs per fortnight")
    assert caught.value.code == "base.unit-unknown"
    assert "furlongs" in caught.value.message()


def test_a_number_that_is_no_unit_id_is_refused() -> None:
    for text in ("999999999999", "1", "4294967295"):
        with pytest.raises(Skippable):
            canonical(text)


def test_arrays_keep_their_shape_and_a_same_unit_changes_nothing() -> None:
    values = np.array([1.0, 2.0, np.nan])

    assert convert(values, "bar", "bar") is values
    assert convert(values, "bar", "kPa")[:2].tolist() == [100.0, 200.0]


def test_codes_of_other_registries_lead_back() -> None:
    assert unece_code("mm") == "MMT"
    assert unit_of("mm").iec61360 == ("0112/2///62720#UAA862",)


FAMILIES = [
    ("Pa", "kPa", "MPa", "bar", "[psi]"),
    ("Cel", "K", "[degF]"),
    ("W", "kW", "[HP]"),
    ("mm", "m", "[in_i]", "[ft_i]"),
    ("L/min", "m3/h", "L/s"),
]


@settings(deadline=None)
@given(st.sampled_from(FAMILIES), st.data(), st.floats(-1e6, 1e6))
def test_there_and_back_is_the_same_value(family: tuple[str, ...], data: st.DataObject, value: float) -> None:
    one, other = data.draw(st.sampled_from(family)), data.draw(st.sampled_from(family))

    assert convert(convert(value, one, other), other, one) == pytest.approx(value, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("bar", "bar{gauge}"),
        ("m3{normal}", "m3"),
        ("m3{normal}", "m3{standard15}"),
        ("m3/h{standard20}", "m3/h{standard15}"),
        ("K", "K{difference}"),
        ("bar", "mm"),
    ],
)
def test_an_impossible_conversion_names_both_codes(source, target):
    with pytest.raises(Skippable) as caught:
        convert(1.0, source, target)

    assert caught.value.code == "base.unit-mismatch"
    assert source in caught.value.message()
    assert target in caught.value.message()


@pytest.mark.parametrize("code", ["mm{gauge}", "bar{normal}", "bar{difference}", "Cel{standard15}", "m3{gauge}"])
def test_an_annotation_stands_only_behind_what_it_can_say_something_about(code):
    assert find_unit(code) is None


def test_gauge_pressure_becomes_absolute_only_with_the_pressure_of_the_air():
    assert absolute_pressure(6.0, "bar{gauge}", "kPa", atmosphere_pa=98_700) == pytest.approx(698.7)
    assert absolute_pressure(698.7, "kPa", "bar{gauge}", atmosphere_pa=98_700) == pytest.approx(6.0)
    for source, target in (("bar", "kPa"), ("bar{gauge}", "kPa{gauge}"), ("bar{gauge}", "mm")):
        with pytest.raises(Skippable):
            absolute_pressure(1.0, source, target, atmosphere_pa=101_325)


def test_a_gas_is_referred_from_one_condition_to_another_by_temperature_and_pressure():
    # ISO 13443, annex: a cubic metre at 0 degrees takes 1.0549 cubic metres at 15 degrees
    assert refer(1.0, "m3{normal}", "m3{standard15}") == pytest.approx(288.15 / 273.15)
    assert refer(60.0, "m3/h{standard20}", "L/min{normal}") == pytest.approx(1000 * 273.15 / 293.15)
    # one standard cubic foot (60 degrees Fahrenheit, 14.696 psi) is 0.02679 normal cubic metres
    assert refer(1.0, "[ft_i]3{standard60F}", "m3{normal}") == pytest.approx(0.02679, rel=1e-3)
    for source, target in (("m3", "m3{normal}"), ("m3{normal}", "m3/h{normal}"), ("bar{gauge}", "bar{gauge}")):
        with pytest.raises(Skippable):
            refer(1.0, source, target)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("scfm", "[ft_i]3/min{standard60F}"),
        ("Sm3/h", "m3/h{standard15}"),
        ("Nl/min", "L/min{normal}"),
        ("标立方米", "m3{normal}"),
    ],
)
def test_common_spellings_of_gas_volumes_name_their_condition(text, code):
    assert canonical(text) == code
    assert find_unit(code) is not None
