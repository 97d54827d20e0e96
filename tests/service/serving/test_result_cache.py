from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.preprocess import Tensors
from service.domain import Execution, Precision, Ref
from service.registry.fleet import Standing, VersionState
from service.serving.result_cache import Loaded, Question, ResultCache

REF = Ref("fashion", 1)
ASKED = Loaded(REF, "digest", 0, None)
OTHER = Loaded(REF, "digest", 1, None)
ROW_BYTES = 4


def question(number: int, num_rows: int = 1, asked: Loaded = ASKED) -> Question:
    return Question.of(asked, Tensors(np.full((num_rows, 1), number, np.float32)))


def answer(num_rows: int = 1) -> np.ndarray:
    return np.zeros((num_rows, 1), np.float32)


def test_the_answer_that_was_not_used_for_longest_goes_first() -> None:
    cache = ResultCache(max_rows=2, max_bytes=1000)
    for number in (1, 2):
        cache.keep(question(number), answer())
    assert cache.get(question(1)) is not None
    cache.keep(question(3), answer())
    assert [cache.get(question(number)) is not None for number in (1, 2, 3)] == [True, False, True]


def test_an_answer_keeps_nothing_alive_that_came_with_it() -> None:
    cache, frame = ResultCache(max_rows=2, max_bytes=1000), np.zeros((9, 1), np.float32)
    cache.keep(question(1), frame[:1])
    kept = cache.get(question(1))
    assert kept is not None
    assert not np.shares_memory(kept, frame)


def test_inputs_and_outputs_count_as_bytes() -> None:
    cache = ResultCache(max_rows=100, max_bytes=4 * ROW_BYTES)
    for number in (1, 2, 3):
        cache.keep(question(number), answer())
    assert (len(cache), cache.num_bytes) == (2, 4 * ROW_BYTES)


@pytest.mark.parametrize(("max_rows", "max_bytes"), [(2, 1000), (100, 5 * ROW_BYTES)])
def test_what_is_larger_than_all_room_takes_nobodys_place(max_rows: int, max_bytes: int) -> None:
    cache = ResultCache(max_rows, max_bytes)
    cache.keep(question(1), answer())
    cache.keep(question(2, num_rows=3), answer(3))
    assert (len(cache), cache.num_rows) == (1, 1)
    assert cache.get(question(1)) is not None


@pytest.mark.parametrize(("asked", "left"), [([ASKED], 1), ([OTHER], 1), ([ASKED, OTHER], 2), ([], 0)])
def test_what_was_asked_of_others_is_forgotten(asked: list[Loaded], left: int) -> None:
    cache = ResultCache(max_rows=9, max_bytes=1000)
    for each in (ASKED, OTHER):
        cache.keep(question(1, asked=each), answer())
    cache.keep_only(asked)
    assert len(cache) == left


def test_only_what_could_change_an_answer_makes_a_question_another() -> None:
    how = Execution("eager", Precision.FLOAT32, 2, "nothing was tried here yet", pending=True)

    def loaded(**changes: Any) -> Loaded:
        return Loaded.of(REF, Standing(VersionState.LOADED, "digest", execution=replace(how, **changes)))

    assert loaded(reason="other back ends are being tried on it") == loaded(pending=False) == loaded()
    for changes in ({"backend": "openvino"}, {"precision": Precision.BFLOAT16}, {"threads": 1}):
        assert loaded(**changes) != loaded()
    assert Loaded.of(REF, Standing(VersionState.LOADED, "digest")) == Loaded(REF, "digest", 0, None)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), max_size=30), st.integers(1, 8), st.integers(1, 60))
def test_its_bounds_hold_whatever_is_kept(kept: list[tuple[int, int]], max_rows: int, max_bytes: int) -> None:
    cache = ResultCache(max_rows, max_bytes)
    for number, num_rows in kept:
        cache.keep(question(number, num_rows), answer(num_rows))
        assert cache.num_rows <= max_rows
        assert cache.num_bytes <= max_bytes
    held = [(n, k) for n, k in set(kept) if cache.get(question(n, k)) is not None]
    assert len(cache) == len(held)
    assert cache.num_rows == sum(num_rows for _, num_rows in held)
    assert cache.num_bytes == 2 * ROW_BYTES * cache.num_rows
