"""A GPU whose memory is the host's, for what is to be tested without one."""

from collections.abc import Callable

import torch
from torch import Tensor

from service.engine.backends.gpu import NotCaptured, Step


class HostLine:
    """Nothing that was begun is done before somebody waits for it: as late as a GPU may be."""

    def __init__(self, gpu: "HostGpu") -> None:
        self._gpu = gpu
        self._begun: list[Step] = []

    def copy(self, target: Tensor, source: Tensor) -> None:
        self._begun.append(lambda: target.copy_(source))

    def compute(self, step: Step) -> None:
        self._gpu.num_eager += not isinstance(step, Recorded)
        self._begun.append(step)

    def wait(self) -> None:
        begun, self._begun = self._begun, []
        for step in begun:
            step()


class HostGpu:
    """Records a step by keeping it, and counts. `refuse` says why a step can't be recorded, if it can't."""

    def __init__(self, refuse: Callable[[], str | None] = lambda: None) -> None:
        self.num_captured = self.num_replayed = self.num_eager = 0
        self._refuse = refuse

    @property
    def num_bytes(self) -> int:
        return self.num_captured

    def pinned(self, size: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(size, dtype=dtype)

    def memory(self, size: int, dtype: torch.dtype) -> Tensor:
        return torch.zeros(size, dtype=dtype)

    def line(self) -> HostLine:
        return HostLine(self)

    def capture(self, step: Step) -> Step:
        if (reason := self._refuse()) is not None:
            raise NotCaptured(reason)
        step()
        self.num_captured += 1
        return Recorded(self, step)


class Recorded:
    """A step that was recorded."""

    def __init__(self, gpu: HostGpu, step: Step) -> None:
        self._gpu, self._step = gpu, step

    def __call__(self) -> None:
        self._gpu.num_replayed += 1
        self._step()
