"""Which device this engine owns, how it is set up, and how much memory it has."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from service.engine.failures import DeviceLost, Failure, failure_of
from service.engine.memory import Memory, machine_memory, processor_name

# Of what is free when the engine starts, so much is for replicas; the rest is for batches, and on a CPU for all else
# that runs on the machine.
_CPU_SHARE, _GPU_SHARE = 0.5, 0.9

CPU = torch.device("cpu")

GPU_LANES = 2
"""Batches of a GPU under way at once: while one computes, another is sent or answered."""

device_at_large = threading.Lock()
"""Whoever records a CUDA graph holds it, and whoever waits for a whole device: while anything records, that fails."""


def open_device(name: str, threads: int) -> torch.device:
    """The device called `name` (auto, cpu, cuda, cuda:N); auto is a GPU where there is one.

    `threads` compute on a CPU, 0 is one a core. Raises ValueError where there is no such device.
    """
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} is no device; expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"there is no device {name}; torch sees {torch.cuda.device_count()} GPUs")
        device = torch.device("cuda", device.index or 0)
        # By default cuDNN multiplies what is float32 with ten bits, and another number of rows takes another kernel: a
        # row's answer would depend on its neighbours by more than promise 1 allows.
        torch.backends.cudnn.allow_tf32 = False
    elif device.type != "cpu":
        raise ValueError(f"{name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    return device


class Gpus(Protocol):
    """What there is to know of this machine's GPUs."""

    def count(self) -> int: ...

    def title(self, index: int) -> str: ...

    def memory(self, index: int) -> Memory: ...


class CudaGpus:
    """The GPUs that torch sees."""

    def count(self) -> int:
        return torch.cuda.device_count() if torch.cuda.is_available() else 0

    def title(self, index: int) -> str:
        return torch.cuda.get_device_name(index)

    def memory(self, index: int) -> Memory:
        """What this process's allocator keeps without using it counts as free: replicas may have it.

        Raises DeviceLost where the GPU answers nothing any more.
        """
        try:
            free, total = torch.cuda.mem_get_info(index)
        except Exception as error:
            if failure_of(error) is Failure.DEVICE:
                raise DeviceLost from error
            raise
        kept = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
        return Memory(free=free + kept, total=total)


@dataclass(frozen=True, slots=True)
class OwnDevice:
    """The device that an engine owns. `budget` are the bytes of its memory that are for replicas.

    `peers` names every device on which this machine could have an engine like this one, its own too.
    """

    name: str
    title: str
    budget: int
    peers: tuple[str, ...]
    memory: Callable[[], Memory]


def own_device(
    device: torch.device,
    budget: int,
    gpus: Gpus | None = None,
    machine: Callable[[], Memory] = machine_memory,
) -> OwnDevice:
    """What is known of the device at this moment; a budget of 0 is chosen by what is free now."""
    if device.type == "cpu":
        return OwnDevice("cpu", processor_name(), budget or int(_CPU_SHARE * machine().free), ("cpu",), machine)
    gpus, index = gpus or CudaGpus(), device.index or 0
    return OwnDevice(
        f"cuda:{index}",
        gpus.title(index),
        budget or int(_GPU_SHARE * gpus.memory(index).free),
        tuple(f"cuda:{number}" for number in range(gpus.count())),
        lambda: gpus.memory(index),
    )
