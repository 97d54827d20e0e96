"""Ranges for int8: measured on the rows alone, one for each multiplication, and constants from then on."""

from typing import Any

import numpy as np
import pytest

from models.preprocess.tensors import Array
from service.engine.backends.base import NotBuilt
from service.engine.backends.quantised import batches, quantise

WEIGHTS = np.array([[0.5, -2.0, 0.25], [1.0, 0.0, 4.0]], np.float32)


def test_dense_rows_come_a_few_at_a_time() -> None:
    rows = [np.full((2, 2), number, np.float32) for number in range(11)]
    found = list(batches(rows, ragged=False))
    assert [[array.shape for array in batch] for batch in found] == [[(8, 2, 2)], [(3, 2, 2)]]
    np.testing.assert_array_equal(np.concatenate([x for (x,) in found]), np.stack(rows))


def test_sequences_come_with_others_as_long_so_that_no_padding_counts() -> None:
    rows = [np.arange(1, length + 1) for length in (3, 2, 3)]
    found = [(x.tolist(), lengths.tolist()) for x, lengths in batches(rows, ragged=True)]
    assert found == [([[1, 2, 3], [1, 2, 3]], [3, 3]), ([[1, 2]], [2])]


def compiled(model: Any) -> Any:
    import openvino

    return openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def linear(*, transposed: bool = True) -> Any:
    """3 numbers in, 2 out."""
    from openvino import Model, opset13

    x = opset13.parameter([-1, 3], np.float32)
    weights = opset13.constant(WEIGHTS if transposed else np.ascontiguousarray(WEIGHTS.T))
    return Model([opset13.matmul(x, weights, False, transposed)], [x])


def quantised(rows: list[list[float]], *, transposed: bool = True) -> Any:
    model = linear(transposed=transposed)
    quantise(model, [np.array(row, np.float32) for row in rows], ragged=False, compiled=compiled)
    return model


def answer(model: Any, *row: float) -> Array:
    found: Array = compiled(model)((np.array([row], np.float32),))[0][0]
    return found


@pytest.mark.openvino
@pytest.mark.parametrize("transposed", [True, False])
def test_what_was_measured_is_answered_within_a_step_and_what_lies_beyond_is_cut_off(transposed: bool) -> None:
    model = quantised([[1.0, 0.0, -1.0], [0.5, 1.0, 0.2]], transposed=transposed)
    row = np.array([0.7, -0.3, 0.9], np.float32)
    np.testing.assert_allclose(answer(model, *row), WEIGHTS @ row, atol=(1 / 127) * np.abs(WEIGHTS).sum())
    np.testing.assert_allclose(answer(model, 100.0, 0.0, 0.0), WEIGHTS @ [1.0, 0.0, 0.0], atol=0.02)


@pytest.mark.openvino
def test_what_is_never_negative_has_all_steps_above_zero() -> None:
    model = quantised([[1.0, 0.0, 2.55]])
    np.testing.assert_allclose(answer(model, -1.0, 0.0, 0.0), [0.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(answer(model, 0.014, 0.0, 0.0), 0.01 * WEIGHTS[:, 0], rtol=0.02)


@pytest.mark.openvino
def test_each_output_has_a_scale_of_its_own() -> None:
    model = quantised([[1.0, 1.0, 1.0]])
    found = np.stack([answer(model, *row) for row in np.eye(3)], axis=1)
    steps = np.abs(WEIGHTS).max(axis=1, keepdims=True) / 127
    np.testing.assert_array_less(np.abs(found - WEIGHTS), 0.51 * steps + 1e-2 * np.abs(WEIGHTS))


@pytest.mark.openvino
def test_it_is_multiplied_in_bytes() -> None:
    (multiplying,) = (
        node
        for node in compiled(quantised([[1.0, 0.5, 2.0]])).get_runtime_model().get_ordered_ops()
        if node.get_rt_info()["layerType"].value in ("FullyConnected", "MatMul")
    )
    assert multiplying.get_rt_info()["runtimePrecision"].value in ("i8", "u8")


@pytest.mark.openvino
def test_nothing_to_multiply_by_is_said() -> None:
    from openvino import Model, opset13

    x = opset13.parameter([-1, 3], np.float32)
    with pytest.raises(NotBuilt, match="there is nothing that int8 would multiply"):
        quantise(Model([opset13.relu(x)], [x]), [np.zeros(3, np.float32)], ragged=False, compiled=compiled)
