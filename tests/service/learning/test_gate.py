"""The promotion gate, of evidence that is given."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import Estimate, PairedErrors, PairedHits
from service.learning.gate import GateDecision, GateEvidence, GatePolicy, Outcome, SetEvidence, decide

BETTER = PairedHits(80, 900, 20)
WORSE = PairedHits(20, 900, 80)
EQUAL = PairedHits(20, 960, 20)
POLICY = GatePolicy(max_latency_ratio=None, max_size_ratio=None)


def on_test(overall: PairedHits, **more: Any) -> GateEvidence:
    return GateEvidence({"test": SetEvidence(overall, **more)})


def outcome(overall: PairedHits, policy: GatePolicy = POLICY, **more: Any) -> Outcome:
    return decide(policy, on_test(overall, **more)).outcome


def texts(decision: GateDecision, wanted: Outcome) -> list[str]:
    return [reason.text for reason in decision.reasons if reason.outcome == wanted]


# The figure


def test_a_superior_challenger_is_one_that_is_shown_to_be_better() -> None:
    assert outcome(BETTER) == "pass"
    assert outcome(WORSE) == "fail"
    assert outcome(EQUAL) == "inconclusive"


def test_a_non_inferior_challenger_may_be_equal_but_not_worse_by_the_margin() -> None:
    policy = replace(POLICY, rule="non_inferior", margin=0.02)
    assert outcome(EQUAL, policy) == "pass"
    assert outcome(PairedHits(20, 955, 25), policy) == "pass"
    assert outcome(PairedHits(20, 940, 40), policy) == "inconclusive"
    assert outcome(PairedHits(20, 890, 90), policy) == "fail"


def test_intervals_hold_with_the_policys_alpha() -> None:
    close = PairedHits(38, 940, 22)  # p = 0.04
    assert outcome(close) == "pass"
    assert outcome(close, replace(POLICY, alpha=0.01)) == "inconclusive"


def test_of_too_few_rows_nothing_is_judged() -> None:
    decision = decide(POLICY, on_test(PairedHits(60, 39, 0)))
    assert decision.outcome == "inconclusive"
    assert [reason.check for reason in decision.reasons] == ["rows"]
    assert decision.reasons[0].text == "Set test has 99 labelled rows: of fewer than 100 nothing is judged."
    assert outcome(PairedHits(60, 40, 0)) == "pass"


def test_without_the_primary_set_nothing_is_decided() -> None:
    policy = replace(POLICY, primary_set="holdout")
    decision = decide(policy, on_test(BETTER))
    assert decision.outcome == "inconclusive"
    assert texts(decision, "inconclusive") == ["Set holdout has 0 labelled rows: of fewer than 100 nothing is judged."]


def test_the_rule_holds_on_the_primary_set_and_breaks_on_no_other() -> None:
    def with_holdout(holdout: PairedHits) -> Outcome:
        sets = {"test": SetEvidence(BETTER), "holdout": SetEvidence(holdout)}
        return decide(POLICY, GateEvidence(sets)).outcome

    assert with_holdout(EQUAL) == "pass"
    assert with_holdout(PairedHits(10, 70, 20)) == "pass"  # open
    assert with_holdout(PairedHits(0, 0, 20)) == "pass"  # too few rows
    assert with_holdout(PairedHits(0, 0, 0)) == "pass"
    assert with_holdout(WORSE) == "fail"


def test_the_rule_of_other_sets_is_the_policys_too() -> None:
    slightly = PairedHits(200, 9_550, 250)
    evidence = GateEvidence({"test": SetEvidence(BETTER), "holdout": SetEvidence(slightly)})
    assert decide(POLICY, evidence).outcome == "pass"
    assert decide(replace(POLICY, other_rule="superior"), evidence).outcome == "fail"


def test_a_figure_is_told_with_its_interval() -> None:
    [reason] = decide(POLICY, on_test(BETTER)).reasons
    assert reason.text == (
        "On set test the challenger is better: its accuracy differs by +6.0 points (95 %: +4.1 to +8.0)."
    )
    assert reason.figures["gain"] == BETTER.gain(0.95).to_dict()
    assert reason.figures["set"] == "test"


def test_errors_of_a_regression_are_better_where_they_fall() -> None:
    def judged(second: float) -> GateDecision:
        errors = PairedErrors(500, 20.0, second, 0.01)
        return decide(POLICY, GateEvidence({"test": SetEvidence(errors)}, "mae"))

    assert judged(19.0).outcome == "pass"
    assert judged(21.0).outcome == "fail"
    assert judged(20.0).outcome == "inconclusive"
    assert texts(judged(19.0), "pass") == [
        "On set test the challenger is better: its mean absolute error differs by -5.0 % (95 %: -7.0 to -3.0)."
    ]


def test_a_champion_without_errors_is_not_beaten() -> None:
    perfect = GateEvidence({"test": SetEvidence(PairedErrors(500, 0.0, 1.0, None))}, "mae")
    decision = decide(POLICY, perfect)
    assert decision.outcome == "inconclusive"
    assert "for the first makes no errors" in decision.reasons[0].text


# Classes and slices


def test_a_class_that_is_worse_by_more_than_the_margin_fails_and_is_named() -> None:
    classes = {"ship": PairedHits(0, 60, 40), "plane": PairedHits(80, 800, 0)}
    decision = decide(POLICY, on_test(BETTER, classes=classes))
    assert decision.outcome == "fail"
    [reason] = [reason for reason in decision.reasons if reason.outcome == "fail"]
    assert (reason.check, reason.figures["class"]) == ("class", "ship")
    assert reason.text == (
        "On class ship of set test the challenger is worse: its recall differs by -40.0 points "
        "(97.5 %: -51.2 to -29.8); 5 points are allowed."
    )


def test_a_class_that_only_seems_worse_takes_more_rows() -> None:
    decision = decide(POLICY, on_test(BETTER, classes={"ship": PairedHits(2, 44, 5)}))
    assert decision.outcome == "inconclusive"
    assert "seems worse (more labelled rows may tell)" in texts(decision, "inconclusive")[0]


def test_a_class_within_the_margin_passes_even_where_it_is_shown_to_be_worse() -> None:
    shown = PairedHits(0, 980, 20)
    assert shown.gain(0.95).high < 0  # type: ignore[operator]
    assert outcome(BETTER, classes={"ship": shown}) == "pass"
    assert outcome(BETTER, replace(POLICY, class_margin=0.01), classes={"ship": shown}) == "fail"


def test_a_class_of_few_rows_is_told_and_not_judged() -> None:
    decision = decide(POLICY, on_test(BETTER, classes={"ship": PairedHits(0, 0, 29), "plane": EQUAL}))
    assert decision.outcome == "pass"
    assert texts(decision, "pass")[1] == (
        "On 1 class of set test the challenger is not worse by more than 5 points. "
        "Not judged, of fewer than 30 rows: ship."
    )
    assert outcome(BETTER, classes={"ship": PairedHits(0, 0, 30)}) == "fail"


def test_the_more_classes_are_looked_at_the_more_it_takes_to_show_one_worse() -> None:
    worse = PairedHits(3, 85, 12)  # p = 0.04
    alone = {"ship": worse}
    assert outcome(BETTER, classes=alone) == "fail"
    many = alone | {f"class {number}": EQUAL for number in range(20)}
    assert outcome(BETTER, classes=many) == "inconclusive"


def test_slices_are_guarded_as_classes_are() -> None:
    decision = decide(POLICY, on_test(BETTER, slices={"country:DE": PairedHits(0, 60, 40), "country:AT": EQUAL}))
    assert decision.outcome == "fail"
    [text] = texts(decision, "fail")
    assert text.startswith("On slice country:DE of set test the challenger is worse: its accuracy differs by")
    assert outcome(BETTER, replace(POLICY, slice_margin=0.5), slices={"country:DE": PairedHits(0, 60, 40)}) == "pass"


def test_classes_and_slices_of_every_set_are_guarded() -> None:
    holdout = SetEvidence(EQUAL, {"ship": PairedHits(0, 60, 40)})
    evidence = GateEvidence({"test": SetEvidence(BETTER), "holdout": holdout})
    assert decide(POLICY, evidence).outcome == "fail"


# Calibration and costs


@pytest.mark.parametrize(
    ("rise", "expected"),
    [
        (Estimate(0.01, 500, 0.005, 0.015), "pass"),
        (Estimate(0.05, 500, 0.02, 0.08), "fail"),
        (Estimate(0.05, 500, -0.01, 0.11), "inconclusive"),
        (Estimate(0.05, 500), "inconclusive"),
        (Estimate(-0.3, 500, -0.4, -0.2), "pass"),
        (Estimate(None, 500, reason="no rows"), "pass"),
    ],
)
def test_the_calibration_error_rises_by_so_much_at_most(rise: Estimate, expected: Outcome) -> None:
    assert outcome(BETTER, ece_rise=rise) == expected


@pytest.mark.parametrize("which", ["latency", "size"])
def test_a_challenger_that_costs_too_much_fails(which: str) -> None:
    policy = replace(POLICY, **{f"max_{which}_ratio": 1.5})

    def at(ratio: float | None) -> GateDecision:
        return decide(policy, replace(on_test(BETTER), **{f"{which}_ratio": ratio}))

    assert at(1.5).outcome == "pass"
    assert at(1.6).outcome == "fail"
    assert texts(at(1.6), "fail") == [
        f"The challenger's {which} is 1.60 times the champion's; at most 1.50 times is allowed."
    ]
    assert at(None).outcome == "inconclusive"


# The decision


def test_fail_wins_over_inconclusive_over_pass() -> None:
    costly = replace(POLICY, max_size_ratio=2.0)
    assert decide(costly, replace(on_test(EQUAL), size_ratio=3.0)).outcome == "fail"
    assert decide(costly, replace(on_test(BETTER), size_ratio=None)).outcome == "inconclusive"
    assert decide(costly, replace(on_test(BETTER), size_ratio=1.0)).outcome == "pass"


def test_a_decision_is_json() -> None:
    evidence = on_test(BETTER, classes={"ship": PairedHits(0, 60, 40)}, ece_rise=Estimate(0.01, 500, 0.0, 0.02))
    told = decide(GatePolicy(), evidence).to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == {**told, "reasons": list(told["reasons"])}
    assert set(told["reasons"][0]) == {"check", "outcome", "text", "figures"}
    assert GatePolicy(**json.loads(json.dumps(POLICY.to_dict()))) == POLICY


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"rule": "best"}, "rule must be superior or non_inferior, got 'best'"),
        ({"other_rule": ""}, "other_rule must be superior or non_inferior, got ''"),
        ({"alpha": 0.0}, "alpha must be above 0 and at most 0.5, got 0.0"),
        ({"alpha": 0.6}, "alpha must be above 0"),
        ({"margin": -0.1}, "margin must be in 0 to 1, got -0.1"),
        ({"class_margin": 1.0}, "class_margin must be in 0 to 1, got 1.0"),
        ({"slice_margin": float("nan")}, "slice_margin must be in 0 to 1, got nan"),
        ({"max_ece_rise": 2}, "max_ece_rise must be in 0 to 1, got 2"),
        ({"minimum_rows": 1}, "minimum_rows must be at least 2, got 1"),
        ({"minimum_class_rows": 0}, "minimum_class_rows must be at least 2, got 0"),
        ({"max_latency_ratio": 0.0}, "max_latency_ratio must be positive, got 0.0"),
        ({"max_size_ratio": float("inf")}, "max_size_ratio must be positive, got inf"),
    ],
)
def test_a_policy_of_what_can_not_be_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GatePolicy(**fields)


HITS = st.builds(PairedHits, st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))


@given(
    HITS,
    st.dictionaries(st.sampled_from("abcdef"), HITS),
    st.sampled_from(["superior", "non_inferior"]),
    st.integers(2, 20),
)
def test_more_of_the_same_rows_never_make_a_fail_pass(
    overall: PairedHits, classes: dict[str, PairedHits], rule: Any, times: int
) -> None:
    def many(hits: PairedHits) -> PairedHits:
        return PairedHits(hits.better * times, hits.same * times, hits.worse * times)

    policy = replace(POLICY, rule=rule)
    before = outcome(overall, policy, classes=classes)
    after = outcome(many(overall), policy, classes={name: many(hits) for name, hits in classes.items()})
    assert (before, after) != ("fail", "pass")
