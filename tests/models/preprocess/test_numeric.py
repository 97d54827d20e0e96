import numpy as np
import pytest
from pydantic import ValidationError

from models.preprocess import Tensors
from models.preprocess.numeric import Normalize, Pad, Scale, Standardize, Truncate
from models.preprocess.tensors import Array


def sequences(*rows: list[int]) -> Tensors:
    return Tensors.packed([np.array(row, np.int64) for row in rows])


def as_lists(tensors: Tensors) -> list[list[int]]:
    return [row.tolist() for row in tensors.rows()]


def test_scale_multiplies_then_adds_in_float32() -> None:
    out = Scale(factor=0.5, offset=-1).apply(Tensors(np.array([[0, 2, 255]], np.uint8))).values
    assert out.tolist() == [[-1, 0, 126.5]]
    assert out.dtype == np.float32


def test_a_step_leaves_what_it_was_given_as_it_was() -> None:
    raw = np.array([[1.0, 2.0]], np.float32)
    Scale(factor=10).apply(Tensors(raw))
    Standardize(mean=[1, 1], std=[1, 1]).apply(Tensors(raw))
    assert raw.tolist() == [[1.0, 2.0]]


def test_scaling_sequences_keeps_their_lengths() -> None:
    out = Scale(factor=2).apply(sequences([1, 2], [3]))
    assert as_lists(out) == [[2, 4], [6]]


def test_normalize_works_by_channel() -> None:
    rows = np.array([[[[10]], [[30]]], [[[20]], [[50]]]], np.uint8)
    out = Normalize(mean=[10, 10], std=[10, 20]).apply(Tensors(rows)).values
    assert out.tolist() == [[[[0]], [[1]]], [[[1]], [[2]]]]
    assert out.dtype == np.float32


def test_normalize_refuses_sequences_whose_lengths_it_would_lose() -> None:
    packed = Tensors.packed([np.zeros((2, 3)), np.zeros((1, 3))])
    with pytest.raises(
        ValueError, match=r"^the step 'normalize' takes pictures; for sequences there is 'standardize'$"
    ):
        Normalize(mean=[0, 0, 0], std=[1, 1, 1]).apply(packed)


def test_standardize_works_by_column() -> None:
    out = Standardize(mean=[70, 3], std=[20, 1]).apply(Tensors(np.array([[90.0, 3.0], [70.0, 1.0]]))).values
    assert out.tolist() == [[1, 0], [0, -2]]
    assert out.dtype == np.float32


def test_standardize_works_on_the_features_of_sequences() -> None:
    packed = Tensors.packed([np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0]])])
    out = Standardize(mean=[1, 2], std=[1, 2]).apply(packed)
    assert [row.tolist() for row in out.rows()] == [[[0, 0], [2, 1]], [[4, 2]]]


def test_standardize_works_on_the_features_of_padded_sequences() -> None:
    rows = Tensors(np.array([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]]))
    assert Standardize(mean=[1, 2], std=[1, 2]).apply(rows).values.tolist() == [[[0, 0], [2, 1], [4, 2]]]


def test_standardize_divides_in_float32() -> None:
    values = np.arange(1, 40, dtype=np.float32)
    out = Standardize(mean=[0.0] * 39, std=[0.3] * 39).apply(Tensors(values[None])).values
    np.testing.assert_array_equal(out[0], values / np.float32(0.3))
    assert (out[0] != (values.astype(np.float64) / 0.3).astype(np.float32)).any(), "by float64 some would be others"


@pytest.mark.parametrize("step", [Normalize(mean=[0, 0], std=[1, 1]), Standardize(mean=[0, 0], std=[1, 1])])
def test_as_many_means_as_columns_are_needed(step: Normalize | Standardize) -> None:
    with pytest.raises(ValueError, match="mean has 2 values for 3 channels or columns"):
        step.apply(Tensors(np.zeros((4, 3))))


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ([0.0, 0.0], [1.0], "mean has 2 values and std 1, they must be as many"),
        ([0.0], [1.0, 1.0], "mean has 1 values and std 2, they must be as many"),
        ([0.0], [0.0], "greater than 0"),
        ([0.0], [-1.0], "greater than 0"),
        ([float("nan")], [1.0], "finite"),
        ([0.0], [float("inf")], "finite"),
        ([], [], "at least 1"),
    ],
)
def test_a_declaration_that_would_give_no_numbers_is_refused(mean: list[float], std: list[float], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Standardize(mean=mean, std=std)


def test_the_head_is_kept_where_nothing_else_is_asked_for() -> None:
    assert as_lists(Truncate(max_length=2).apply(sequences([1, 2, 3]))) == [[1, 2]]


@pytest.mark.parametrize(("keep", "kept"), [("head", [[1, 2], [4], [5, 6]]), ("tail", [[2, 3], [4], [5, 6]])])
def test_truncate_keeps_the_head_or_the_tail(keep: str, kept: list[list[int]]) -> None:
    step = Truncate.model_validate({"max_length": 2, "keep": keep})
    out = step.apply(sequences([1, 2, 3], [4], [5, 6]))
    assert as_lists(out) == kept
    assert out.values.dtype == np.int64


def test_sequences_that_fit_are_not_touched() -> None:
    rows = sequences([1, 2, 3], [4])
    assert Truncate(max_length=3).apply(rows) is rows


@pytest.mark.parametrize(("keep", "kept"), [("head", [[1, 2], [4, 5]]), ("tail", [[2, 3], [5, 6]])])
def test_truncate_cuts_dense_rows_too(keep: str, kept: list[list[int]]) -> None:
    step = Truncate.model_validate({"max_length": 2, "keep": keep})
    assert step.apply(Tensors(np.array([[1, 2, 3], [4, 5, 6]]))).values.tolist() == kept


def test_pad_fills_at_the_end() -> None:
    out = Pad(length=3, value=7).apply(sequences([1, 2], [3]))
    assert out.lengths is None
    assert out.values.tolist() == [[1, 2, 7], [3, 7, 7]]
    assert out.values.dtype == np.int64


def test_pad_keeps_the_features_of_a_step() -> None:
    packed = Tensors.packed([np.ones((1, 2), np.float32), np.ones((2, 2), np.float32)])
    assert Pad(length=2).apply(packed).values.tolist() == [[[1, 1], [0, 0]], [[1, 1], [1, 1]]]


def test_pad_refuses_what_is_too_long() -> None:
    with pytest.raises(ValueError, match="pad to 2 can't hold a sequence of 3; truncate before"):
        Pad(length=2).apply(sequences([1, 2, 3]))


@pytest.mark.parametrize(
    ("tensors", "rows"),
    [
        (Tensors(np.array([[1, 2], [3, 4]])), [[1, 2], [3, 4]]),
        (sequences([1], [2, 3], [4]), [[1], [2, 3], [4]]),
        (sequences([1, 2, 3]), [[1, 2, 3]]),
    ],
)
def test_tensors_count_and_give_back_their_rows(tensors: Tensors, rows: list[list[int]]) -> None:
    assert len(tensors) == len(rows)
    assert as_lists(tensors) == rows


def test_packed_lengths_are_int32() -> None:
    lengths: Array | None = sequences([1], [2, 3]).lengths
    assert lengths is not None
    assert (lengths.dtype, lengths.tolist()) == (np.int32, [1, 2])
