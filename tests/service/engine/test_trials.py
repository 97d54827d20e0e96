"""Back ends on trial: what becomes of those that fail, and how the others are timed."""

import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.architectures import build
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Precision
from service.engine import trials
from service.engine.backends.eager import Eager
from service.engine.choosing import Trial, choose
from service.engine.heldout import Rows
from service.engine.judging import BATCH
from service.engine.quiet import CoreTime, NotQuiet, Timing
from service.engine.trials import (
    AS_IT_COMES,
    Candidate,
    Subject,
    candidates,
    num_steps,
    try_all,
    undisturbed,
)
from tests.patience import PATIENCE
from tests.service.engine.networks import NETWORKS, manifest_of, rows_for
from tests.service.engine.test_fallback import Fake

CONTRACT, ARCHITECTURE = NETWORKS["mlp"]
MANIFEST = manifest_of(CONTRACT, ARCHITECTURE)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_ROUND_SECONDS", 0.0)


def network() -> Any:
    torch.manual_seed(0)
    return build("mlp", ARCHITECTURE["config"])


def subject(truth: Array | None = None) -> Subject:
    samples = [Tensors(np.ones((count, 5), np.float32)) for count in (1, 2)]
    return Subject(MANIFEST, network, samples, Rows(rows_for(CONTRACT, [1] * 40, 0), False, "made up", truth))


def shared(outputs: Array) -> Array:
    """As a scale that a whole batch shares would: a row's answer depends on its neighbours."""
    return outputs + 0.01 * len(outputs) / 32 * np.abs(outputs).max()


def worse(outputs: Array) -> Array:
    return np.where(np.abs(outputs - outputs.mean()) < 0.1, outputs[:, ::-1], outputs)


def verdicts(*backends: Any, of: Subject | None = None) -> list[str]:
    told: list[str] = []
    tried = [Candidate(backend, 1) for backend in backends]
    found = try_all(of or subject(), tried, told.append)
    assert len(told) == num_steps(tried, AS_IT_COMES)
    assert all((trial.rows_per_second is not None) == trial.passed for trial in found)
    return [trial.verdict for trial in found]


def test_each_is_judged_by_itself() -> None:
    found = verdicts(Eager(), Fake(error="it knows no tanh"), Fake(shared), Eager(Precision.BFLOAT16))
    assert found[:2] == ["passed", "it knows no tanh"]
    assert found[2].startswith("a row's answer is ")
    assert found[2].endswith("1e-05 allowed")
    assert found[3] == "passed"


def test_a_back_end_may_read_the_rows_that_an_engine_would_find_with_the_version_too() -> None:
    backends = Fake(), Fake()
    verdicts(backends[0], of=subject(truth=np.zeros(40, np.int64)))
    verdicts(backends[1])  # rows that were drawn at random: no engine has them
    assert [backend.shipped for backend in backends] == [40, 0]


def test_pytorch_in_float32_is_no_worse_than_itself() -> None:
    assert try_all(subject(), [Candidate(Eager(), 1)], lambda _: None)[0].difference == 0


def test_what_disturbs_a_few_batches_is_not_counted() -> None:
    assert undisturbed([5.0, 1.0, *[2.0] * 18]) == 2.0
    assert undisturbed([3.0]) == 3.0


class Cores:
    """After each step it was disturbed as `shares` say; the last goes on."""

    def __init__(self, *shares: float) -> None:
        self._shares = [0.0, *shares]  # when it begins
        self._time = CoreTime(0, 0)

    def __call__(self) -> CoreTime:
        share = self._shares.pop(0) if len(self._shares) > 1 else self._shares[0]
        waited = round(100 * share)
        self._time = CoreTime(self._time.ran + 100 - waited, self._time.waited + waited)
        return self._time


def timed(*shares: float, max_busy: float = 0.1) -> tuple[list[Trial], list[str]]:
    told: list[str] = []
    timing = Timing(rounds=3, max_busy=max_busy, spare=2, read=Cores(*shares))
    return try_all(subject(), [Candidate(Eager(), 1)], told.append, timing), told


def test_rounds_that_others_disturbed_are_repeated() -> None:
    found, told = timed(0.0, 0.05, 0.5, 0.0, 0.3, 0.1)
    assert found[0].passed
    assert told == ["eager float32, 1 thread", *(f"timing, round {number} of 3" for number in (1, 2, 3))]


@pytest.mark.parametrize("shares", [(0.0, 0.05, 0.5), (0.5, 0.5, 0.0, 0.5, 0.0)])
def test_what_is_disturbed_too_often_gives_way(shares: tuple[float, ...]) -> None:
    with pytest.raises(NotQuiet):
        timed(*shares)


def test_the_threads_that_were_timed_are_there_when_it_is_told_how_long_they_waited() -> None:
    others, seen = threading.active_count(), list[int]()

    def read() -> CoreTime:
        seen.append(threading.active_count() - others)
        return CoreTime(len(seen), 0)

    try_all(subject(), [Candidate(Eager(), 1, at_once=3)], lambda _: None, Timing(rounds=2, max_busy=0.5, read=read))
    assert seen == [0, 0, 3, 3]


class SideBySide:
    """Answers batches of many once as many of them are there at once, and does `wrong` to these answers."""

    def __init__(self, number: int, wrong: Callable[[Array], Array]) -> None:
        self._all_there = threading.Barrier(number)
        self._wrong = wrong

    def __call__(self, outputs: Array) -> Array:
        if threading.current_thread() is threading.main_thread() or len(outputs) < BATCH:
            return outputs
        self._all_there.wait(PATIENCE)
        return self._wrong(outputs)


def fail(_: Array) -> Array:
    raise ValueError("one at a time")


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        (np.copy, "passed"),
        (lambda outputs: outputs * 1.1, r"an answer is 1\.0e-01 of the scale away in 3 batches at once, 1e-05 allowed"),
        (lambda outputs: outputs * np.nan, "an answer is nan of the scale away in 3 batches at once, 1e-05 allowed"),
        (fail, "it failed: one at a time"),
    ],
)
def test_batches_are_timed_and_judged_side_by_side(wrong: Callable[[Array], Array], verdict: str) -> None:
    tried = [Candidate(Fake(SideBySide(3, wrong)), 1, at_once=3), Candidate(Eager(), 1)]
    found, other = try_all(subject(), tried, lambda _: None)
    assert re.fullmatch(verdict, found.verdict)
    assert (found.rows_per_second is not None) == (found.batch_32_ms is not None) == found.passed
    assert other.passed


def test_where_others_may_be_as_busy_as_they_like_every_round_counts() -> None:
    found, _ = timed(0.99, max_busy=1.0)
    assert found[0].passed


def test_one_thread_half_the_cores_and_all_are_tried() -> None:
    assert [each.threads for each in candidates([Eager()], 8)] == [1, 4, 8]
    assert [each.title for each in candidates([Eager(Precision.BFLOAT16, "eager-cast", cast=True)], 2)] == [
        "eager-cast bfloat16, 1 thread",
        "eager-cast bfloat16, 2 threads",
    ]
    assert [each.threads for each in candidates([replace(Eager(), name="compile")], 8)] == [8]


def test_on_a_gpu_batches_are_as_many_at_once_as_it_has_lanes() -> None:
    backends = [Eager(), replace(Eager(), name="compile")]
    tried = candidates(backends, 2, torch.device("cuda", 0))
    assert [(each.backend, each.threads, each.at_once) for each in tried] == [(each, 1, 2) for each in backends]


def test_the_fastest_that_passed_is_chosen_from_real_trials() -> None:
    tried = [Candidate(Fake(error="no"), 1), Candidate(Eager(), 1)]
    chosen = choose(try_all(subject(), tried, lambda _: None), max_threads=2)
    assert chosen is not None
    assert chosen.backend == "eager"
