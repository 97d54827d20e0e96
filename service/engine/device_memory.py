"""What replicas and their batches take of a device's memory, and giving it back."""

import ctypes
import sys
from collections.abc import Callable

import torch
from torch import nn

from service.engine.devices import device_at_large

# What a tensor takes on a GPU is a multiple of this (CUDACachingAllocator.cpp, kMinBlockSize).
_GPU_BLOCK_BYTES = 512


def resident_bytes(network: nn.Module, device: torch.device) -> int:
    """What a network's parameters and buffers take; memory that several of them share counts once."""
    storages = [tensor.untyped_storage() for tensor in (*network.parameters(), *network.buffers())]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    block = _GPU_BLOCK_BYTES if device.type == "cuda" else 1
    return sum(-(-size // block) * block for size in sizes.values())


def peak_of(run: Callable[[], None], device: torch.device) -> int:
    """Run, and return the bytes of a GPU's memory that this took at its peak beyond what was taken before.

    0 on a CPU, where what is taken can't be told from what other threads take.
    """
    if device.type != "cuda":
        run()
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    with device_at_large:
        torch.cuda.synchronize(device)
    return max(0, torch.cuda.max_memory_allocated(device) - before)


def free_memory() -> None:
    """Give back what PyTorch and the C library keep of the device's and the machine's memory for later."""
    if torch.cuda.is_available():
        with device_at_large:
            torch.cuda.empty_cache()
    elif sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        # The supervisor has glibc keep what large tensors leave, which is right for batches and not for a replica.
        trim(0)
