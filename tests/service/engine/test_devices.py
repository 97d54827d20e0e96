import os
from collections.abc import Iterator

import pytest
import torch

from service.engine.devices import open_device


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
