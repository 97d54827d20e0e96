"""What the gate decides of what two versions said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.metrics import Array, PairedHits
from service.errors import BrokenContract
from service.learning.evidence import Costs, JudgedSet, evidence_of
from service.learning.gate import GateDecision, GatePolicy, decide

LABELS = ["bag", "boot", "coat", "dress"]
COSTS = Costs(0.002, 0.002, 1000, 1000)
RNG = np.random.default_rng


def clouds(n: int, seed: int) -> tuple[Array, Array]:
    """Points around four centres, and whose they are."""
    rng = RNG(seed)
    labels = rng.integers(0, 4, n)
    centres = np.array([[0, 0], [4, 0], [0, 4], [4, 4]])
    return centres[labels] + rng.normal(0, 1.2, (n, 2)), labels


def learned_by_heart(points: Array, labels: Array, asked: Array) -> Array:
    """Probabilities by the five nearest points that were learned, as of a network that fits all it is given."""
    nearest = np.square(asked[:, None] - points).sum(axis=2).argsort(axis=1)[:, :5]
    return np.asarray(np.eye(4)[labels[nearest]].mean(axis=1) * 0.96 + 0.01)


def sure_of(classes: Array) -> Array:
    return np.asarray(np.eye(4)[classes] * 0.88 + 0.03)


def with_hits(truth: Array, hits: float, seed: int) -> Array:
    rng = RNG(seed)
    return np.where(rng.random(len(truth)) < hits, truth, (truth + rng.integers(1, 4, len(truth))) % 4)


def gated(judged: JudgedSet, task: str = "multiclass", policy: GatePolicy | None = None) -> GateDecision:
    return decide(policy or GatePolicy(), evidence_of(task, LABELS, {"test": judged}, COSTS))


def test_a_challenger_that_learned_flipped_labels_fails() -> None:
    points, labels = clouds(1500, 0)
    asked, truth = clouds(800, 1)
    rng = RNG(2)
    flipped = np.where(rng.random(1500) < 0.4, (labels + rng.integers(1, 4, 1500)) % 4, labels)
    champion, challenger = (learned_by_heart(points, each, asked) for each in (labels, flipped))
    decision = gated(JudgedSet(truth, champion, challenger))
    assert decision.outcome == "fail"
    assert decision.reasons[0].check == "figure"
    assert decision.reasons[0].text.startswith("On set test the challenger is worse: its accuracy differs by -")


def test_a_challenger_that_degrades_one_class_alone_fails_and_the_reason_names_it() -> None:
    rng = RNG(0)
    truth = rng.integers(0, 4, 2000)
    champion = with_hits(truth, 0.8, 1)
    challenger = np.where(rng.random(2000) < 0.7, truth, champion)
    lost = (truth == 2) & (rng.random(2000) < 0.4)
    decision = gated(JudgedSet(truth, sure_of(champion), sure_of(np.where(lost, 3, challenger))))
    figure = decision.reasons[0]
    assert (figure.check, figure.outcome) == ("figure", "pass")
    assert decision.outcome == "fail"
    [reason] = [reason for reason in decision.reasons if reason.outcome == "fail"]
    assert (reason.check, reason.figures["class"]) == ("class", "coat")
    assert reason.text.startswith("On class coat of set test the challenger is worse: its recall differs by -")


def test_a_challenger_that_is_better_passes_and_the_champion_again_is_inconclusive() -> None:
    truth = RNG(0).integers(0, 4, 1000)
    champion = sure_of(with_hits(truth, 0.8, 1))
    assert gated(JudgedSet(truth, champion, sure_of(with_hits(truth, 0.9, 2)))).outcome == "pass"
    assert gated(JudgedSet(truth, champion, champion)).outcome == "inconclusive"


def test_a_challenger_that_is_surer_than_right_fails() -> None:
    truth = RNG(0).integers(0, 4, 1000)
    right = with_hits(truth, 0.88, 1)
    better = np.where(RNG(2).random(1000) < 0.3, truth, right)
    challenger = np.eye(4)[better] * 0.6 + 0.1
    decision = gated(JudgedSet(truth, sure_of(right), challenger))
    assert [reason.check for reason in decision.reasons if reason.outcome == "fail"] == ["calibration"]


def test_a_guarded_slice_is_judged_on_its_rows_alone() -> None:
    truth = RNG(0).integers(0, 4, 1000)
    champion = with_hits(truth, 0.8, 1)
    challenger = with_hits(truth, 0.95, 2)
    night = np.arange(1000) < 150
    challenger[night] = (truth[night] + 1) % 4
    judged = JudgedSet(truth, sure_of(champion), sure_of(challenger), {"time:night": night, "time:day": ~night})
    decision = gated(judged, policy=GatePolicy(max_ece_rise=0.9, class_margin=0.9))
    assert [reason.figures.get("slice") for reason in decision.reasons if reason.outcome == "fail"] == ["time:night"]


def test_binary_tasks_are_judged_by_each_versions_threshold() -> None:
    truth, said = np.array([0, 1, 1, 0]), np.array([0.1, 0.3, 0.9, 0.6])
    evidence = evidence_of("binary", ["ham", "spam"], {"test": JudgedSet(truth, said, said)}, COSTS)
    assert evidence.sets["test"].overall == PairedHits(0, 4, 0)
    evidence = evidence_of(
        "binary", ["ham", "spam"], {"test": JudgedSet(truth, said, said)}, COSTS, thresholds=(0.5, 0.2)
    )
    assert evidence.sets["test"].overall == PairedHits(1, 3, 0)
    assert evidence.sets["test"].classes == {"ham": PairedHits(0, 2, 0), "spam": PairedHits(1, 1, 0)}
    assert evidence.sets["test"].ece_rise is not None


def test_rows_of_several_labels_are_right_where_all_are_and_each_label_is_guarded() -> None:
    truth = np.array([[True, False], [True, True], [False, False]])
    first, second = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.3]]), np.array([[0.9, 0.1], [0.9, 0.9], [0.2, 0.8]])
    evidence = evidence_of("multilabel", ["a", "b"], {"test": JudgedSet(truth, first, second)}, COSTS)
    one = evidence.sets["test"]
    assert one.overall == PairedHits(1, 1, 1)
    assert one.classes == {"a": PairedHits(1, 1, 0), "b": PairedHits(0, 1, 0)}
    assert one.ece_rise is None


def test_numbers_are_judged_by_how_far_they_are_off() -> None:
    rng = RNG(0)
    truth = rng.normal(size=400)
    noise = rng.normal(0, 1, 400)
    half = np.arange(400) < 200
    judged = JudgedSet(truth, truth + noise, truth - 0.8 * noise, {"half": half})
    evidence = evidence_of("regression", [], {"test": judged}, COSTS)
    assert evidence.figure == "mae"
    assert evidence.sets["test"].overall.gain(0.95).value == pytest.approx(0.2)
    assert evidence.sets["test"].slices["half"].n == 200
    assert decide(GatePolicy(), evidence).outcome == "pass"


def test_costs_are_told_as_ratios_where_both_are_known() -> None:
    truth = np.zeros(3, int)
    judged = {"test": JudgedSet(truth, sure_of(truth), sure_of(truth))}

    def ratios(costs: Costs) -> tuple[float | None, float | None]:
        evidence = evidence_of("multiclass", LABELS, judged, costs)
        return evidence.latency_ratio, evidence.size_ratio

    assert ratios(Costs(0.002, 0.003, 1000, 500)) == (1.5, 0.5)
    assert ratios(Costs(0.002, None, None, 500)) == (None, None)
    assert ratios(Costs(0.0, 0.003, 0, 500)) == (None, None)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.5, 0.95), st.sampled_from(["multiclass", "binary", "regression"]))
def test_the_order_of_rows_changes_nothing(seed: int, hits: float, task: str) -> None:
    rng = RNG(seed)
    truth = rng.integers(0, 2 if task == "binary" else 4, 300)
    if task == "multiclass":
        said = [sure_of(with_hits(truth, one, seed % 1000)) for one in (0.8, hits)]
    else:
        said = [np.clip(truth + rng.normal(0, one, 300), 0, 1 if task == "binary" else 9) for one in (0.5, hits)]
    tag = rng.random(300) < 0.4
    labels = LABELS[: 2 if task == "binary" else 4]
    order = rng.permutation(300)
    decisions = [
        decide(GatePolicy(), evidence_of(task, labels, {"test": JudgedSet(truth, *said, {"tag": tag})}, COSTS)),
        decide(
            GatePolicy(),
            evidence_of(
                task,
                labels,
                {"test": JudgedSet(truth[order], *(one[order] for one in said), {"tag": tag[order]})},
                COSTS,
            ),
        ),
    ]
    assert [one.outcome for one in decisions[0].reasons] == [one.outcome for one in decisions[1].reasons]
    assert decisions[0].outcome == decisions[1].outcome


def test_an_empty_holdout_is_passed_over() -> None:
    truth = RNG(0).integers(0, 4, 1000)
    judged = JudgedSet(truth, sure_of(with_hits(truth, 0.8, 1)), sure_of(with_hits(truth, 0.9, 2)))
    nothing = JudgedSet(truth[:0], judged.champion[:0], judged.challenger[:0], {"tag": np.zeros(0, bool)})
    sets = {"test": judged, "holdout": nothing}
    decision = decide(GatePolicy(), evidence_of("multiclass", LABELS, sets, COSTS))
    assert decision.outcome == "pass"
    assert {reason.figures.get("set") for reason in decision.reasons} == {"test", None}


def test_arrays_that_do_not_fit_and_embeddings_are_refused() -> None:
    truth = np.zeros(3, int)
    with pytest.raises(BrokenContract):
        evidence_of("multiclass", LABELS, {"test": JudgedSet(truth, sure_of(truth), sure_of(truth)[:2])}, COSTS)
    fitting = JudgedSet(truth, sure_of(truth), sure_of(truth), {"tag": np.zeros(2, bool)})
    with pytest.raises(BrokenContract):
        evidence_of("multiclass", LABELS, {"test": fitting}, COSTS)
    with pytest.raises(ValueError, match="versions of a model that embeds"):
        evidence_of("embedding", [], {"test": JudgedSet(truth, truth, truth)}, COSTS)
