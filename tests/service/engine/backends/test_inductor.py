"""When torch.compile compiles, and when it does not: with a compiler that counts in place of the slow one."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo

from models.architectures import build
from service.domain import Precision
from service.engine.backends.base import Place
from service.engine.backends.inductor import InductorNetwork
from tests.service.engine.networks import NETWORKS

PATIENCE = 10.0


class Compiler:
    """Compiles to the network as it is; what was compiled says that it runs, and in other threads waits for `gate`."""

    def __init__(self) -> None:
        self.num_compiled = self.num_run = 0
        self.runs, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, graph: torch.fx.GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
        self.num_compiled += 1

        def run(*inputs: Any) -> Any:
            self.num_run += 1
            self.runs.set()
            assert threading.current_thread() is threading.main_thread() or self.gate.wait(PATIENCE)
            return graph.forward(*inputs)

        return run


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compiler]:
    torch._dynamo.reset()  # only so many networks of one class are compiled, and other tests have compiled some
    compiler = Compiler()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    yield compiler
    torch._dynamo.reset()


def network() -> InductorNetwork:
    _, architecture = NETWORKS["mlp"]
    made = build(architecture["family"], architecture["config"])
    return InductorNetwork(made, Place(torch.device("cpu"), 1), Precision.FLOAT32)


def rows(number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.ones((number, 5), np.float32)


def test_nothing_is_compiled_while_a_caller_waits(compiler: Compiler) -> None:
    built = network()
    built.compile(rows(2), None)
    built(rows(3), None)
    assert (compiler.num_compiled, compiler.num_run) == (1, 2)
    built(rows(1), None)  # a size of its own, which was not foreseen
    assert (compiler.num_compiled, compiler.num_run) == (1, 2)


def test_another_network_is_compiled_while_one_runs(compiler: Compiler) -> None:
    running, loaded = network(), network()
    running.compile(rows(2), None)
    compiler.runs.clear()
    compiler.gate.clear()
    with ThreadPoolExecutor(1) as device:
        answer = device.submit(running, rows(2), None)
        assert compiler.runs.wait(PATIENCE)
        before = compiler.num_compiled
        loaded.compile(rows(1), None)
        compiler.gate.set()
        assert compiler.num_compiled == before + 1
        assert answer.result().shape == (2, 3)
