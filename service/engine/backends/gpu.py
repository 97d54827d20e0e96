"""The little that a network needs of a GPU to run by CUDA graphs: memory that stays where it is, copies beside what
computes, and work that is recorded once and run again.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from service.engine.backends.base import in_brief
from service.engine.devices import device_at_large
from service.engine.failures import Failure, failure_of

Step = Callable[[], object]
"""Enqueues work on memory that stays where it is. It neither waits for the device nor reads what that computed."""


class NotCaptured(Exception):
    """A step can't be recorded; the text says why."""


class Line(Protocol):
    """Copies between the host's and the device's memory, and steps: one after another, in the order in which they came.

    A line waits for no other one, but the steps of a device run one after another, whichever line has them.
    """

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Begin to copy numbers to where as many have place."""
        ...

    def compute(self, step: Step) -> None:
        """Begin a step."""
        ...

    def wait(self) -> None:
        """Return once all is done that was begun; until then the interpreter's other threads run."""
        ...


class Gpu(Protocol):
    """A network's part of a GPU; several threads may use it at once, and one of them each line."""

    @property
    def num_bytes(self) -> int:
        """What the recorded steps keep of the device's memory, in bytes."""
        ...

    def pinned(self, size: int, dtype: torch.dtype) -> Tensor:
        """(size,) zeros in memory of the host that the device can copy from and to while the host goes on."""
        ...

    def memory(self, size: int, dtype: torch.dtype) -> Tensor:
        """(size,) zeros in memory of the device."""
        ...

    def line(self) -> Line:
        """Another line."""
        ...

    def capture(self, step: Step) -> Step:
        """Run a step as it is, then record it: what is returned does the same with a single call.

        Nothing else may use the step's memory meanwhile. Raises NotCaptured, and what CUDA says where the device is
        lost.
        """
        ...


class CudaLine:
    """Copies on a stream of its own: in one for all, a batch would be sent after the answers of the one before it."""

    def __init__(self, device: torch.device, computing: torch.cuda.Stream) -> None:
        self._computing = computing
        self._copying = _new_stream(device)
        self._sent, self._computed, self._received = (_new_event() for _ in range(3))

    def copy(self, target: Tensor, source: Tensor) -> None:
        """Asynchronous, because the host's side is pinned."""
        with torch.cuda.stream(self._copying):
            target.copy_(source, non_blocking=True)

    def compute(self, step: Step) -> None:
        """On the stream on which all networks compute."""
        self._sent.record(self._copying)
        with torch.cuda.stream(self._computing):
            self._computing.wait_event(self._sent)
            step()
            self._computed.record(self._computing)
        self._copying.wait_event(self._computed)

    def wait(self) -> None:
        """PyTorch lets go of the interpreter's lock for it."""
        self._received.record(self._copying)
        self._received.synchronize()


class CudaGpu:
    """All networks of a GPU compute on its default stream, PyTorch's own among them.

    So what graphs share may be shared: the memory of a network's intermediate results, which is one pool for all its
    graphs, and the workspaces that cuBLAS keeps for each thread and stream, which a graph goes on using that was
    recorded with them. That is also why a step is warmed up on the default stream and not on the one that records.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._computing = torch.cuda.default_stream(device)
        self._recording = _recording_stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    @property
    def num_bytes(self) -> int:
        """The segments of the graphs' pool."""
        segments = torch.cuda.memory_snapshot(self._pool)  # type: ignore[no-untyped-call]
        return sum(segment["total_size"] for segment in segments)

    def pinned(self, size: int, dtype: torch.dtype) -> Tensor:
        """Allocated at once: CUDA takes long to pin memory."""
        return torch.zeros(size, dtype=dtype, pin_memory=True)

    def memory(self, size: int, dtype: torch.dtype) -> Tensor:
        """Zeros, because an id that was never sent must be a valid one too."""
        zeros = torch.zeros(size, dtype=dtype, device=self._device)
        self._computing.synchronize()  # copies do not wait for what computes
        return zeros

    def line(self) -> CudaLine:
        """Copies on a stream of its own."""
        return CudaLine(self._device, self._computing)

    def capture(self, step: Step) -> Step:
        """Beside other threads' work, which mode `thread_local` allows; but nobody may wait for the whole device.

        Not by torch.cuda.graph, which gives back all unused memory before: other batches would wait for that.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(self._computing):
                step()
            self._computing.synchronize()
            with device_at_large, torch.cuda.stream(self._recording):
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    step()
                    graph.capture_end()
                except BaseException:
                    self._abandon(graph)
                    raise
        except Exception as error:
            self._raise_if_lost(error)
            raise NotCaptured(in_brief(error)) from error
        return graph.replay

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """End a recording that is broken, which each of these calls may say once more.

        A PyTorch without its pull request 180395 would take it to be under way for ever, and give back no memory then.
        """
        with suppress(Exception):
            graph.capture_end()
        with suppress(Exception):
            torch._C._cuda_endAllocateToPool(self._recording.device_index, self._pool)

    def _raise_if_lost(self, error: Exception) -> None:
        """What can't be recorded and what breaks the device are both CUDA errors; only the latter stay."""
        if failure_of(error) is not Failure.DEVICE:
            return
        try:
            self._computing.synchronize()
        except Exception as still:
            raise still from error


@cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    # Of a priority of its own: PyTorch has 32 streams of each and hands them out in turn, and what another thread
    # copied on this one would be recorded.
    return _new_stream(device, priority=-1)


def _new_stream(device: torch.device, priority: int = 0) -> torch.cuda.Stream:
    return torch.cuda.Stream(device, priority=priority)  # type: ignore[no-untyped-call]


def _new_event() -> torch.cuda.Event:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]
