"""What an exception of a run means. The one place that looks into messages: PyTorch raises plain RuntimeErrors too."""

from enum import Enum, auto

import torch

_MEMORY_MESSAGES = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
# What CUDA says once its context is broken; from then on it says so to every call.
_DEVICE_MESSAGES = (
    "CUDA error",
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "misaligned address",
    "uncorrectable ECC error",
    "CUDNN_STATUS_EXECUTION_FAILED",
    "CUBLAS_STATUS_EXECUTION_FAILED",
)


class Failure(Enum):
    """Whom an exception concerns."""

    ROWS = auto()
    """The rows, or one of them."""
    MEMORY = auto()
    """The size of the batch: fewer rows may run."""
    DEVICE = auto()
    """The process: its device answers nothing any more."""


class DeviceLost(Exception):
    """The device is in an error that only a new process clears."""


def failure_of(error: Exception) -> Failure:
    """What an exception of a run means."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return Failure.MEMORY
    if isinstance(error, RuntimeError):
        said = str(error)
        if any(message in said for message in _MEMORY_MESSAGES):
            return Failure.MEMORY
        if isinstance(error, torch.AcceleratorError) or any(message in said for message in _DEVICE_MESSAGES):
            return Failure.DEVICE
    return Failure.ROWS
