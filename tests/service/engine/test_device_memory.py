import torch

from service.engine.device_memory import free_memory, peak_of, resident_bytes


def test_what_runs_on_a_cpu_has_no_peak_that_could_be_told() -> None:
    ran: list[int] = []
    assert peak_of(lambda: ran.append(1), torch.device("cpu")) == 0
    assert ran == [1]


def test_on_a_gpu_a_tensor_takes_whole_blocks() -> None:
    network = torch.nn.Linear(1, 1)
    assert resident_bytes(network, torch.device("cpu")) == 8
    assert resident_bytes(network, torch.device("cuda")) == 2 * 512


def test_memory_is_given_back() -> None:
    free_memory()
