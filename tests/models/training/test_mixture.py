import numpy as np
import pytest

from models.preprocess import Preprocessor
from models.training.batches import Rows
from models.training.mixture import Mixture, num_replayed, strata_of, stratified

PLAIN = Preprocessor([], {}.__getitem__)


def test_each_kind_has_its_share() -> None:
    kinds = np.repeat([0, 1, 2], [600, 300, 100])
    drawn = kinds[stratified(kinds, 50, np.random.default_rng(0))]
    assert np.bincount(drawn).tolist() == [30, 15, 5]


def test_no_row_comes_twice_before_all_came_once() -> None:
    rng = np.random.default_rng(0)
    assert len(np.unique(stratified(np.arange(100) % 3, 100, rng))) == 100
    assert np.bincount(stratified(np.arange(10) % 3, 25, rng), minlength=10).min() == 2
    assert stratified(np.zeros(0, np.int64), 5, rng).tolist() == []


def test_values_are_taken_from_each_tenth() -> None:
    assert np.bincount(strata_of(np.arange(100.0))).tolist() == [10] * 10


def test_a_share_of_the_epoch_is_replayed() -> None:
    assert [num_replayed(30, share) for share in (0, 0.5, 0.75)] == [0, 30, 90]


@pytest.mark.parametrize("ragged", [False, True])
def test_an_epoch_has_all_new_rows_and_others_each_time(ragged: bool) -> None:
    rows = [np.ones(1 + i % 5, np.int64) for i in range(50)] if ragged else np.zeros((50, 2), np.float32)
    mixture = Mixture(Rows(rows, np.arange(50), PLAIN), 10, np.arange(40) % 2, 10)
    rng = np.random.default_rng(0)
    first, second = (np.sort(np.concatenate(mixture.order(4, rng))).tolist() for _ in range(2))
    assert len(mixture) == len(first) == 20
    assert first[:10] == second[:10] == list(range(10))
    assert first[10:] != second[10:]
    assert mixture.batch(np.array([3, 40]), rng).targets.tolist() == [3, 40]
