"""When torch.compile compiles, and when it does not: with a compiler that counts in place of the slow one."""

import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo

from models.architectures import build
from models.preprocess import Tensors
from service.domain import Precision
from service.engine.backends.base import NotBuilt, Place
from service.engine.backends.buckets import padded_batch
from service.engine.backends.inductor import Inductor, InductorNetwork
from tests.patience import PATIENCE
from tests.service.engine.backends.test_backends import rows_of, samples_of
from tests.service.engine.networks import NETWORKS, manifest_of

CPU = torch.device("cpu")


class Compiler:
    """Compiles to the network as it is; what was compiled says that it runs, and in other threads waits for `gate`."""

    def __init__(self) -> None:
        self.num_compiled = self.num_run = self.most_operations = 0
        self.runs, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def __call__(self, graph: torch.fx.GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
        self.num_compiled += 1

        def run(*inputs: Any) -> Any:
            self.num_run += 1
            self.most_operations = max(self.most_operations, len(graph.graph.nodes))
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
    return InductorNetwork(made, Place(CPU, 1), Precision.FLOAT32)


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


@pytest.mark.compiler
def test_past_the_most_that_is_compiled_a_network_is_not_built(compiler: Compiler) -> None:
    contract, architecture = NETWORKS["mlp"]
    made = build(architecture["family"], architecture["config"]).eval()
    manifest, samples = manifest_of(contract, architecture), samples_of("mlp")
    Inductor().build(deepcopy(made), manifest, samples, Place(CPU, 1))
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=1), pytest.raises(NotBuilt, match="limit"):
        Inductor().build(deepcopy(made), manifest, samples, Place(CPU, 1))


def test_what_is_compiled_runs_with_the_threads_it_was_made_for(compiler: Compiler) -> None:
    built = network()
    built.compile(rows(2), None)

    def run_elsewhere() -> int:
        torch.set_num_threads(2)
        compiler.num_run = 0
        built.forward(torch.from_numpy(rows(2)), None)
        return compiler.num_run

    compiler.gate.set()
    with ThreadPoolExecutor(1) as lane:
        assert lane.submit(run_elsewhere).result() == 1


@pytest.mark.compiler
@pytest.mark.parametrize(("name", "operations"), [("mlp", 15), ("cnn", 25), ("transformer pre-norm, mean", 50)])
def test_every_size_runs_compiled_and_other_weights_of_the_same_architecture_reuse_that(
    name: str, operations: int, compiler: Compiler
) -> None:
    contract, architecture = NETWORKS[name]
    num_compiled = []
    for seed in range(3):
        torch.manual_seed(seed)
        retrained = build(architecture["family"], architecture["config"]).eval()
        before = compiler.num_compiled
        manifest, samples = manifest_of(contract, architecture), samples_of(name)
        built = Inductor().build(deepcopy(retrained), manifest, samples, Place(CPU, 1))
        num_compiled.append(compiler.num_compiled - before)
        for number in (1, 5, 20, 32):
            some, ragged = rows_of(name, [9 + number])
            x, lengths = padded_batch(Tensors.packed(some) if ragged else Tensors(np.stack(some)), number)
            compiler.most_operations = 0
            found = built(x, lengths)
            assert compiler.most_operations >= operations  # not in small pieces, with PyTorch between them
            with torch.inference_mode():
                expected = retrained(*(None if each is None else torch.from_numpy(each) for each in (x, lengths)))
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
        if seed == 0:  # the second comes when the first is gone, the third beside the second
            del built, retrained
            gc.collect()
    assert num_compiled[0] > 0
    assert num_compiled[1:] == [0, 0]
