"""Which inputs are kept, with which probability, and as what."""

import io
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.preprocess import Tensors
from service.domain import Address
from service.registry.scanner import scan
from service.serving.answer import Computed
from service.serving.capture import Capture, CapturePolicy, Choice, Sampler, uncertainty_of
from service.serving.router import Router, Target
from service.wire.inference import Outputs
from tests.fakes import ManualClock

SURE = Choice("uniform", 1.0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=100.0)


def sampler(clock: ManualClock, *, draw: float = 0.5, **policy: Any) -> Sampler:
    return Sampler(CapturePolicy(**policy), clock, lambda: draw)


def ask(sampling: Sampler, count: int, uncertainty: float | None = None, model: str = "fashion") -> list[Choice | None]:
    return [sampling.choose(model, lambda: uncertainty) for _ in range(count)]


def next_second(clock: ManualClock) -> None:
    clock.now = float(int(clock.now) + 1)


# Uniformly


def test_all_rows_are_kept_while_there_are_few(clock: ManualClock) -> None:
    sampling = sampler(clock, draw=0.999)
    for _ in range(5):
        assert ask(sampling, 50) == [SURE] * 50
        next_second(clock)


def test_each_model_has_its_own_share(clock: ManualClock) -> None:
    sampling = sampler(clock, draw=0.999)
    assert ask(sampling, 50, model="a") + ask(sampling, 50, model="b") == [SURE] * 100


def test_of_more_rows_each_is_kept_with_the_probability_that_is_told(clock: ManualClock) -> None:
    sampling = sampler(clock, draw=0.0)
    choices = ask(sampling, 200)
    assert choices[:50] == [SURE] * 50
    assert choices[50:] == [Choice("uniform", 50 / number) for number in range(51, 201)]
    next_second(clock)
    assert ask(sampling, 201) == [Choice("uniform", 50 / 200)] * 200 + [Choice("uniform", 50 / 201)]


def test_what_is_not_drawn_is_not_kept(clock: ManualClock) -> None:
    sampling = sampler(clock, draw=0.26)
    ask(sampling, 200)
    next_second(clock)
    assert ask(sampling, 10) == [None] * 10


def test_a_second_without_rows_ends_what_was_known(clock: ManualClock) -> None:
    sampling = sampler(clock, draw=0.999)
    ask(sampling, 1000)
    next_second(clock)
    next_second(clock)
    assert ask(sampling, 50) == [SURE] * 50


def test_at_a_steady_rate_about_as_many_are_kept_as_shall_be(clock: ManualClock) -> None:
    generator = random.Random(7)
    sampling = Sampler(CapturePolicy(), clock, generator.random)
    ask(sampling, 5000)
    kept = []
    for _ in range(40):
        next_second(clock)
        kept += [choice for choice in ask(sampling, 5000) if choice is not None]
    assert 1800 < len(kept) < 2200
    # What is kept stands for all that came: each for as many as its probability says.
    assert sum(1 / choice.probability for choice in kept) == pytest.approx(40 * 5000, rel=0.1)


# The uncertain


def test_the_least_certain_rows_are_kept_besides(clock: ManualClock) -> None:
    sampling = sampler(clock, draw=0.999, uncertain_per_second=3)
    for number in range(200):
        sampling.choose("fashion", lambda number=number: number / 200)  # type: ignore[misc]
    next_second(clock)
    assert ask(sampling, 2, uncertainty=0.985) == [None, None]
    assert ask(sampling, 7, uncertainty=0.99) == [Choice("uncertain", 1.0)] * 6 + [None]
    assert ask(sampling, 1, uncertainty=None) == [None]


def test_an_uncertain_row_that_is_drawn_too_was_sure_to_be_kept(clock: ManualClock) -> None:
    sampling = sampler(clock, draw=0.0, uncertain_per_second=1)
    ask(sampling, 200, uncertainty=0.5)
    next_second(clock)
    assert ask(sampling, 1, uncertainty=0.6) == [SURE]


def test_where_none_of_them_are_wanted_none_are_kept(clock: ManualClock) -> None:
    sampling = sampler(clock, draw=0.999, uncertain_per_second=0)
    ask(sampling, 200, uncertainty=0.5)
    next_second(clock)
    assert ask(sampling, 1, uncertainty=1.0) == [None]


@pytest.mark.parametrize(
    ("task", "probabilities", "uncertainty"),
    [
        ("multiclass", [0.1, 0.6, 0.3], 0.7),
        ("multiclass", [0.0, 1.0, 0.0], 0.0),
        ("binary", [0.5, 0.5], 1.0),
        ("multilabel", [0.9, 0.55, 0.0], 0.9),
        ("multilabel", [0.8], 0.4),
    ],
)
def test_how_unsure_a_model_is(task: Any, probabilities: list[float], uncertainty: float) -> None:
    assert uncertainty_of(task, probabilities) == pytest.approx(uncertainty)


# What was chosen


@pytest.mark.parametrize(("mode", "kept"), [("all", [SURE] * 100), ("none", [None] * 100)])
def test_all_or_none(clock: ManualClock, mode: Any, kept: list[Any]) -> None:
    assert ask(sampler(clock, mode=mode, rows_per_second=1), 100) == kept


@pytest.mark.parametrize("wrong", [{"rows_per_second": 0}, {"uncertain_per_second": -1}])
def test_bad_rates_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rates must be positive"):
        CapturePolicy(**wrong)


@pytest.fixture
def target(root: Path) -> Target:
    return Router(scan([root], {"rent": {"champion": 1}})).choose(Address("rent"))


def computed(*predictions: dict[str, Any]) -> Computed:
    ids = [f"id-{number}" for number in range(1, len(predictions) + 1)]
    return Computed(Outputs(np.zeros((len(ids), 1), np.float32), {}, 0.0, 0.0), predictions, None, ids)


def test_rows_are_kept_as_they_came(clock: ManualClock, target: Target) -> None:
    capture = Capture(sampler(clock))
    rows = np.array([[50.0, 2.0], [60.0, 3.0]])
    kept = capture.inputs(rows, computed({"value": 1.0}, {"value": 2.0}), target)
    assert [one[:5] for one in kept] == [(f"id-{number}", "rent", "npy", "uniform", 1.0) for number in (1, 2)]
    assert [np.load(io.BytesIO(one.data)).tolist() for one in kept] == rows.tolist()
    [text] = capture.inputs(["naïve"], computed({"value": 1.0}), target)
    assert (text.form, text.data.decode()) == ("text", "naïve")


def test_rows_that_came_prepared_are_told_from_others(clock: ManualClock, target: Target) -> None:
    rows = Tensors.packed([np.arange(3), np.arange(5)])
    kept = Capture(sampler(clock)).inputs(rows, computed({"value": 1.0}, {"value": 2.0}), target)
    assert [(one.form, len(np.load(io.BytesIO(one.data)))) for one in kept] == [("prepared", 3), ("prepared", 5)]


def test_rows_that_failed_are_not_kept(clock: ManualClock, target: Target) -> None:
    answers = computed({"error": {"type": "prediction_failed", "detail": ""}}, {"value": 2.0})
    kept = Capture(sampler(clock)).inputs(np.zeros((2, 2)), answers, target)
    assert [one.prediction_id for one in kept] == ["id-2"]


def test_the_least_certain_are_known_by_their_probabilities(clock: ManualClock, target: Target) -> None:
    manifest = target.manifest.model_copy(update={"task": "binary"})
    capture = Capture(sampler(clock, draw=0.999, rows_per_second=1, uncertain_per_second=1))
    for probabilities in ([0.9, 0.1], [0.9, 0.1], [0.4, 0.6]):
        answers = computed({"label": "a"})._replace(probabilities=[probabilities])
        capture.inputs(["x"], answers, replace(target, manifest=manifest))
    next_second(clock)
    answers = computed({"label": "a"}, {"label": "a"}, {"label": "a"})
    answers = answers._replace(probabilities=[[0.9, 0.1], [0.45, 0.55], [0.7, 0.3]])
    kept = capture.inputs(["x", "y", "z"], answers, replace(target, manifest=manifest))
    assert [(one.prediction_id, one.chosen) for one in kept] == [("id-2", "uncertain")]
