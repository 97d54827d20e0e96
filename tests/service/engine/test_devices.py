import os
from collections.abc import Iterator

import pytest
import torch

from service.engine.devices import open_device, own_device
from service.engine.memory import Memory


@pytest.fixture(autouse=True)
def _threads_as_they_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_auto_is_a_gpu_where_there_is_one() -> None:
    assert open_device("auto", 1).type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("wanted", "threads"), [(3, 3), (0, len(os.sched_getaffinity(0)))])
def test_threads_are_as_many_as_wanted_or_one_a_core(wanted: int, threads: int) -> None:
    open_device("cpu", wanted)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu:cpu"])
def test_what_names_no_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no device; expected auto, cpu, cuda or cuda:N"):
        open_device(name, 1)


@pytest.mark.parametrize("name", ["mps", "meta"])
def test_a_device_that_is_not_served_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is not supported"):
        open_device(name, 1)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=f"there is no device cuda:99; torch sees {torch.cuda.device_count()} GPUs"):
        open_device("cuda:99", 1)


@pytest.mark.gpu
def test_on_a_gpu_float32_is_not_rounded_to_ten_bits() -> None:
    torch.backends.cudnn.allow_tf32 = True
    open_device("cuda", 1)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


GIB = 1 << 30


class TwoGpus:
    """GPUs as torch would tell of them."""

    def count(self) -> int:
        return 2

    def title(self, index: int) -> str:
        return f"GPU number {index}"

    def memory(self, index: int) -> Memory:
        return Memory(free=(10 + index) * GIB, total=80 * GIB)


def test_on_a_cpu_half_of_what_is_free_is_for_replicas() -> None:
    machine = lambda: Memory(free=6 * GIB, total=8 * GIB)  # noqa: E731
    own = own_device(torch.device("cpu"), 0, machine=machine)
    assert (own.name, own.budget, own.peers, own.memory()) == ("cpu", 3 * GIB, ("cpu",), machine())
    assert own.title


def test_on_a_gpu_most_of_what_is_free_is_and_its_peers_are_named() -> None:
    own = own_device(torch.device("cuda", 1), 0, gpus=TwoGpus())
    assert (own.name, own.title, own.peers) == ("cuda:1", "GPU number 1", ("cuda:0", "cuda:1"))
    assert own.budget == int(0.9 * 11 * GIB)
    assert own.memory() == Memory(free=11 * GIB, total=80 * GIB)


@pytest.mark.parametrize("device", [torch.device("cpu"), torch.device("cuda", 0)])
def test_an_operators_budget_counts(device: torch.device) -> None:
    assert own_device(device, 123, gpus=TwoGpus()).budget == 123
