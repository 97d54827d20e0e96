import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Ref
from service.errors import (
    BrokenContract,
    DeadlineExceeded,
    NotLoaded,
    NotReady,
    Overloaded,
    PredictionFailed,
    QueueFull,
    ServoloopError,
)
from service.wire.frames import Frame, Kind
from service.wire.inference import (
    MOST_BYTES,
    InferHeader,
    InferRequest,
    InferResult,
    Outputs,
    error_in,
    failed_frame,
    infer_frame,
    requests_in,
    result_frames,
    results_in,
)
from tests.frames import sent

REF = Ref("m", 1)
META = {"model": "m", "version": 1}
IDS = st.integers(0, 2**63 - 1)
SECONDS = st.floats(0, 1e6)


def dense(number: int) -> Tensors:
    return Tensors(np.random.default_rng(number).random((number, 2, 3), np.float32))


def ragged(*lengths: int) -> Tensors:
    return Tensors.packed([np.arange(length) for length in lengths])


def assert_alike(found: Tensors, expected: Tensors) -> None:
    np.testing.assert_array_equal(found.values, expected.values, strict=True)
    if expected.lengths is None:
        assert found.lengths is None
    else:
        np.testing.assert_array_equal(found.lengths, expected.lengths, strict=True)


@given(
    st.one_of(
        st.lists(st.integers(1, 4).map(dense), min_size=1, max_size=5),
        st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3).map(lambda some: ragged(*some)), min_size=1),
    ),
    st.integers(0, 9),
    st.data(),
)
def test_requests_arrive_as_they_were_sent(rows: list[Tensors], priority: int, data: st.DataObject) -> None:
    asked = [InferRequest(data.draw(IDS), data.draw(SECONDS), tensors) for tensors in rows]
    header, found = requests_in(sent(infer_frame(InferHeader(REF, priority), asked)))
    assert header == InferHeader(REF, priority)
    assert [one.request_id for one in found] == [one.request_id for one in asked]
    assert [one.time_left for one in found] == pytest.approx([one.time_left for one in asked], abs=2e-6)
    for one, expected in zip(found, rows, strict=True):
        assert_alike(one.tensors, expected)


def test_a_row_that_runs_alone_carries_its_digest() -> None:
    header, _ = requests_in(sent(infer_frame(InferHeader(REF, digest=b"d" * 16), [InferRequest(1, 1.0, dense(1))])))
    assert header.digest == b"d" * 16


def test_rows_of_a_frame_are_not_copied_out_of_it() -> None:
    frame = sent(infer_frame(InferHeader(REF), [InferRequest(1, 1.0, dense(2)), InferRequest(2, 1.0, dense(1))]))
    for one in requests_in(frame)[1]:
        assert np.shares_memory(one.tensors.values, frame.arrays[1])


@given(st.lists(st.tuples(IDS, st.integers(1, 3), st.integers(0, 2), SECONDS, SECONDS), min_size=1, max_size=6))
def test_answers_arrive_as_they_were_sent(drawn: list[tuple[int, int, int, float, float]]) -> None:
    answers = [
        InferResult(
            number,
            Outputs(np.full((rows, width), number % 7, np.float32), {rows - 1: "not finite"} if not width else {}, *t),
        )
        for number, rows, width, *t in drawn
    ]
    frames = result_frames(answers)
    assert len(frames) == len({width for _, _, width, _, _ in drawn})
    found = [answer for frame in frames for answer in results_in(sent(frame))]
    widths = [answer.outputs.values.shape[1] for answer in answers]
    expected = sorted(answers, key=lambda one: widths.index(one.outputs.values.shape[1]))
    for one, other in zip(found, expected, strict=True):
        assert (one.request_id, one.outputs.values.tolist()) == (other.request_id, other.outputs.values.tolist())
        if [each.request_id for each in answers].count(one.request_id) == 1:
            assert one.outputs.failures == other.outputs.failures
        times = other.outputs.queue_seconds, other.outputs.compute_seconds
        assert (one.outputs.queue_seconds, one.outputs.compute_seconds) == pytest.approx(times, abs=2e-6)


def test_failures_are_told_to_whose_rows_they_are() -> None:
    failures: list[dict[int, str]] = [{}, {0: "a", 1: "b"}, {1: "c"}]
    values = np.zeros((2, 3), np.float32)
    answers = [InferResult(number, Outputs(values, failed, 0, 0)) for number, failed in enumerate(failures)]
    (frame,) = result_frames(answers)
    assert [answer.outputs.failures for answer in results_in(sent(frame))] == failures


def test_large_answers_travel_by_themselves() -> None:
    large, small = np.zeros((1, MOST_BYTES // 4), np.float32), np.zeros((1, 3), np.float32)
    values = [large, small, large, small]
    answers = [InferResult(number, Outputs(each, {}, 0, 0)) for number, each in enumerate(values)]
    frames = result_frames(answers)
    assert [[one.request_id for one in results_in(sent(frame))] for frame in frames] == [[0], [1, 3], [2]]


def heads(*rows: tuple[int, ...]) -> Array:
    return np.array(rows, np.int64)


VALUES = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("meta", "arrays"),
    [
        ({}, [heads((1, 2, 0)), VALUES]),
        (META, []),
        (META, [heads((1, 2, 0))]),
        (META, [np.zeros((0, 3), np.int64), np.zeros((0, 3), np.float32)]),
        (META, [heads((1, 0, 0)), VALUES[:0]]),
        (META, [heads((1, 2, 0), (2, 0, 0)), VALUES]),
        (META, [heads((1, 3, 0)), VALUES]),
        (META, [heads((1, 3, 0), (2, -1, 0)), VALUES]),
        (META, [heads((1, 2, -1)), VALUES]),
        (META, [heads((1, 2)), VALUES]),
        (META, [heads((1, 2, 0)).astype(np.float64), VALUES]),
        (META, [heads((1, 2, 0))[0], VALUES]),
        (META, [heads((1, 2, 0)), np.zeros((), np.float32)]),
        (META, [heads((1, 2, 0)), np.zeros(3), np.array([1, 1], np.int32)]),
        (META, [heads((1, 2, 0)), np.zeros(3), np.array([4, -1], np.int32)]),
        (META, [heads((1, 2, 0)), np.zeros(3), np.array([3], np.int32)]),
        ({**META, "priority": 10}, [heads((1, 2, 0)), VALUES]),
        ({**META, "priority": "high"}, [heads((1, 2, 0)), VALUES]),
        ({**META, "alone": "zz"}, [heads((1, 1, 0)), VALUES[:1]]),
        ({**META, "alone": "00"}, [heads((1, 2, 0)), VALUES]),
    ],
)
def test_what_is_no_request_is_refused(meta: dict[str, object], arrays: list[Array]) -> None:
    with pytest.raises((BrokenContract, KeyError, TypeError, ValueError)):
        requests_in(Frame(Kind.INFER, meta=meta, arrays=arrays))


@pytest.mark.parametrize(
    ("meta", "arrays"),
    [
        ({}, []),
        ({}, [heads((1, 2, 0, 0))]),
        ({}, [np.zeros((0, 4), np.int64), VALUES[:0]]),
        ({}, [heads((1, 3, 0, 0)), VALUES]),
        ({}, [heads((1, 2, 0)), VALUES]),
        ({}, [heads((1, 2, 0, 0)), np.zeros(2, np.float32)]),
        ({}, [heads((1, 2, 0, 0)), np.zeros((), np.float32)]),
        ({"failures": {"1": {"x": ""}}}, [heads((1, 2, 0, 0)), VALUES]),
        ({"failures": {"1": ["x"]}}, [heads((1, 2, 0, 0)), VALUES]),
        ({"failures": "x"}, [heads((1, 2, 0, 0)), VALUES]),
    ],
)
def test_what_is_no_answer_is_refused(meta: dict[str, object], arrays: list[Array]) -> None:
    with pytest.raises((BrokenContract, TypeError, ValueError)):
        results_in(Frame(Kind.RESULT, meta=meta, arrays=arrays))


@pytest.mark.parametrize(
    ("error", "arrived"),
    [
        (QueueFull(REF, 3, 4, "bytes", 2.5), QueueFull(REF, 3, 4, "bytes", 2.5)),
        (Overloaded(REF, 4.0), Overloaded(REF, 4.0)),
        (DeadlineExceeded(REF, "the queue"), DeadlineExceeded(REF, "the queue")),
        (NotLoaded(REF, "it is being unloaded"), NotLoaded(REF, "it is being unloaded")),
        (NotReady(REF, "it is not loaded"), NotLoaded(REF, "it is not loaded")),
        (BrokenContract("rows", expected=1, got=2), PredictionFailed(REF, "the engine failed")),
    ],
)
def test_why_a_request_failed_arrives_with_its_facts(error: ServoloopError, arrived: ServoloopError) -> None:
    frame = sent(failed_frame(7, error))
    assert (frame.kind, frame.request_id) == (Kind.FAILED, 7)
    found = error_in(frame, REF)
    assert type(found) is type(arrived)
    assert vars(found) == vars(arrived)
