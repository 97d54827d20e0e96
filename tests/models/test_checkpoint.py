import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from models import checkpoint
from models.architectures import Network, build
from models.checkpoint import WeightsMismatch
from models.checkpoint_files import verify
from models.manifest import WEIGHTS, Architecture, BrokenCheckpoint

CNN = Architecture(
    family="cnn",
    config={"input": [1, 6, 6], "blocks": [{"channels": 3, "batch_norm": True}], "dense": [4], "outputs": 2},
)
FIELDS: dict[str, Any] = {
    "model": "shapes",
    "version": 1,
    "architecture": CNN,
    "task": "multiclass",
    "input": {"kind": "image", "channels": 1, "height": 6, "width": 6},
    "labels": ["round", "square"],
}


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return build(CNN.family, CNN.config).eval()


def test_a_written_checkpoint_verifies_and_loads(tmp_path: Path, network: Network) -> None:
    folder = tmp_path / "shapes" / "1"
    written = checkpoint.write(folder, FIELDS, network, files={"notes.txt": b"hello"}, dtype="float32")
    assert verify(folder) == written
    assert (folder / "notes.txt").read_bytes() == b"hello"
    loaded = checkpoint.load(folder)
    x = torch.rand(2, 1, 6, 6)
    assert not loaded.training
    assert torch.equal(loaded(x), network(x))


def test_float16_storage_loads_as_float32(tmp_path: Path, network: Network) -> None:
    checkpoint.write(tmp_path / "1", FIELDS, network, dtype="float16")
    loaded = checkpoint.load(tmp_path / "1")
    assert {tensor.dtype for tensor in loaded.parameters()} == {torch.float32}
    x = torch.rand(2, 1, 6, 6)
    torch.testing.assert_close(loaded(x), network(x), rtol=0, atol=5e-3)


def test_wrong_weights_name_every_parameter_that_is_wrong(network: Network) -> None:
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    del state["output.bias"]
    state["head.bias"] = torch.zeros(2)
    state["dense.0.weight"] = torch.zeros(4, 5)
    with pytest.raises(WeightsMismatch) as raised:
        checkpoint.from_bytes(save(state), CNN)
    assert raised.value.missing == ["output.bias"]
    assert raised.value.unexpected == ["head.bias"]
    assert raised.value.misshapen == ["dense.0.weight is (4, 5), expected (4, 27)"]
    assert isinstance(raised.value, BrokenCheckpoint)


def test_a_batch_norms_counter_may_be_there_or_not(network: Network) -> None:
    state = network.state_dict()
    assert "blocks.0.norm.num_batches_tracked" in state
    checkpoint.from_bytes(save(state), CNN)
    assert b"num_batches_tracked" not in checkpoint.to_bytes(state)


def test_nan_in_the_weights_is_refused(network: Network) -> None:
    state = network.state_dict()
    state["output.bias"] = torch.tensor([0.0, float("nan")])
    with pytest.raises(BrokenCheckpoint, match=r"NaN or infinite numbers in output\.bias"):
        checkpoint.from_bytes(save(state), CNN)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_floating_type_loads_as_float32(network: Network, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    loaded = checkpoint.from_bytes(save(state), CNN)
    assert loaded.state_dict()["output.weight"].dtype == torch.float32
    assert torch.equal(loaded.state_dict()["output.weight"], state["output.weight"].float())


def test_whole_numbers_are_no_weights(network: Network) -> None:
    state = {**network.state_dict(), "output.bias": torch.tensor([1, 2])}
    with pytest.raises(BrokenCheckpoint, match=r"output\.bias is stored as int64, expected float16"):
        checkpoint.from_bytes(save(state), CNN)


def test_loading_leaves_torchs_random_state_alone(network: Network) -> None:
    data = checkpoint.to_bytes(network.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    checkpoint.from_bytes(data, CNN)
    assert torch.rand(1) == expected


def test_loading_does_not_import_torchs_compiler() -> None:
    program = """
import sys
from models import checkpoint
from models.architectures import build
from models.manifest import Architecture
encoder = Architecture(family="transformer", config={"vocabulary": 9, "width": 4, "layers": 1, "heads": 2,
    "feedforward": 8, "max_length": 5, "outputs": 1})
data = checkpoint.to_bytes(build(encoder.family, encoder.config).state_dict())
checkpoint.from_bytes(data, encoder)
assert "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_weights_beyond_float16_are_not_written_as_such(network: Network) -> None:
    state = network.state_dict()
    state["output.bias"] = torch.tensor([0.0, 1e6])
    with pytest.raises(ValueError, match=r"output\.bias holds numbers that are not finite as float16"):
        checkpoint.to_bytes(state, "float16")
    checkpoint.to_bytes(state, "float32")


def test_what_is_no_safetensors_file_is_refused() -> None:
    with pytest.raises(BrokenCheckpoint, match="no safetensors file"):
        checkpoint.from_bytes(b"\x80\x04\x95 a pickle", CNN)


def test_a_task_that_needs_other_outputs_is_refused(tmp_path: Path, network: Network) -> None:
    checkpoint.write(tmp_path / "1", {**FIELDS, "labels": ["a", "b", "c"]}, network)
    with pytest.raises(BrokenCheckpoint, match="needs 3 outputs, the architecture has 2"):
        checkpoint.load(tmp_path / "1")


def test_a_wrong_architecture_is_a_broken_checkpoint(tmp_path: Path, network: Network) -> None:
    checkpoint.write(tmp_path / "1", {**FIELDS, "architecture": {"family": "perceptron", "config": {}}}, network)
    with pytest.raises(BrokenCheckpoint, match="unknown architecture 'perceptron'"):
        checkpoint.load(tmp_path / "1")


def test_checkpoints_are_immutable(tmp_path: Path, network: Network) -> None:
    checkpoint.write(tmp_path / "1", FIELDS, network)
    with pytest.raises(FileExistsError, match="immutable"):
        checkpoint.write(tmp_path / "1", FIELDS, network)


def test_a_checkpoint_that_fails_leaves_nothing_behind(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(tmp_path / "1", FIELDS, network)
    assert list(tmp_path.iterdir()) == []


def test_files_can_not_leave_the_folder(tmp_path: Path, network: Network) -> None:
    with pytest.raises(ValueError, match="files"):
        checkpoint.write(tmp_path / "1", FIELDS, network, files={"../elsewhere": b""})
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_on_disk_is_json_with_every_file(tmp_path: Path, network: Network) -> None:
    checkpoint.write(tmp_path / "1", FIELDS, network, files={"reference.json": b"{}"})
    content = json.loads((tmp_path / "1" / "manifest.json").read_bytes())
    assert set(content["files"]) == {WEIGHTS, "reference.json"}
    assert content["files"]["reference.json"]["size"] == 2
