import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.inputs import Column, ColumnsInput, ImageInput, TensorInput, TextInput
from models.raw_rows import take
from models.training.data import DataConfig, RawData, clean, digest, prepare, split

LOT = ColumnsInput(columns=[Column(name="lot", minimum=0, maximum=100)])
CONFIG = DataConfig(loader="any")


def columns(*rows: float, targets: list[float] | None = None, **options: object) -> RawData:
    values = np.array(rows, np.float64)[:, None]
    return RawData("lots", values, np.array(targets or [1.0] * len(rows)), **options)  # type: ignore[arg-type]


def test_each_kind_of_bad_row_is_dropped_and_counted() -> None:
    raw = columns(1, np.nan, 200, 1, 5, 7, targets=[1, 1, 1, 1, np.nan, 2], broken=3)
    kept, counts = clean(raw, LOT)
    assert kept.rows[:, 0].tolist() == [1, 7]
    assert counts.to_dict() == {
        "read": 9,
        "broken": 3,
        "missing": 2,
        "out_of_range": 1,
        "duplicates": 1,
        "duplicates_of_held_out": 0,
        "conflicting_duplicates": 0,
        "kept": 2,
    }


def test_of_duplicates_the_first_stays_and_contradictions_are_counted() -> None:
    raw = RawData("texts", ["good", "bad", "good"], np.array([1, 0, 0]))
    kept, counts = clean(raw, TextInput())
    assert kept.rows == ["good", "bad"]
    assert kept.targets.tolist() == [1, 0]
    assert (counts.duplicates, counts.conflicting_duplicates) == (1, 1)


def test_equal_inputs_with_other_records_are_no_duplicates() -> None:
    kept, counts = clean(columns(4, 4, 4, records=[b"house 1", b"house 2", b"house 1"]), LOT)
    assert len(kept.targets) == 2
    assert counts.duplicates == 1


def test_empty_and_overlong_texts_go() -> None:
    raw = RawData("texts", ["", "  ", "fine", "far too long"], np.array([0, 1, 0, 1]))
    kept, counts = clean(raw, TextInput(max_characters=6))
    assert kept.rows == ["fine"]
    assert (counts.missing, counts.out_of_range) == (2, 1)


def test_a_preset_test_set_stays_whole_and_training_rows_equal_to_it_go() -> None:
    held_out = np.array([False, False, False, True, True])
    kept, counts = clean(columns(1, 2, 3, 2, 2, held_out=held_out), LOT)
    assert kept.rows[:, 0].tolist() == [1, 3, 2, 2]
    assert kept.held_out is not None
    assert kept.held_out.tolist() == [False, False, True, True]
    assert counts.duplicates_of_held_out == 1


def test_pixels_beyond_0_to_255_are_out_of_range() -> None:
    images = np.full((3, 1, 2, 2), 10.0, np.float32)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 256, -1
    _, counts = clean(RawData("images", images, np.array([0, 1, 0])), ImageInput(channels=1, height=2, width=2))
    assert (counts.out_of_range, counts.kept) == (2, 1)


def test_sequences_are_checked_against_the_contracts_range() -> None:
    rows = [np.array([[1.0], [2.0]]), np.array([[1.0], [9.0]]), np.array([[np.nan]])]
    contract = TensorInput(shape=[-1, 1], maximum=5)
    kept, counts = clean(RawData("series", rows, np.array([0, 1, 1])), contract)
    assert len(kept.rows) == 1
    assert (counts.out_of_range, counts.missing) == (1, 1)


def test_when_nothing_is_left_it_says_so() -> None:
    with pytest.raises(ValueError, match="data set lots: no row of 3 is usable"):
        clean(columns(np.nan, 300, broken=1), LOT)


@given(n=st.integers(12, 300), seed=st.integers(0, 9))
def test_a_split_is_disjoint_complete_and_decided_by_its_seed(n: int, seed: int) -> None:
    config = DataConfig(loader="any", held_out=0.2, validation=0.25, split_seed=seed)
    parts = split(n, None, config)
    together = np.concatenate([parts.train, parts.validation, parts.held_out])
    assert sorted(together.tolist()) == list(range(n))
    assert len(parts.held_out) == round(n * 0.2)
    again = split(n, None, config)
    assert np.array_equal(parts.train, again.train)
    assert np.array_equal(parts.held_out, again.held_out)


def test_another_seed_splits_otherwise() -> None:
    one, two = (split(100, None, DataConfig(loader="any", split_seed=seed)) for seed in (0, 1))
    assert not np.array_equal(one.held_out, two.held_out)


def test_a_preset_test_set_is_the_held_out_part() -> None:
    held_out = np.arange(20) >= 15
    parts = split(20, held_out, DataConfig(loader="any", validation=0.2))
    assert parts.held_out.tolist() == [15, 16, 17, 18, 19]
    assert (len(parts.train), len(parts.validation)) == (12, 3)


def test_a_split_with_an_empty_part_is_refused() -> None:
    with pytest.raises(ValueError, match="3 rows are too few: validation would be empty"):
        split(3, None, DataConfig(loader="any", held_out=0.3, validation=0.1))


def test_the_digest_names_rows_targets_and_split() -> None:
    def dataset(rows: list[str], targets: list[int], seed: int = 0) -> str:
        raw = RawData("texts", rows, np.array(targets))
        return prepare(raw, TextInput(), DataConfig(loader="any", split_seed=seed, validation=0.3)).digest

    rows, targets = [f"text {i}" for i in range(10)], [0, 1] * 5
    assert dataset(rows, targets) == dataset(rows, targets)
    others = {
        dataset(rows, targets),
        dataset(rows[:9], targets[:9]),
        dataset(rows, targets[::-1]),
        dataset(rows, targets, seed=1),
    }
    assert len(others) == 4


def test_the_digest_keeps_neighbouring_texts_apart() -> None:
    # ["ab", "c"] and ["a", "bc"] have the same bytes in a row
    digests = {
        digest(prepare(RawData("t", [*rows, *"defghijk"], np.arange(10)), TextInput(), CONFIG))
        for rows in (["ab", "c"], ["a", "bc"])
    }
    assert len(digests) == 2


def test_take_works_on_arrays_and_lists() -> None:
    assert take(["a", "b", "c"], np.array([2, 0])) == ["c", "a"]
    assert np.array_equal(take(np.arange(3), np.array([2, 0])), [2, 0])
