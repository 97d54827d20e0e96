"""int8 for OpenVINO: whatever multiplies by constant weights is given the range of what it reads, as a constant too.

The ranges are measured once, on rows that the version ships. So a row's answer depends on no other row (promise 1):
ranges measured on each batch, which int8 without such rows would need, break it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from models.preprocess.tensors import Array
from service.engine.backends.base import NotBuilt

# Rows that the ranges are measured on, a few at a time.
_NUM_ROWS = 64
_ROWS_AT_ONCE = 8
_LEAST_RANGE = 1e-8
# OpenVINO's signed bytes: -128..127, and for weights -127..127.
_ACTIVATION_LEVELS, _WEIGHT_LEVELS = 256, 255


def quantise(model: Any, rows: Sequence[Array], *, ragged: bool, compiled: Callable[[Any], Any]) -> None:
    """Have a float32 model multiply in int8, in place. Raises NotBuilt without rows, and where nothing can be.

    `compiled` makes a model ready to be called, in float32.
    """
    from openvino import opset13

    if not len(rows):
        raise NotBuilt("int8 needs rows to measure ranges on, and the version ships none: no evaluation.npz")
    nodes = list(_multiplications(model))
    if not nodes:
        raise NotBuilt("there is nothing that int8 would multiply")
    inputs = [node.input_value(0) for node in nodes]
    ranges = _ranges(model, inputs, batches(rows[:_NUM_ROWS], ragged=ragged), compiled)
    for node, read, (lowest, highest) in zip(nodes, inputs, ranges, strict=True):
        bounds = [opset13.constant(np.float32(bound)) for bound in _bounds(lowest, highest)]
        node.input(0).replace_source_output(opset13.fake_quantize(read, *bounds, *bounds, _ACTIVATION_LEVELS).output(0))
        weights = np.array(node.input_value(1).get_node().data, np.float32)
        # One scale for each output: its weights lie along all axes but one.
        if node.get_type_name() == "Convolution":
            axes: tuple[int, ...] = tuple(range(1, weights.ndim))
        else:
            axes = (-1 if node.get_attributes()["transpose_b"] else -2,)
        most = np.maximum(np.abs(weights).max(axis=axes, keepdims=True), np.float32(_LEAST_RANGE))
        bounds = [opset13.constant(bound) for bound in (-most, most)]
        scaled = opset13.fake_quantize(opset13.constant(weights), *bounds, *bounds, _WEIGHT_LEVELS)
        node.input(1).replace_source_output(scaled.output(0))
    model.validate_nodes_and_infer_types()


def batches(rows: Sequence[Array], *, ragged: bool) -> Iterator[tuple[Array, ...]]:
    """A few rows at a time, each sequence with others as long: an added step would count in the ranges."""
    groups: dict[int, list[Array]] = {}
    for row in rows:
        groups.setdefault(len(row) if ragged else 0, []).append(row)
    for length, alike in groups.items():
        for start in range(0, len(alike), _ROWS_AT_ONCE):
            x = np.stack(alike[start : start + _ROWS_AT_ONCE])
            yield (x, np.full(len(x), length, np.int64)) if ragged else (x,)


def _multiplications(model: Any) -> Iterator[Any]:
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "MatMul") and _is_constant(node.input_value(1)):
            yield node


def _is_constant(output: Any) -> bool:
    return bool(output.get_node().get_type_name() == "Constant")


def _ranges(
    model: Any, outputs: Sequence[Any], some: Iterable[tuple[Array, ...]], compiled: Callable[[Any], Any]
) -> list[tuple[float, float]]:
    """The lowest and highest number of each output over all batches."""
    from openvino import Model, opset13

    ends = []
    for output in outputs:
        axes = opset13.constant(np.arange(output.get_partial_shape().rank.get_length(), dtype=np.int64))
        ends += [opset13.result(reduce(output, axes, False)) for reduce in (opset13.reduce_min, opset13.reduce_max)]
    probe = compiled(Model(ends, model.get_parameters()))
    found = np.array([[float(end) for end in probe(batch).values()] for batch in some])
    return list(zip(found[:, ::2].min(axis=0).tolist(), found[:, 1::2].max(axis=0).tolist(), strict=True))


def _bounds(lowest: float, highest: float) -> tuple[float, float]:
    """What the bytes stand for at their ends: unsigned ones where nothing is negative."""
    most = max(abs(lowest), abs(highest), _LEAST_RANGE)
    return (0.0, most) if lowest >= 0 else (-most * 128 / 127, most)
