"""How figures look, and how they become shapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.web.drawing import curve_lines, tolerance
from guantong.web.shown import compact, duration, number, percent, significant, size, unit


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (number(1234567), "1,234,567"),
        (number(-0.031, 3), "−0.031"),
        (number(0.031, 3, sign=True), "+0.031"),
        (number("12345.670"), "12,345.670"),
        (number(None), "–"),
        (significant("3.3333333333333333333"), "3.33333"),
        (significant("0.00000000033333333333333333"), "3.33333 × 10⁻¹⁰"),
        (significant("500.00"), "500.00"),
        (compact(1_280_000, "en"), "1.28 M"),
        (compact(1_280_000, "zh-CN"), "128 万"),
        (compact(2_300_000_000, "zh-CN"), "23 亿"),
        (compact(855, "en"), "855"),
        (percent(0.982), "98.2 %"),
        (size(265_216), "259 KiB"),
        (duration(0.0463, "en"), "46.3 ms"),
        (duration(0.0463, "zh-CN"), "46.3 毫秒"),
        (duration(37, "zh-CN"), "37 秒"),
        (duration(11_400, "en"), "3 h 10 min"),
        (duration(11_400, "zh-CN"), "3 小时 10 分"),
    ],
)
def test_figures_follow_the_language_and_units_never_change(shown: str, text: str) -> None:
    assert shown == text


def test_what_was_not_measured_is_a_dash_and_never_zero() -> None:
    assert {
        number(None),
        number(float("nan")),
        percent(None),
        size(None),
        duration(None, "en"),
        compact(None, "en"),
    } == {"–"}


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_a_decimal_keeps_every_digit(value: object) -> None:
    assert number(str(value)).replace(",", "").replace("−", "-") == str(value)


def test_a_gap_breaks_the_line_and_is_drawn() -> None:
    points = [[float(at), 1.0, 0.5, 1.5, 3] for at in range(10)] + [[10.0, None, None, None, 0]]
    points += [[float(at), 2.0, 2.0, 2.0, 1] for at in range(20, 30)]
    drawn = curve_lines({"points": points, "gaps": [{"start": 10.0, "end": 19.0, "count": 9, "reason": "cut"}]})

    assert len(drawn["lines"]) == 2
    assert len(drawn["bands"]) == 1
    assert drawn["gaps"][0]["count"] == 9
    assert (drawn["low"], drawn["high"]) == (0.5, 2.0)


def test_a_measurement_stands_within_its_tolerance_bar_where_it_is() -> None:
    side = {"lower": 10.0, "upper": 11.0, "nominal": 10.5, "value": 10.5}
    bar = tolerance({"left": side, "right": {**side, "value": 99.0}})

    assert bar is not None
    assert bar["left"] == bar["nominal"] == 72.0
    assert bar["right"] == 139.0
    assert tolerance({"left": {**side, "lower": None, "upper": None}, "right": None}) is None


def test_one_limit_alone_is_a_tolerance_too() -> None:
    flatness = tolerance({"left": {"lower": None, "upper": 0.05, "nominal": None, "value": 0.025}, "right": None})
    size = tolerance({"left": {"lower": None, "upper": 11.0, "nominal": 10.5, "value": 10.5}, "right": None})

    assert flatness is not None
    assert (flatness["words"], flatness["left"]) == ("≤ 0.05", 72.0)
    assert size is not None
    assert (size["words"], size["left"], size["nominal"]) == ("≤ 11", 72.0, 72.0)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("Cel", "°C"),
        ("kW.h", "kWh"),
        ("{rev}/min", "rev/min"),
        ("[psi]", "psi"),
        ("um", "µm"),
        ("mm/s", "mm/s"),
        ("N.m", "N·m"),
        ("1", ""),
        ("", ""),
        ("件", "件"),
    ],
)
def test_a_unit_code_reads_as_people_write_the_unit(code: str, words: str) -> None:
    assert unit(code) == words


@given(st.binary(max_size=400), st.text(max_size=50))
def test_a_form_gives_back_what_was_put_in(file: bytes, words: str) -> None:
    from urllib.parse import urlencode

    from guantong.web.forms import form_fields

    text = words.encode("utf-8", "ignore").decode()
    assert form_fields("application/x-www-form-urlencoded", urlencode({"a": text, "b": ""}).encode()) == [
        ("a", text),
        ("b", ""),
    ]
    body = b'--q7\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n' + file
    body += b'\r\n--q7\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + text.encode() + b"\r\n--q7--\r\n"
    if b"\r\n--q7" not in file + text.encode():
        assert form_fields("multipart/form-data; boundary=q7", body) == [("f", file), ("a", text)]
