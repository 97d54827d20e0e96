from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.preprocess import Preprocessor, Tensors
from models.preprocess.numeric import Scale
from models.training.augment import ImageAugmentation
from models.training.batches import Batch, Rows, pad, shuffled_batches

PLAIN = Preprocessor([], {}.__getitem__)


def epoch(rows: Rows, batch_size: int, seed: int = 0) -> list[Batch]:
    rng = np.random.default_rng(seed)
    return [rows.batch(indices, rng) for indices in rows.order(batch_size, rng)]


def sequences(*lengths: int) -> list[np.ndarray]:
    return [np.full(n, i + 2, np.int64) for i, n in enumerate(lengths)]


def test_packed_rows_are_padded_with_zeros_to_the_longest() -> None:
    x, lengths = pad(Tensors.packed(sequences(3, 1, 2)))
    assert x.tolist() == [[2, 2, 2], [3, 0, 0], [4, 4, 0]]
    assert lengths is not None
    assert lengths.tolist() == [3, 1, 2]
    assert lengths.dtype == x.dtype == torch.int64


def test_packed_vectors_keep_their_features() -> None:
    x, lengths = pad(Tensors.packed([np.ones((2, 3), np.float32), np.ones((4, 3), np.float32)]))
    assert x.shape == (2, 4, 3)
    assert x[0, 2:].abs().sum() == 0
    assert lengths is not None


def test_dense_rows_stay_as_they_are() -> None:
    x, lengths = pad(Tensors(np.ones((2, 1, 3, 3), np.float32)))
    assert x.shape == (2, 1, 3, 3)
    assert lengths is None


@given(n=st.integers(1, 200), batch_size=st.integers(1, 40), ragged=st.booleans(), seed=st.integers(0, 99))
def test_an_epoch_has_every_row_once(n: int, batch_size: int, ragged: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 50, n) if ragged else None
    batches = list(shuffled_batches(lengths, n, batch_size, rng))
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert max(map(len, batches)) <= batch_size
    assert len(batches) == -(-n // batch_size)


def test_rows_of_like_length_come_together() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 400, 2000)
    padding = sum(int((lengths[b].max() - lengths[b]).sum()) for b in shuffled_batches(lengths, 2000, 32, rng))
    assert padding < 0.05 * lengths.sum()


def test_rows_in_order_of_length_keep_their_indices_and_targets() -> None:
    rows = Rows(sequences(5, 1, 3), np.array([10, 11, 12]), PLAIN)
    seen = {}
    for indices, batch in rows.in_order_of_length(2):
        assert batch.lengths is not None
        for i, x, length, target in zip(indices, batch.x, batch.lengths, batch.targets, strict=True):
            seen[int(i)] = (x[:length].tolist(), int(target))
    assert seen == {0: ([2] * 5, 10), 1: ([3], 11), 2: ([4] * 3, 12)}


def test_images_are_changed_before_preprocessing_and_only_in_training() -> None:
    images = np.arange(2 * 9, dtype=np.uint8).reshape(2, 1, 3, 3)
    halve = Preprocessor([Scale(factor=0.5, offset=1.0)], {}.__getitem__)
    rows = Rows(images, np.array([0, 1]), halve, augmentation=ImageAugmentation(flip=1.0))
    expected = {0: images[0, :, :, ::-1] * 0.5 + 1, 1: images[1, :, :, ::-1] * 0.5 + 1}
    (batch,) = epoch(rows, 2)
    for x, target in zip(batch.x, batch.targets, strict=True):
        np.testing.assert_array_equal(x.numpy(), expected[int(target)])
    ((indices, unchanged),) = rows.in_order_of_length(2)
    np.testing.assert_array_equal(unchanged.x.numpy(), images[indices] * 0.5 + 1)


def test_token_dropout_strikes_training_batches_only() -> None:
    rows = Rows(sequences(*[50] * 20), np.zeros(20, np.int64), PLAIN, token_dropout=0.5)
    training = Counter(int(i) for batch in epoch(rows, 5) for i in batch.x.flatten())
    assert 400 < training[1] < 600
    plain = Counter(int(i) for _, batch in rows.in_order_of_length(5) for i in batch.x.flatten())
    assert plain[1] == 0


def test_no_rows_make_no_batches() -> None:
    assert list(shuffled_batches(None, 0, 4, np.random.default_rng(0))) == []


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_generator_gives_the_same_epoch(seed: int) -> None:
    rows = Rows(sequences(*range(1, 30)), np.arange(29), PLAIN, token_dropout=0.2)
    one, two = ([batch.x.tolist() for batch in epoch(rows, 4, seed)] for _ in range(2))
    assert one == two
