import pytest
import torch

from service.engine.failures import Failure, failure_of


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ValueError("input must have shape (B, 3)"), Failure.ROWS),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Failure.ROWS),
        (IndexError("index out of range in self"), Failure.ROWS),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), Failure.MEMORY),
        (MemoryError(), Failure.MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), Failure.MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), Failure.MEMORY),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), Failure.DEVICE),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), Failure.DEVICE),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), Failure.DEVICE),
        (ValueError("CUDA error: said by somebody else"), Failure.ROWS),
    ],
)
def test_what_an_exception_means(error: Exception, failure: Failure) -> None:
    assert failure_of(error) is failure


def test_the_allocators_own_exception_is_about_memory() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert failure_of(raised.value) is Failure.MEMORY
