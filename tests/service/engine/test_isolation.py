from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.preprocess.tensors import Array
from service.engine.isolation import Results, RowFailure, run_isolating
from service.engine.runner import Fill
from tests.fakes import FakeRunner

FAILED = RowFailure("the network failed on this row")
NOT_FINITE = RowFailure("the network's answer for this row is not finite")


def isolated(runner: FakeRunner, values: Sequence[float]) -> Results:
    rows = [np.array([value, 1.0], np.float32) for value in values]
    return run_isolating(lambda some: runner.run(some, ragged=True), rows)


def plain(results: Results) -> list[float | RowFailure]:
    return [row if isinstance(row, RowFailure) else float(row[0]) - 1 for row in results.rows]


def test_rows_that_fit_run_once() -> None:
    runner = FakeRunner()
    assert plain(isolated(runner, [1, 2, 3])) == [1, 2, 3]
    assert len(runner.batches) == 1


def test_a_poisoned_row_fails_alone() -> None:
    runner = FakeRunner()
    assert plain(isolated(runner, [1, 2, FakeRunner.POISON, 4, 5])) == [1, 2, FAILED, 4, 5]


def test_finding_one_poisoned_row_takes_few_runs() -> None:
    runner = FakeRunner()
    isolated(runner, [FakeRunner.POISON, *range(31)])
    assert len(runner.batches) == 1 + 2 * 5


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_fails_alone(value: float) -> None:
    runner = FakeRunner()
    assert plain(isolated(runner, [1, value, 3])) == [1, NOT_FINITE, 3]
    assert len(runner.batches) == 1


def test_one_number_that_is_not_finite_spoils_its_row() -> None:
    outputs = np.array([[1, 2, np.nan], [1, 2, 3]], np.float32)
    rows = [np.zeros(1)] * 2
    results = run_isolating(lambda _: (outputs, Fill(2, 0)), rows).rows
    assert results[0] == NOT_FINITE
    assert isinstance(results[1], np.ndarray)


def test_a_reason_tells_nothing_of_what_was_raised() -> None:
    def fail(_: Sequence[Array]) -> tuple[Array, Fill]:
        raise RuntimeError("secret path")

    (only,) = run_isolating(fail, [np.zeros(1)]).rows
    assert isinstance(only, RowFailure)
    assert "secret" not in only.reason


def test_fill_sums_over_the_runs_that_gave_answers() -> None:
    def run(rows: Sequence[Array]) -> tuple[Array, Fill]:
        if len(rows) > 1 or rows[0].item() == 3:
            raise RuntimeError
        return np.zeros((1, 1), np.float32), Fill(10, 2)

    rows = [np.array(float(value)) for value in range(4)]
    assert run_isolating(run, rows).fill == Fill(30, 6)


@given(st.lists(st.sampled_from([1.0, 2.0, FakeRunner.POISON, np.nan]), min_size=1, max_size=20))
def test_every_row_gets_its_own_result_whatever_its_neighbours_are(values: list[float]) -> None:
    expected = [FAILED if v == FakeRunner.POISON else NOT_FINITE if np.isnan(v) else v for v in values]
    assert plain(isolated(FakeRunner(), values)) == expected
