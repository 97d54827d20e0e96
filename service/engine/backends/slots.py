"""Memory for one batch at a time, and what was recorded on it.

Shapes: B rows, T steps, O outputs.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from models.preprocess.tensors import Array
from service.engine.backends.gpu import Gpu, Line, Step

Forward = Callable[[Tensor, Tensor | None], Tensor]
"""(B, O) float32 on the device for x and lengths that lie there; it waits for nothing."""
Shape = tuple[int, ...]

MOST_GRAPHS = 128


@dataclass(frozen=True, slots=True)
class Extent:
    """What a slot has place for: `rows`, and over all of them `numbers` of `dtype`; `outputs` for each row."""

    rows: int
    numbers: int
    dtype: torch.dtype
    outputs: int
    is_ragged: bool

    def holds(self, shape: Shape) -> bool:
        """Whether a batch of this shape fits."""
        return shape[0] <= self.rows and prod(shape) <= self.numbers

    def grown(self, shape: Shape) -> "Extent":
        """At least twice as large where it is too small, so that it seldom grows."""
        rows = self.rows if shape[0] <= self.rows else max(2 * self.rows, shape[0])
        numbers = self.numbers if prod(shape) <= self.numbers else max(2 * self.numbers, prod(shape))
        return Extent(rows, numbers, self.dtype, self.outputs, self.is_ragged)


class Slot:
    """One batch at a time runs in it. What is recorded reads and writes this slot's memory, and is gone with it.

    Of shapes at most MOST_GRAPHS stay recorded, those that were run last.
    """

    def __init__(self, gpu: Gpu, forward: Forward, extent: Extent) -> None:
        self._gpu = gpu
        self._forward = forward
        self.extent = extent
        self._line = gpu.line()
        self._x = _Staged(gpu, extent.numbers, extent.dtype)
        self._lengths = _Staged(gpu, extent.rows, torch.int64) if extent.is_ragged else None
        self._outputs = _Staged(gpu, extent.rows * extent.outputs, torch.float32)
        self._graphs: OrderedDict[Shape, Step] = OrderedDict()

    @property
    def num_bytes(self) -> int:
        """What it takes of the device's memory."""
        return sum(staged.device.nbytes for staged in (self._x, self._lengths, self._outputs) if staged is not None)

    def knows(self, shape: Shape) -> bool:
        """Whether batches of this shape are recorded."""
        return shape in self._graphs

    def capture(self, shape: Shape) -> None:
        """Record batches of this shape. Raises NotCaptured."""
        self._graphs[shape] = self._gpu.capture(self._step(shape))
        if len(self._graphs) > MOST_GRAPHS:
            self._graphs.popitem(last=False)

    def run(self, x: Array, lengths: Array | None) -> Array:
        """(B, O) float32 for a batch that the extent holds; as recorded, or else as it is."""
        self._x.send(self._line, x)
        if self._lengths is not None and lengths is not None:
            self._lengths.send(self._line, lengths)
        self._line.compute(self._recalled(x.shape) or self._step(x.shape))
        num_outputs = len(x) * self.extent.outputs
        self._outputs.receive(self._line, num_outputs)
        self._line.wait()
        # A copy, because the next batch's answers come to the same place.
        answers: Array = self._outputs.host[:num_outputs].reshape(len(x), -1).numpy().copy()
        return answers

    def _recalled(self, shape: Shape) -> Step | None:
        graph = self._graphs.get(shape)
        if graph is not None:
            self._graphs.move_to_end(shape)
        return graph

    def _step(self, shape: Shape) -> Step:
        x = self._x.device[: prod(shape)].view(shape)
        lengths = None if self._lengths is None else self._lengths.device[: shape[0]]
        outputs = self._outputs.device[: shape[0] * self.extent.outputs].view(shape[0], -1)

        def step() -> None:
            outputs.copy_(self._forward(x, lengths))

        return step


class _Staged:
    """The same numbers on the host and on the device."""

    def __init__(self, gpu: Gpu, size: int, dtype: torch.dtype) -> None:
        self.host = gpu.pinned(size, dtype)
        self.device = gpu.memory(size, dtype)

    def send(self, line: Line, array: Array) -> None:
        numbers = array.size
        self.host[:numbers].view(array.shape).copy_(torch.from_numpy(array))
        line.copy(self.device[:numbers], self.host[:numbers])

    def receive(self, line: Line, numbers: int) -> None:
        line.copy(self.host[:numbers], self.device[:numbers])
