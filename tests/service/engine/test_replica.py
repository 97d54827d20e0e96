"""A loaded version, and promise 1: a row's answer is its own, alone and in any batch."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models import checkpoint
from models.architectures import build
from models.checkpoint_files import CheckpointFiles
from models.manifest import MANIFEST, WEIGHTS, BrokenCheckpoint
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Ref
from service.engine.failures import DeviceLost
from service.engine.replica import Replica
from service.engine.runner import Fill
from service.errors import BrokenContract
from service.wire.report import Wanted
from tests import checkpoints
from tests.service.engine.networks import (
    IMAGE,
    MAX_STEPS,
    NETWORKS,
    ROW,
    TOKENS,
    VECTORS,
    manifest_of,
    rows_for,
)

CPU = torch.device("cpu")
TOLERANCE = 1e-5  # of the logits' scale, float32


@cache
def replica_of(name: str) -> Replica:
    contract, architecture = NETWORKS[name]
    torch.manual_seed(0)
    network = build(architecture["family"], architecture["config"])
    for parameter in network.parameters():  # larger than fresh ones, so that a leak would show
        parameter.data.mul_(2.0)
    return Replica(manifest_of(contract, architecture), network, CPU)


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, MAX_STEPS), min_size=2, max_size=12),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_rows_answer_is_the_same_alone_and_in_any_batch(name: str, lengths: list[int], order: Any, seed: int) -> None:
    contract, replica = NETWORKS[name][0], replica_of(name)
    rows, ragged = rows_for(contract, lengths, seed), contract in (TOKENS, VECTORS)
    alone = np.concatenate([replica.run([row], ragged=ragged)[0] for row in rows])
    scale = max(1.0, float(np.abs(alone).max()))
    together, _ = replica.run(rows, ragged=ragged)
    np.testing.assert_allclose(together, alone, rtol=0, atol=TOLERANCE * scale)
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    half = shuffled[: len(rows) // 2 + 1]  # other neighbours, another longest row, another place
    elsewhere, _ = replica.run([rows[index] for index in half], ragged=ragged)
    np.testing.assert_allclose(elsewhere, alone[half], rtol=0, atol=TOLERANCE * scale)


def test_a_replica_keeps_no_training_behaviour() -> None:
    contract, architecture = NETWORKS["mlp"]
    torch.manual_seed(0)
    network = build("mlp", {**architecture["config"], "dropout": 0.5}).train()
    replica = Replica(manifest_of(contract, architecture), network, CPU)
    row = [np.ones(5, np.float32)]
    assert replica.run(row, ragged=False)[0].tolist() == replica.run(row, ragged=False)[0].tolist()


# What a batch was made of


def test_padding_is_counted() -> None:
    replica = replica_of("lstm forward, last, 1 layers")
    rows = [np.ones(length, np.int64) for length in (3, 10, 7)]
    assert replica.run(rows, ragged=True)[1] == Fill(elements=30, padding=10)


def test_dense_rows_have_no_padding() -> None:
    assert replica_of("cnn").run(rows_for(IMAGE, [1, 1], 0), ragged=False)[1] == Fill(elements=2, padding=0)


def test_answers_are_float32_one_line_a_row() -> None:
    outputs, _ = replica_of("cnn").run(rows_for(IMAGE, [1, 1], 0), ragged=False)
    assert (outputs.shape, outputs.dtype) == ((2, 3), np.float32)


class Answering(nn.Module):
    """A network that gives what it was told to, whatever it reads."""

    def __init__(self, *shape: int, value: float = 0.0) -> None:
        super().__init__()
        self.shape, self.value = shape, value

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return torch.full(self.shape, self.value)


@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (2, 4), (2,), (2, 3, 1)])
def test_outputs_of_a_wrong_shape_break_the_contract(shape: tuple[int, ...]) -> None:
    network: Any = Answering(*shape)
    replica = Replica(manifest_of(*NETWORKS["mlp"]), network, CPU)
    with pytest.raises(BrokenContract, match="outputs of the network"):
        replica.run(rows_for(ROW, [1, 1], 0), ragged=False)


def test_an_embedding_may_have_any_width() -> None:
    network: Any = Answering(1, 17)
    replica = Replica(manifest_of(*NETWORKS["mlp"], task="embedding", labels=[]), network, CPU)
    assert replica.run(rows_for(ROW, [1], 0), ragged=False)[0].shape == (1, 17)


# Loading


def load(folder: Path, **more: Any) -> Replica:
    """A warm replica of a checkpoint."""
    replica = Replica.load(Wanted(Ref("m", 1), folder, **more), CPU)
    replica.warm_up()
    return replica


def test_every_kind_of_checkpoint_loads_and_is_warm(tmp_path: Path) -> None:
    checkpoints.write_one_of_each(tmp_path)
    folders = [folder for model in tmp_path.iterdir() for folder in model.iterdir()]
    assert len(folders) == 8
    for folder in folders:
        assert load(folder).manifest.model == folder.parent.name


def reason_for(folder: Path, **more: Any) -> str:
    with pytest.raises(BrokenCheckpoint) as raised:
        load(folder, **more)
    return str(raised.value)


def damage(folder: Path, **changes: Any) -> Path:
    manifest = orjson.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(orjson.dumps({**manifest, **changes}))
    return folder


@pytest.mark.parametrize(("minimum", "maximum"), [(0, 10), (-1, 9)])
def test_ids_outside_of_the_embedding_are_refused(tmp_path: Path, minimum: int, maximum: int) -> None:
    checkpoints.write_ids(tmp_path)
    ids = {"kind": "tensor", "shape": [-1], "dtype": "int64", "max_length": 8, "minimum": minimum, "maximum": maximum}
    reason = reason_for(damage(tmp_path / "codes" / "1", input=ids))
    assert reason == f"the input allows ids from {minimum:.1f} to {maximum:.1f}, the embedding has 0 to 9"


def test_steps_that_cant_be_loaded_are_not_the_networks_fault(tmp_path: Path) -> None:
    checkpoints.write_text(tmp_path)
    step = {"step": "tokenize", "file": "vocabulary.json", "max_length": 64}
    reason = reason_for(damage(tmp_path / "mood" / "1", preprocess=[step]))
    assert reason.startswith("its preprocessing can't be loaded: vocabulary.json is no tokenizer file")


def test_weights_that_give_nan_are_refused_by_the_warm_up(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("mlp", {"inputs": 4, "hidden": [], "outputs": 1})
    for parameter in network.parameters():
        parameter.data.fill_(3e38)
    fields = {
        "model": "m",
        "version": 1,
        "architecture": {"family": "mlp", "config": {"inputs": 4, "hidden": [], "outputs": 1}},
        "task": "regression",
        "input": {"kind": "tensor", "shape": [4], "minimum": 10, "maximum": 20},
        "target": {"name": "x"},
    }
    checkpoint.write(tmp_path / "1", fields, network, dtype="float32")
    assert reason_for(tmp_path / "1") == "the network answers a sample input with NaN or infinity"


def test_a_width_that_is_not_the_tasks_is_refused(tmp_path: Path) -> None:
    checkpoints.write_columns(tmp_path)
    folder = damage(tmp_path / "rent" / "1", task="multiclass", labels=["a", "b"])
    assert "2 labels needs 2 outputs, the architecture has 1" in reason_for(folder)


def test_an_input_that_the_network_cannot_read_is_refused(tmp_path: Path) -> None:
    checkpoints.write_vector(tmp_path)
    folder = damage(tmp_path / "sensors" / "1", input={"kind": "tensor", "shape": [5]})
    assert reason_for(folder).startswith("the network failed on a sample input: input must have shape (B, 4)")


def test_preprocessing_that_cannot_run_is_refused(tmp_path: Path) -> None:
    checkpoints.write_steps(tmp_path)
    folder = damage(tmp_path / "motion" / "1", preprocess=[{"step": "normalize", "mean": [0] * 3, "std": [1] * 3}])
    assert "the step 'normalize' takes pictures" in reason_for(folder)


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    checkpoints.write_vector(tmp_path)
    path = tmp_path / "sensors" / "1" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    assert "its sha256 differs" in reason_for(path.parent)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    checkpoints.write_vector(tmp_path)
    architecture = {"family": "mlp", "config": {"inputs": 4, "hidden": [6], "outputs": 3}}
    assert "doesn't fit the architecture" in reason_for(damage(tmp_path / "sensors" / "1", architecture=architecture))


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ({"family": "mamba", "config": {}}, "unknown architecture 'mamba'"),
        ({"family": "mlp", "config": {"inputs": 0, "outputs": 3}}, "inputs: "),
        ({"family": "mlp", "config": {"inputs": 1 << 24, "hidden": [1 << 24], "outputs": 3}}, "doesn't fit"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_refused(tmp_path: Path, architecture: Any, said: str) -> None:
    checkpoints.write_vector(tmp_path)
    assert said in reason_for(damage(tmp_path / "sensors" / "1", architecture=architecture))


@pytest.mark.parametrize(("identity", "is_checked"), [("", False), ("f" * 64, True)])
def test_a_checkpoint_that_changed_since_it_was_found_is_refused(
    tmp_path: Path, identity: str, is_checked: bool
) -> None:
    checkpoints.write_vector(tmp_path)
    folder = tmp_path / "sensors" / "1"
    load(folder, identity=CheckpointFiles(folder).identity)
    if is_checked:
        assert reason_for(folder, identity=identity) == (
            "its files changed since they were found; register them as a new version, or restart the service"
        )
    else:
        load(folder, identity=identity)


def test_loading_runs_nothing_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.write_vector(tmp_path)
    runs: list[Sequence[Array]] = []
    monkeypatch.setattr(Replica, "run", lambda self, rows, *, ragged: (runs.append(rows), 1 / 0))
    replica = Replica.load(Wanted(Ref("sensors", 1), tmp_path / "sensors" / "1"), CPU)
    assert (runs, len(replica.canary)) == ([], 1)


# Memory


def test_a_replica_takes_what_its_weights_take() -> None:
    assert replica_of("linear").num_bytes == 4 * (5 * 3 + 3)


def test_weights_that_are_shared_count_once_and_buffers_count_too() -> None:
    network: Any = nn.Module()
    network.one = nn.Linear(10, 10, bias=False)
    network.other = nn.Linear(10, 10, bias=False)
    network.other.weight = network.one.weight
    network.register_buffer("table", torch.zeros(7))
    assert Replica(manifest_of(*NETWORKS["mlp"]), network, CPU).num_bytes == 400 + 28


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (RuntimeError("CUDA error: device-side assert triggered"), DeviceLost),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (RuntimeError("sizes differ"), BrokenCheckpoint),
    ],
)
def test_a_warm_up_tells_a_lost_device_and_lacking_memory_from_a_broken_network(
    raised: Exception, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(Replica, "run", fail)
    samples = [Tensors(np.zeros((1, 5), np.float32))]
    network: Any = Answering(1, 3)
    with pytest.raises(expected):
        Replica(manifest_of(*NETWORKS["mlp"]), network, CPU, samples=samples).warm_up()
