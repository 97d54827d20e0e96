"""What is asked of a GPU, of a real one and of the host's memory in its place."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from service.engine.backends.gpu import CudaGpu, Gpu, NotCaptured
from service.engine.device_memory import free_memory, peak_of
from tests.service.engine.backends.host_gpu import HostGpu

Open = Callable[[], Gpu]
SIZE = 1 << 20
PARTS = [
    pytest.param(HostGpu, id="host"),
    pytest.param(lambda: CudaGpu(torch.device("cuda", 0)), id="cuda", marks=pytest.mark.gpu),
]


@pytest.mark.parametrize("open_gpu", PARTS)
@pytest.mark.parametrize("is_captured", [False, True])
def test_a_step_reads_what_was_sent_before_it_and_its_answer_is_received_after_it(
    open_gpu: Open, is_captured: bool
) -> None:
    gpu = open_gpu()
    sent, received = (gpu.pinned(SIZE, torch.float32) for _ in range(2))
    x, y = (gpu.memory(SIZE, torch.float32) for _ in range(2))
    line = gpu.line()

    def double() -> None:
        torch.add(x, x, out=y)

    step = gpu.capture(double) if is_captured else double
    for number in range(1, 6):
        sent.fill_(number)
        line.copy(x, sent)
        line.compute(step)
        line.copy(received, y)
        line.wait()
        assert received.min() == received.max() == 2 * number


@pytest.mark.parametrize("open_gpu", PARTS)
def test_lines_wait_for_no_other_and_their_steps_mix_nothing_up(open_gpu: Open) -> None:
    gpu = open_gpu()
    lines = []
    for number in (1, 2, 3):
        sent, received = (gpu.pinned(SIZE, torch.int64) for _ in range(2))
        x, y, line = gpu.memory(SIZE, torch.int64), gpu.memory(SIZE, torch.int64), gpu.line()
        step = gpu.capture(lambda x=x, y=y: torch.mul(x, 3, out=y))
        sent.fill_(number)
        lines.append((number, sent, received, x, y, line, step))
    for _, sent, received, x, y, line, step in lines:
        line.copy(x, sent)
        line.compute(step)
        line.copy(received, y)
    for number, _, received, _, _, line, _ in reversed(lines):
        line.wait()
        assert received.min() == received.max() == 3 * number


@pytest.mark.parametrize("open_gpu", PARTS)
def test_what_recorded_steps_share_is_counted_and_outputs_outlive_the_steps_beside_them(open_gpu: Open) -> None:
    gpu = open_gpu()
    assert gpu.num_bytes == 0
    x, line = gpu.memory(SIZE, torch.float32), gpu.line()
    outputs = [gpu.memory(SIZE, torch.float32) for _ in range(3)]
    steps = [
        gpu.capture(lambda y=y, number=number: y.copy_((x + number) * (x + 1))) for number, y in enumerate(outputs)
    ]
    for step in reversed(steps):
        line.compute(step)
    line.wait()
    assert [float(y.max()) for y in outputs] == [0, 1, 2]
    assert gpu.num_bytes > 0


@pytest.mark.gpu
def test_a_step_that_waits_for_the_gpu_is_not_captured_and_the_gpu_goes_on() -> None:
    gpu = CudaGpu(torch.device("cuda", 0))
    x, y, line = gpu.memory(SIZE, torch.float32), gpu.memory(SIZE, torch.float32), gpu.line()
    with pytest.raises(NotCaptured):
        gpu.capture(lambda: y.fill_(float(x.max())))
    line.compute(gpu.capture(lambda: y.copy_(x + 1)))
    line.wait()
    assert y.min() == y.max() == 1


@pytest.mark.gpu
def test_what_is_pinned_is_pinned() -> None:
    assert CudaGpu(torch.device("cuda", 0)).pinned(8, torch.float32).is_pinned()


@pytest.mark.gpu
def test_recording_goes_well_beside_batches_of_others_and_waits_for_the_whole_gpu() -> None:
    device = torch.device("cuda", 0)
    gpu = CudaGpu(device)
    x, y = gpu.memory(SIZE, torch.float32), gpu.memory(SIZE, torch.float32)
    weights = torch.eye(64, device=device)

    def batch() -> None:
        assert float((weights @ weights).sum()) == 64

    with ThreadPoolExecutor(2) as threads:
        recorded = threads.submit(lambda: [gpu.capture(lambda: y.copy_(x + 1)) for _ in range(100)])
        others = threads.submit(lambda: [batch() for _ in range(1000)])
        while not (recorded.done() and others.done()):
            peak_of(batch, device)
            free_memory()
        line = gpu.line()
        for step in recorded.result():
            line.compute(step)
        line.wait()
    others.result()
    assert y.min() == y.max() == 1
