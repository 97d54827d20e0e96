"""Batches through slots and recorded steps, on the host's memory in place of a GPU's."""

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from models.architectures import build
from models.preprocess.tensors import Array
from service.domain import Precision
from service.engine.backends import slots
from service.engine.backends.base import NotBuilt, Place
from service.engine.backends.buckets import ROWS
from service.engine.backends.cuda_graphs import CudaGraphs, GraphedNetwork
from service.engine.backends.eager import Eager, EagerNetwork
from service.engine.backends.slots import Extent, Slot
from service.engine.plans import Plan
from service.engine.replica import Replica
from tests.patience import PATIENCE
from tests.service.engine.backends.host_gpu import HostGpu
from tests.service.engine.backends.test_backends import CPU, LENGTHS, made, reference, rows_of, samples_of
from tests.service.engine.networks import MAX_STEPS, NETWORKS, manifest_of
from tests.service.engine.test_precision import TOLERANCE_BF16, TOLERANCE_FP32, assert_the_same

ONE_WAY = [name for name in NETWORKS if "both" not in name]
TRANSFORMER = "transformer pre-norm, mean"


class Later:
    """Recordings that have to be done, in the order in which they were found to be."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def __call__(self, do: Callable[[], None]) -> None:
        self.due.append(do)

    def catch_up(self) -> None:
        due, self.due = self.due, []
        for do in due:
            do()


def graphed(gpu: HostGpu, name: str = "mlp", precision: Precision = Precision.FLOAT32, at_once: int = 2) -> Replica:
    return made(CudaGraphs(precision, open_gpu=lambda _: gpu), name, place=Place(CPU, 1, at_once))


def bare(gpu: HostGpu, later: Later, name: str = "mlp", rows: int = 4, at_once: int = 2) -> GraphedNetwork:
    """Nothing recorded yet, and place for `rows` rows of the MLP in each slot."""
    torch.manual_seed(0)
    plain = EagerNetwork(build(*NETWORKS[name][1].values()), Place(CPU, 1), Precision.FLOAT32)
    return GraphedNetwork(gpu, plain, Extent(rows, rows * 5, torch.float32, 3, False), None, at_once, later)


def batch(rows: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(rows, 5)).astype(np.float32)


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.BFLOAT16])
@pytest.mark.parametrize("name", ONE_WAY)
def test_a_row_is_answered_as_by_pytorch_alone_and_in_any_batch(name: str, precision: Precision) -> None:
    gpu = HostGpu()
    replica = graphed(gpu, name, precision)
    assert replica.execution.backend == "cuda-graphs", replica.execution.reason
    rows, ragged = rows_of(name)
    together, _ = replica.run(rows, ragged=ragged)
    exact = precision is Precision.FLOAT32
    assert_the_same(together, reference(name), TOLERANCE_FP32 if exact else 5e-2)
    alone = np.concatenate([replica.run([row], ragged=ragged)[0] for row in rows])
    assert_the_same(together, alone, TOLERANCE_FP32 if exact else TOLERANCE_BF16)
    assert gpu.num_replayed


def test_dense_networks_run_as_recorded_from_the_first_batch_on() -> None:
    gpu = HostGpu()
    replica = graphed(gpu, "cnn", at_once=2)
    assert gpu.num_captured == 3 * len(ROWS)
    for number in range(1, ROWS[-1] + 1):
        replica.run(rows_of("cnn")[0][:1] * number, ragged=False)
    assert gpu.num_eager == 0


def test_of_sequences_the_lengths_are_recorded_that_most_rows_have() -> None:
    gpu = HostGpu()
    replica = graphed(gpu, TRANSFORMER, at_once=1)
    assert gpu.num_captured == 2 * len(ROWS) * 4
    typical, rare = rows_of(TRANSFORMER, [17, 20])[0], rows_of(TRANSFORMER, [50])[0]
    replica.run(typical, ragged=True)
    assert gpu.num_eager == 0
    replica.run(rare, ragged=True)
    assert gpu.num_eager == 1


@pytest.mark.parametrize(("longest", "padded"), [(3, 8), (MAX_STEPS - 1, MAX_STEPS), (MAX_STEPS, MAX_STEPS)])
def test_sequences_are_padded_to_few_lengths_and_to_none_that_the_network_refuses(longest: int, padded: int) -> None:
    rows, _ = rows_of(TRANSFORMER, [longest, 1, 1, 1, 1])
    replica = graphed(HostGpu(), TRANSFORMER)
    found, fill = replica.run(rows, ragged=True)
    assert (fill.elements, fill.padding) == (6 * padded, 6 * padded - longest - 4)
    assert_the_same(found, made(Eager(), TRANSFORMER).run(rows, ragged=True)[0], TOLERANCE_FP32)


def test_a_shape_that_comes_again_is_recorded_later_and_nobody_waits_for_it() -> None:
    gpu, later = HostGpu(), Later()
    network = bare(gpu, later, at_once=1)
    network(batch(3), None)
    assert not later.due  # it may never come again
    network(batch(3), None)
    for _ in range(3):
        network(batch(3), None)  # in the slot that is left
    assert (len(later.due), gpu.num_captured, gpu.num_eager) == (1, 0, 5)
    later.catch_up()
    assert gpu.num_captured == 1
    while later.due or gpu.num_captured < 2:
        network(batch(3), None)  # the other slot's turn
        later.catch_up()
    before = gpu.num_eager
    network(batch(3), None)
    network(batch(3), None)
    assert gpu.num_eager == before


def test_what_can_not_be_recorded_runs_as_it_is_and_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    gpu, later = HostGpu(lambda: "it looks at the weather"), Later()
    network = bare(gpu, later)
    expected = network(batch(2), None)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            np.testing.assert_array_equal(network(batch(2), None), expected)
            later.catch_up()
    assert [record.reason for record in caplog.records] == ["it looks at the weather"]  # type: ignore[attr-defined]


def test_a_batch_that_fails_leaves_its_slot_to_others() -> None:
    network = bare(HostGpu(), Later(), at_once=1)
    expected = network(batch(2), None)
    for _ in range(4):
        with pytest.raises(ValueError, match="input must have shape"):
            network(np.ones((2, 4), np.float32), None)
    np.testing.assert_array_equal(network(batch(2), None), expected)


def test_a_batch_larger_than_was_foreseen_gets_a_larger_slot() -> None:
    network = bare(HostGpu(), Later(), rows=2, at_once=1)
    before = network.num_bytes
    large = network(batch(7), None)
    np.testing.assert_allclose(large[:2], network(batch(7)[:2], None), rtol=1e-5)
    assert network.num_bytes > before
    for _ in range(2):
        network(batch(7), None)
    settled = network.num_bytes  # both slots have grown
    network(batch(7), None)
    assert network.num_bytes == settled


def test_extents_grow_only_where_they_are_too_small() -> None:
    extent = Extent(4, 40, torch.int64, 2, True)
    assert extent.holds((4, 10))
    assert not extent.holds((5, 1))
    assert not extent.holds((4, 11))
    assert extent.grown((5, 1)) == Extent(8, 40, torch.int64, 2, True)
    assert extent.grown((3, 100)) == Extent(4, 300, torch.int64, 2, True)


def test_what_was_not_run_for_the_longest_is_recorded_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MOST_GRAPHS", 2)
    slot = Slot(HostGpu(), lambda x, _: x[:, :3], Extent(4, 20, torch.float32, 3, False))
    slot.capture((1, 5))
    slot.capture((2, 5))
    slot.run(batch(1), None)
    slot.capture((3, 5))
    assert [slot.knows((rows, 5)) for rows in (1, 2, 3)] == [True, False, True]


def test_an_answer_stays_what_it_was_when_its_slot_is_used_again() -> None:
    slot = Slot(HostGpu(), lambda x, _: x[:, :3], Extent(4, 20, torch.float32, 3, False))
    first = slot.run(batch(2, seed=1), None)
    slot.run(batch(2, seed=2), None)
    np.testing.assert_array_equal(first, batch(2, seed=1)[:, :3])


def test_what_a_smaller_batch_leaves_behind_plays_no_part_in_the_next() -> None:
    gpu = HostGpu()
    replica = graphed(gpu, TRANSFORMER, at_once=1)
    rows, _ = rows_of(TRANSFORMER, LENGTHS)
    expected = replica.run(rows[4:], ragged=True)[0]
    for _ in range(4):  # through all slots
        replica.run(rows, ragged=True)
    np.testing.assert_array_equal(replica.run(rows[4:], ragged=True)[0], expected)


@pytest.mark.parametrize("name", ["mlp", TRANSFORMER])
def test_threads_side_by_side_get_their_own_answers(name: str) -> None:
    replica = graphed(HostGpu(), name, at_once=2)
    batches = [rows_of(name, LENGTHS[number % 3 :], seed=number)[0] for number in range(12)]
    ragged = name == TRANSFORMER
    expected = [replica.run(rows, ragged=ragged)[0] for rows in batches]
    with ThreadPoolExecutor(4) as threads:  # more than slots
        found = [threads.submit(replica.run, rows, ragged=ragged) for rows in batches * 6]
    for number, answer in enumerate(found):
        np.testing.assert_allclose(answer.result()[0], expected[number % len(batches)], atol=1e-6)


def test_a_network_that_nobody_holds_any_more_is_gone_with_its_thread() -> None:
    gpu = HostGpu()
    plain = EagerNetwork(build(*NETWORKS["mlp"][1].values()), Place(CPU, 1), Precision.FLOAT32)
    network = GraphedNetwork(gpu, plain, Extent(4, 20, torch.float32, 3, False), None, 1)
    while not gpu.num_captured:
        network(batch(3), None)
    held = weakref.ref(network)
    del network
    gc.collect()
    for thread in recorders():
        thread.join(PATIENCE)
    assert not recorders()
    assert held() is None


def recorders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("record")]


def refusing(reason: str) -> CudaGraphs:
    return CudaGraphs(open_gpu=lambda _: HostGpu(lambda: reason))


def test_a_network_that_can_not_be_recorded_runs_on_pytorch_with_the_reason() -> None:
    replica = made(refusing("operation not permitted when stream is capturing"), "mlp", place=Place(CPU, 1))
    assert replica.execution.backend == "eager"
    reason = "this network can't be recorded as a CUDA graph: operation not permitted when stream is capturing"
    assert replica.execution.reason == reason
    rows, _ = rows_of("mlp")
    np.testing.assert_array_equal(replica.run(rows, ragged=False)[0], reference("mlp"))


@pytest.mark.parametrize(
    ("name", "compile", "reason"),
    [
        ("gru over features both ways", False, "reads both ways packs its rows on the host, which no CUDA graph can$"),
        ("lstm over features", True, "^torch.compile leaves LSTM and GRU as they are$"),
    ],
)
def test_some_networks_are_not_built(name: str, compile: bool, reason: str) -> None:  # noqa: A002
    backend = CudaGraphs(compile=compile, open_gpu=lambda _: HostGpu())
    network = build(*NETWORKS[name][1].values())
    with pytest.raises(NotBuilt, match=reason):
        backend.build(network, manifest_of(*NETWORKS[name]), samples_of(name), Place(CPU, 1))


@pytest.mark.compiler
def test_what_is_compiled_is_recorded_and_nothing_is_compiled_for_a_caller() -> None:
    gpu, name = HostGpu(), "mlp"
    replica = made(CudaGraphs(compile=True, open_gpu=lambda _: gpu), name, place=Place(CPU, 1))
    before = counters["stats"]["unique_graphs"]
    rows, ragged = rows_of(name)
    for number in range(1, len(rows) + 1):
        assert_the_same(replica.run(rows[:number], ragged=ragged)[0], reference(name)[:number], TOLERANCE_FP32)
    assert counters["stats"]["unique_graphs"] == before > 0
    assert gpu.num_eager == 0


def test_the_network_that_was_given_stays_as_it_is() -> None:
    network = build(*NETWORKS["mlp"][1].values())
    backend = CudaGraphs(Precision.BFLOAT16, open_gpu=lambda _: HostGpu())
    plan = Plan(backend, Place(CPU, 1), "it was asked for")
    replica = Replica(manifest_of(*NETWORKS["mlp"]), network, CPU, Precision.FLOAT32, samples_of("mlp"), plan)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert replica.num_bytes > sum(parameter.nbytes for parameter in network.parameters()) / 2


def test_it_says_where_it_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    assert CudaGraphs().why_not(CPU) == "CUDA graphs are for GPUs, and this engine's device is cpu"
    assert CudaGraphs().why_not(gpu) is None
    monkeypatch.setattr("service.engine.backends.cuda_graphs.find_spec", lambda _: None)
    assert CudaGraphs().why_not(gpu) is None
    reason = "torch.compile needs Triton on a GPU, which comes with PyTorch's CUDA build"
    assert CudaGraphs(compile=True).why_not(gpu) == reason
