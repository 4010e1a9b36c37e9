"""Classes, grades and quality as the standards have them; expected values are written by hand, not read from the packs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.errors import ConfigProblem
from guantong.govern.model import LEVELS, Impact, QualityInputs, SubjectFacts
from guantong.govern.pack import _TEXTS, Packs, load_packs, read_pack
from guantong.govern.quality import score_quality, wilson
from guantong.govern.rules import fuse_grades, grade, level_of, max_level

PACKS = load_packs()

# GB/T 43697-2024, 6.5: rows object; columns exceptionally serious, serious, general
MATRIX = {
    "security": ("core", "core", "important"),
    "economy": ("core", "important", "general"),
    "order": ("core", "important", "general"),
    "public": ("core", "important", "general"),
    "organisation": ("general", "general", "general"),
    "individual": ("general", "general", "general"),
}
DEGREES = ("exceptional", "serious", "general")


@pytest.mark.parametrize(
    "object, degree, expected",
    [(object, degree, cell) for object, row in MATRIX.items() for degree, cell in zip(DEGREES, row, strict=True)],
)
def test_each_of_the_eighteen_cells_of_the_matrix_gives_its_level(object, degree, expected):
    level, rules, _ = level_of([Impact(object, degree, "", "")], PACKS)

    assert level.split("-")[0] == expected
    assert any(f"matrix.{object}@" in rule for rule in rules)


@pytest.mark.parametrize(
    "degree, level",
    [("none", "general-1"), ("general", "general-2"), ("serious", "general-3"), ("exceptional", "general-4")],
)
def test_general_data_get_their_sub_grade_by_the_harm_to_the_organisation(degree, level):
    assert level_of([Impact("organisation", degree, "", "")], PACKS)[0] == level


def test_general_harm_to_the_economy_fails_high_and_is_flagged():
    level, _, flags = level_of([Impact("economy", "general", "", "")], PACKS)

    assert level == "general-4"
    assert flags == ("no-rule-found",)


@pytest.mark.parametrize(
    "name, unit, type, subclass",
    [
        ("Xload", "%", "SAMPLE", "production.state"),
        ("Sovr", "", "", "production.control"),
        ("SpindleSpeed", "rpm", "", "production.state"),
        ("execution", "", "EVENT", "production.control"),
        ("path_feedrate", "mm/min", "SAMPLE", "production.process-parameter"),
        ("主轴温度", "Cel", "", "production.state"),
        ("进给速度", "mm/min", "", "production.process-parameter"),
        ("报警", "", "", "production.system-log"),
        ("supplier_code", "", "", "management.supply-chain"),
        ("客户订单", "", "", "management.customers-products"),
        ("x17", "Cel", "", "production.state"),
        ("q99", "", "EMERGENCY_STOP", "production.control"),
    ],
)
def test_names_units_and_types_point_to_the_class_of_the_guide(name, unit, type, subclass):
    one = grade(SubjectFacts("signal:1", name, unit=unit, type=type), PACKS)

    assert one.subclass == subclass
    assert one.reasons
    assert all(PACKS.rules[reason.rule.rpartition("@")[0]] for reason in one.reasons)


def test_a_name_that_says_nothing_gets_the_default_class_and_says_so():
    one = grade(SubjectFacts("signal:1", "DB10.DBW4"), PACKS)

    assert one.flags == ("class-by-default",)
    assert one.reasons[0].part == "default"


@pytest.mark.parametrize(
    "name",
    [
        "acid_level", "scenario_code", "decoder_ring", "ACADEMIC_YEAR_CODE", "DB10.DBW4", "phase_shift", "gear_shift_pos",
        "operator_panel_mode", "I0.3", "%MW100", "Axis1.ActPos", "tt_cnt", "steward_valve", "emailer_temp", "workpiece_name",
    ],
)  # fmt: skip
def test_industrial_tags_are_not_taken_for_personal_data(name):
    assert grade(SubjectFacts("signal:1", name), PACKS).personal == ()


@pytest.mark.parametrize(
    "name, kind",
    [
        ("operator_name", "person-name"),
        ("OperatorName", "person-name"),
        ("operator", "person-name"),
        ("操作员姓名", "person-name"),
        ("badge_number", "person-id"),
        ("工号", "person-id"),
        ("Shift", "work-pattern"),
        ("班次", "work-pattern"),
    ],
)
def test_columns_that_name_people_or_shifts_are_personal_data(name, kind):
    one = grade(SubjectFacts("column:a/1", name), PACKS)

    assert kind in one.personal
    assert any(impact.object == "individual" for impact in one.impacts)
    assert one.status == "general"


def test_identity_numbers_are_recognised_by_their_check_digit_and_never_kept():
    # the example number of GB 11643-1999 itself, and the same with a wrong check digit
    right, wrong = "11010519491231002X", "110105194912310021"

    found = grade(SubjectFacts("column:a/1", "v1", samples=(right,)), PACKS)
    other = grade(SubjectFacts("column:a/1", "v1", samples=(wrong,)), PACKS)

    assert found.personal == ("identity-number",)
    assert found.level == "general-3"
    assert right not in repr(found)
    assert other.personal == ()


@pytest.mark.parametrize(
    "samples, note",
    [(("1M8GDM9AXKP042788",), "vehicle-number"), (("91350100M000100Y43",), "organisation-number")],
)
def test_vehicle_and_organisation_numbers_are_noted_but_not_personal(samples, note):
    one = grade(SubjectFacts("column:a/1", "v1", samples=samples), PACKS)

    assert note in one.flags
    assert one.personal == ()


def test_a_counter_of_sixteen_digits_is_not_a_bank_card():
    counter = tuple(str(10**15 + step) for step in range(100))

    assert grade(SubjectFacts("signal:1", "part_count", samples=counter), PACKS).personal == ()


def test_the_scale_of_a_sector_makes_data_suspected_and_never_determined():
    year = 366 * 86_400.0
    one = grade(SubjectFacts("signal:1", "Xload", machines=1000, span_s=year), PACKS)
    small = grade(SubjectFacts("signal:1", "Xload", machines=3, span_s=year), PACKS)
    unknown = grade(SubjectFacts("signal:1", "Xload"), PACKS)

    assert (one.level, one.status, one.enforce) == ("important", "suspected", "important")
    assert "suspected-apply-to-the-authority" in one.flags
    assert not one.legally_determined
    assert small.level == unknown.level == "general-2"
    assert "machines" not in unknown.elements


def test_core_is_suspected_and_enforced_as_important():
    member = grade(SubjectFacts("signal:1", "Xload", machines=1000, span_s=4e7), PACKS)
    severe = member.__class__(
        **{
            **{name: getattr(member, name) for name in member.__dataclass_fields__},
            "level": "core",
            "impacts": (Impact("security", "serious", "", "gbt-43697/matrix.security@2024.1"),),
        }
    )
    fused = fuse_grades("dataset:x", [severe], PACKS)

    assert (fused.level, fused.status, fused.enforce) == ("core", "suspected", "important")


def test_every_grade_names_the_rules_that_nobody_has_verified():
    one = grade(SubjectFacts("signal:1", "Xload", unit="%"), PACKS)

    assert one.unverified
    assert set(one.unverified) == {ref for ref in one.rules if not PACKS.rules[ref.rpartition("@")[0]].verified_by}


def test_states_and_statistics_together_rise_above_both():
    state = grade(SubjectFacts("signal:1", "Xload"), PACKS)
    statistics = grade(SubjectFacts("signal:2", "oee"), PACKS)
    fused = fuse_grades("dataset:x", [state, statistics], PACKS, elements={"rows": 10})

    assert fused.level == "general-4"
    assert LEVELS.index(fused.level) > max(LEVELS.index(state.level), LEVELS.index(statistics.level))
    assert any("combine.capacity" in rule for rule in fused.rules)


NAMES = st.sampled_from(["Xload", "oee", "program", "recipe", "operator_name", "customer", "alarm", "drawing", "zzz"])
SUBJECTS = st.builds(
    SubjectFacts,
    id=st.integers(0, 999).map(lambda n: f"signal:{n}"),
    name=NAMES,
    rate_hz=st.none() | st.floats(0.01, 5000),
    machines=st.none() | st.integers(1, 5000),
    span_s=st.none() | st.floats(1, 1e8),
)


@given(st.lists(SUBJECTS, min_size=1, max_size=6), SUBJECTS)
def test_a_fusion_is_never_below_its_inputs_and_grows_with_each(subjects, another):
    members = [grade(one, PACKS) for one in subjects]
    whole = fuse_grades("dataset:x", members, PACKS)
    more = fuse_grades("dataset:x", [*members, grade(another, PACKS)], PACKS)

    assert LEVELS.index(whole.level) >= LEVELS.index(max_level(one.level for one in members))
    assert LEVELS.index(more.level) >= LEVELS.index(whole.level)
    for one in (*members, whole, more):
        assert (one.level in ("important", "core")) == (one.status == "suspected")
        assert one.enforce != "core"


@given(
    st.permutations(
        [grade(SubjectFacts(f"signal:{n}", name), PACKS) for n, name in enumerate(["Xload", "oee", "program"])]
    )
)
def test_the_order_of_columns_does_not_change_a_tables_level(members):
    assert fuse_grades("dataset:x", members, PACKS).level == "general-4"


def test_every_rule_has_both_languages_and_source():
    for rule in PACKS.rules.values():
        assert rule.text_en
        assert rule.text_zh
        assert any("\u4e00" <= character <= "\u9fff" for character in rule.text_zh)
        assert rule.source
        assert rule.version


def test_a_pack_may_ask_for_sm3_digests_in_the_evidence_log_and_for_no_other():
    row = '[[rule]]\nid = "a"\nthen = { digest = "%s" }\n'
    texts = "".join(f'{name} = ""\n' for name in _TEXTS if name not in ("id", "evidence"))
    asked = read_pack("mine", f'[defaults]\n{texts}evidence = "inference"\n' + row % "sm3")

    assert Packs({"mine/a": asked[0]}).digests() == {"sm3"}
    assert PACKS.digests() == frozenset(), "no shipped pack asks for it"
    with pytest.raises(ConfigProblem):
        read_pack("mine", f'[defaults]\n{texts}evidence = "inference"\n' + row % "md5")


def test_a_pack_without_an_evidence_mark_is_refused():
    with pytest.raises(ConfigProblem) as caught:
        read_pack("mine", '[[rule]]\nid = "a"\n')

    assert caught.value.code == "govern.pack-broken"


# quality


def test_the_wilson_interval_equals_published_figures():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263, 15/148, 0/20, 1/29
    for hits, of, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        found = wilson(hits, of)
        assert found == pytest.approx((low, high), abs=5e-5)


def test_quality_counts_only_what_was_measured():
    inputs = QualityInputs(
        0, 10, rows=100, received=110, duplicates=10, quarantined=0, gaps=10, good=90, status_rows=100
    )
    one = score_quality("mill", inputs, PACKS)
    checks = {check.id: check for check in one.checks}

    # completeness 110/120; accuracy mean of 0.9, 100/110, 1; weights 0.25 each of 1.0 in all
    accuracy = (0.9 + 100 / 110 + 1.0) / 3
    assert one.q == pytest.approx((110 / 120 + accuracy) / 2)
    assert one.coverage == pytest.approx(0.5)
    assert one.dimensions["timeliness"] is None
    assert checks["timeliness.order"].score is None
    assert checks["timeliness.order"].unmeasured == "no figure for ordered"
    assert (checks["accuracy.good"].numerator, checks["accuracy.good"].denominator) == (90, 100)
    assert not one.capped


def test_a_failed_critical_check_caps_the_total():
    one = score_quality(
        "mill", QualityInputs(0, 10, rows=100, good=10, status_rows=100, signals=5, signals_with_unit=5), PACKS
    )

    assert one.capped
    assert one.q is not None
    assert one.q <= 0.5


def test_nothing_measured_gives_no_score():
    one = score_quality("mill", QualityInputs(0, 10, rows=0), PACKS)

    assert one.q is None
    assert one.coverage == 0.0


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_the_interval_holds_the_share(hits, of):
    hits = min(hits, of)
    low, high = wilson(hits, of)

    assert 0.0 <= low <= hits / of <= high <= 1.0
