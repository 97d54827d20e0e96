import numpy as np
import pytest

from service.domain import Ref
from service.errors import DeadlineExceeded, PredictionFailed, QuarantinedInput
from service.serving.outputs import joined
from service.wire.inference import Outputs

REF = Ref("m", 1)


def answered(*values: float, queue: float = 0.0, compute: float = 0.0) -> Outputs:
    return Outputs(np.array([values], np.float32), {}, queue, compute)


def test_rows_keep_their_places_and_the_longest_times_count() -> None:
    outputs = joined(REF, [answered(1, 2, queue=0.5, compute=0.1), answered(3, 4, queue=0.25, compute=0.2)])
    assert outputs.values.tolist() == [[1, 2], [3, 4]]
    assert outputs[1:] == ({}, 0.5, 0.2, frozenset())


def test_a_row_that_failed_has_its_reason_and_its_neighbours_their_answers() -> None:
    failed = Outputs(np.zeros((1, 0), np.float32), {0: "not finite"}, 0.0, 0.0)
    outputs = joined(REF, [failed, PredictionFailed(REF, "the engine failed"), answered(1, 2), QuarantinedInput(REF)])
    assert outputs.values.tolist() == [[0, 0], [0, 0], [1, 2], [0, 0]]
    assert outputs.failures == {0: "not finite", 1: "the engine failed", 3: str(QuarantinedInput(REF))}
    assert outputs.quarantined == {3}


def test_where_every_row_failed_there_are_no_values() -> None:
    outputs = joined(REF, [PredictionFailed(REF, "the engine failed"), QuarantinedInput(REF)])
    assert outputs.values.shape == (2, 0)
    assert set(outputs.failures) == {0, 1}


def test_a_request_of_nothing_but_quarantined_rows_is_refused() -> None:
    with pytest.raises(QuarantinedInput):
        joined(REF, [QuarantinedInput(REF), QuarantinedInput(REF)])


def test_what_keeps_one_row_from_being_answered_keeps_the_request() -> None:
    with pytest.raises(DeadlineExceeded):
        joined(REF, [answered(1), DeadlineExceeded(REF, "the engine")])
