"""The choice is a pure function of what was tried."""

from typing import Any

import pytest
from pydantic import ValidationError

from service.domain import Precision
from service.engine.choosing import PASSED, Trial, choose, threads_alone


def trial(backend: str = "eager", rate: float | None = 1000, threads: int = 1, **more: Any) -> Trial:
    facts = {"precision": "float32", "build_seconds": 0.1, "batch_1_ms": 1.0, "verdict": PASSED, **more}
    return Trial.model_validate({"backend": backend, "rows_per_second": rate, "threads": threads, **facts})


def chosen(*tried: Trial, **limits: Any) -> str | None:
    found = choose(tried, **{"max_threads": 2, **limits})
    return None if found is None else found.backend


def test_the_fastest_that_passed_is_chosen() -> None:
    assert chosen(trial(), trial("openvino", 3000), trial("other", 9000, verdict="accuracy is worse")) == "openvino"


def test_nothing_is_chosen_where_nothing_passed() -> None:
    assert chosen(trial(verdict="it failed: no"), trial("openvino", None)) is None
    assert chosen() is None


def test_of_those_as_fast_the_one_that_is_built_soonest_is_chosen() -> None:
    slow_to_build = trial("openvino", 1010, build_seconds=3.0)
    assert chosen(trial(), slow_to_build) == "eager"
    assert chosen(trial(), trial("openvino", 1200, build_seconds=3.0)) == "openvino"


def test_of_those_that_serve_as_many_the_one_with_fewer_threads_is_chosen_and_then_the_faster() -> None:
    found = choose([trial(rate=9e5, threads=2), trial(rate=8e5), trial(rate=9e5)], max_threads=4)
    assert found == trial(rate=9e5)


@pytest.mark.parametrize(("seconds", "backend"), [(1.9, "openvino"), (2.1, "eager"), (3.9, "eager")])
def test_of_those_as_fast_a_build_is_sooner_only_by_seconds(seconds: float, backend: str) -> None:
    assert chosen(trial(), trial("openvino", 1010, build_seconds=seconds)) == backend


def test_what_is_built_sooner_may_take_more_threads() -> None:
    assert chosen(trial("openvino", build_seconds=3.0), trial(rate=1010, threads=2)) == "eager"


@pytest.mark.parametrize("number", [1, 2])
def test_of_those_alike_in_all_else_the_faster_is_chosen_whichever_was_tried_first(number: int) -> None:
    slower, faster = trial(rate=950), trial("openvino", 1000)
    assert chosen(*[slower, faster, slower][number - 1 :][:2]) == "openvino"


def test_what_nobody_knows_how_long_it_builds_is_not_chosen() -> None:
    assert chosen(trial(build_seconds=None)) is None


def test_what_takes_long_to_build_is_not_chosen_however_fast_it_is() -> None:
    assert chosen(trial(), trial("compile", 5000, build_seconds=11.0)) == "eager"


def test_an_engine_with_fewer_threads_chooses_among_those_that_it_has() -> None:
    tried = [trial("eager", 100), trial("openvino", 300, threads=2)]
    assert chosen(*tried) == "openvino"
    assert chosen(*tried, max_threads=1) == "eager"


def test_a_wished_precision_is_kept_to() -> None:
    tried = [trial("eager", 1000, precision="bfloat16"), trial("openvino", 3000)]
    assert chosen(*tried, precisions=(Precision.BFLOAT16,)) == "eager"


@pytest.mark.parametrize(("one", "two", "threads"), [(1000, 1010, 1), (1000, 1100, 1), (1000, 1200, 2)])
def test_threads_of_one_batch_have_to_win_clearly_over_batches_side_by_side(
    one: float, two: float, threads: int
) -> None:
    found = choose([trial("openvino", one), trial("openvino", two, threads=2)], max_threads=2)
    assert found is not None
    assert found.threads == threads


@pytest.mark.parametrize(
    "change",
    [
        {"backend": "../../bin/sh"},
        {"precision": "float64"},
        {"threads": 0},
        {"rows_per_second": -1},
        {"rows_per_second": float("inf")},
        {"agreement": 1.5},
        {"verdict": ""},
        {"command": "rm"},
    ],
)
def test_a_trial_holds_nothing_but_what_was_measured(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        trial(**change)


ONE_THREAD = trial("openvino", 290, batch_1_ms=6.7)


@pytest.mark.parametrize(
    ("other", "threads"),
    [
        (trial("openvino", 288, threads=2, batch_1_ms=3.6), 2),
        (trial("openvino", 288, threads=2, batch_1_ms=6.5), 0),
        (trial("openvino", 288, threads=2, batch_1_ms=6.1), 2),
        (trial("openvino", 288, threads=1, batch_1_ms=3.6), 0),
        (trial("eager", 288, threads=2, batch_1_ms=3.6), 0),
        (trial("openvino", 288, threads=2, batch_1_ms=3.6, precision="bfloat16"), 0),
        (trial("openvino", 288, threads=2, batch_1_ms=3.6, verdict="it failed: no"), 0),
        (trial("openvino", 288, threads=4, batch_1_ms=3.6), 0),
        (trial("openvino", 288, threads=2, batch_1_ms=None), 0),
    ],
)
def test_a_lone_row_has_more_threads_where_the_same_back_end_was_quicker_with_them(other: Trial, threads: int) -> None:
    assert threads_alone(ONE_THREAD, [other, ONE_THREAD], max_threads=2) == threads


def test_of_more_threads_a_lone_row_has_those_that_were_quickest() -> None:
    others = [trial("openvino", threads=number, batch_1_ms=ms) for number, ms in ((2, 3.6), (3, 2.5), (4, 2.9))]
    assert threads_alone(ONE_THREAD, others, max_threads=4) == 3


def test_a_lone_row_has_no_fewer_threads_than_a_batch() -> None:
    two = trial("openvino", threads=2, batch_1_ms=6.7)
    assert threads_alone(two, [trial("openvino", batch_1_ms=3.6), two], max_threads=2) == 0


def test_where_a_lone_row_was_not_timed_it_has_the_threads_of_a_batch() -> None:
    untimed = trial("openvino", batch_1_ms=None)
    assert threads_alone(untimed, [trial("openvino", threads=2), untimed], max_threads=2) == 0


def test_a_trial_has_a_title_for_people() -> None:
    assert [trial(threads=number).title for number in (1, 2)] == ["eager float32, 1 thread", "eager float32, 2 threads"]
