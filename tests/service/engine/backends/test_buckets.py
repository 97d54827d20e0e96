import numpy as np
import pytest

from models.preprocess import Tensors
from service.engine.backends.buckets import ROWS, pad_rows, pad_steps, padded_batch


@pytest.mark.parametrize("pad", [pad_rows, pad_steps])
def test_sizes_grow_only_are_few_and_are_their_own_next(pad: object) -> None:
    assert callable(pad)
    sizes = [pad(number) for number in range(1, 513)]
    assert all(size >= number for number, size in enumerate(sizes, start=1))
    assert sizes == sorted(sizes)
    assert [pad(size) for size in sizes] == sizes
    assert len(set(sizes)) <= 50


def test_little_is_added() -> None:
    assert max(pad_rows(number) / number for number in range(9, 513)) < 1.5
    assert max(pad_steps(number) / number for number in range(64, 513)) < 1.13
    assert [pad_rows(number) for number in ROWS] == list(ROWS)


def test_a_batch_of_sequences_has_one_that_is_a_step_shorter() -> None:
    x, lengths = padded_batch(Tensors.packed([np.array([4, 5, 6])]), 3)
    assert x.tolist() == [[4, 5, 6], [4, 5, 6], [4, 5, 0]]
    assert lengths is not None
    assert lengths.tolist() == [3, 3, 2]
    assert padded_batch(Tensors.packed([np.array([4])]), 2)[0].tolist() == [[4], [4]]


def test_a_batch_of_dense_rows_has_no_lengths() -> None:
    x, lengths = padded_batch(Tensors(np.ones((1, 2, 2), np.float32)), 2)
    assert (x.shape, lengths) == ((2, 2, 2), None)
