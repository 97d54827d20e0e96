"""From people's own weights to a checkpoint, with real files."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models import checkpoint
from models.check import check
from models.checkpoint_files import CheckpointFiles, verify
from models.convert import convert, main, read_state
from models.draft import read_draft
from models.manifest import WEIGHTS, BrokenCheckpoint, FileEntry, Manifest
from models.renames import rename

MANIFEST: dict[str, Any] = {
    "architecture": {"family": "mlp", "config": {"inputs": 4, "hidden": [3], "outputs": 2}},
    "task": "multiclass",
    "input": {"kind": "tensor", "shape": [4]},
    "labels": ["low", "high"],
}
RENAMES = {"0.": "hidden.0.", "2.": "output."}


def own_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def documented_state() -> dict[str, Tensor]:
    return rename(dict(own_network().state_dict()), RENAMES)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    path.write_bytes(orjson.dumps(MANIFEST))
    return path


def saved(folder: Path, content: Any, name: str = "net.pt") -> Path:
    path = folder / name
    torch.save(content, path)
    return path


def converted(manifest: Path, weights: Path, renames: Mapping[str, str | None] | None = None) -> Manifest:
    draft = read_draft(manifest, model="net", version=1)
    return convert(weights, draft, renames or {}, manifest.parent / "net" / "1")


def test_a_state_dict_becomes_a_checkpoint_that_answers_as_its_author_s_network(tmp_path: Path, manifest: Path) -> None:
    network = own_network()
    made = converted(manifest, saved(tmp_path, network.state_dict()), RENAMES)
    folder = tmp_path / "net" / "1"
    assert verify(folder) == made
    assert check(folder) == 23
    x = torch.randn(5, 4)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.load(folder)(x), network(x), rtol=0, atol=0)


@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod."])
def test_nests_and_wrappers_are_unpacked(tmp_path: Path, nest: str, wrapper: str) -> None:
    state = {f"{wrapper}{name}": tensor for name, tensor in documented_state().items()}
    assert read_state(saved(tmp_path, {nest: state, "epoch": 3})).keys() == documented_state().keys()


def test_only_what_stands_before_every_name_is_a_wrapper(tmp_path: Path) -> None:
    state = {"module.weight": torch.ones(1), "bias": torch.ones(1)}
    assert read_state(saved(tmp_path, state)).keys() == state.keys()


def test_a_legacy_file_is_read(tmp_path: Path, manifest: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save(documented_state(), path, _use_new_zipfile_serialization=False)
    assert converted(manifest, path).version == 1


def test_safetensors_are_taken_as_they_are(tmp_path: Path, manifest: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(documented_state(), path)
    converted(manifest, path)
    torch.testing.assert_close(load_file(tmp_path / "net" / "1" / WEIGHTS), documented_state(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (torch.float16, torch.float16),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float32),
    ],
)
def test_precision_is_kept_up_to_float32(
    tmp_path: Path, manifest: Path, given: torch.dtype, stored: torch.dtype
) -> None:
    state = {name: tensor.to(given) for name, tensor in documented_state().items()}
    converted(manifest, saved(tmp_path, state))
    for name, tensor in load_file(tmp_path / "net" / "1" / WEIGHTS).items():
        assert tensor.dtype == stored
        torch.testing.assert_close(tensor, state[name].to(stored), rtol=0, atol=0)


def test_tensors_that_share_memory_are_stored_each(tmp_path: Path) -> None:
    shared = torch.ones(2)
    state = read_state(saved(tmp_path, {"a": shared, "b": shared}))
    assert state["a"].data_ptr() != state["b"].data_ptr()


def test_batch_norm_s_counter_is_left_out(tmp_path: Path) -> None:
    state = read_state(saved(tmp_path, nn.BatchNorm1d(2).state_dict()))
    assert state.keys() == {"weight", "bias", "running_mean", "running_var"}


def test_the_lineage_names_the_source(tmp_path: Path, manifest: Path) -> None:
    weights = saved(tmp_path, documented_state())
    source = FileEntry.of(weights.read_bytes()).model_dump()
    assert converted(manifest, weights).lineage == {"registered_from": {"file": "net.pt", **source}}


class Payload:
    """Unpickled without care, it leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path: Path, manifest: Path, *, legacy: bool
) -> None:
    trace = tmp_path / "ran"
    path = tmp_path / "evil.pt"
    torch.save({**documented_state(), "x": Payload(trace)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(BrokenCheckpoint, match="nothing in it was run"):
        converted(manifest, path)
    assert not trace.exists()


def test_a_whole_pickled_network_is_refused_with_advice(tmp_path: Path, manifest: Path) -> None:
    with pytest.raises(BrokenCheckpoint, match=r"torch\.save\(model\.state_dict\(\), FILE\)"):
        converted(manifest, saved(tmp_path, own_network()))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.ones(1)], "expected a dict of tensors"),
        ({}, "expected a dict of tensors"),
        ({"epoch": 3}, "'epoch' is a int, expected tensors alone"),
        ({"state_dict": {"a": torch.ones(1), "n": 1}}, "'n' is a int"),
        ({"ids": torch.ones(2, dtype=torch.int64)}, "'ids' is strided int64"),
        ({"table": torch.eye(2).to_sparse()}, "'table' is sparse_coo float32"),
        ({"wave": torch.ones(1, dtype=torch.complex64)}, "'wave' is strided complex64"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(BrokenCheckpoint, match=reason):
        read_state(saved(tmp_path, content))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("net.pt", "no file of torch.save|or is damaged"),
        ("net.safetensors", "is no safetensors file"),
        ("net.onnx", r"expected a .safetensors, .pt or .pth file, got .onnx"),
        ("net", "got none"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"neither one nor the other")
    with pytest.raises(BrokenCheckpoint, match=reason):
        read_state(path)


def test_wrong_names_and_shapes_are_listed_with_what_to_do(tmp_path: Path, manifest: Path) -> None:
    state = {**documented_state(), "extra": torch.ones(7), "output.weight": torch.ones(5, 3)}
    del state["output.bias"]
    with pytest.raises(BrokenCheckpoint) as raised:
        converted(manifest, saved(tmp_path, state))
    text = str(raised.value)
    assert "missing:     output.bias (2,)" in text
    assert "unexpected:  extra (7,)" in text
    assert "wrong shape: output.weight is (5, 3), expected (2, 3)" in text
    assert "docs/checkpoints.md" in text
    assert "--rename" in text
    assert not (tmp_path / "net").exists()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, manifest: Path) -> None:
    state = {**documented_state(), "output.bias": torch.tensor([0.0, torch.nan])}
    with pytest.raises(BrokenCheckpoint, match=r"output\.bias holds numbers that are not finite"):
        converted(manifest, saved(tmp_path, state))


def test_too_few_outputs_are_refused(tmp_path: Path, manifest: Path) -> None:
    manifest.write_bytes(orjson.dumps({**MANIFEST, "labels": ["low", "middle", "high"]}))
    with pytest.raises(BrokenCheckpoint, match="3 labels needs 3 outputs, the architecture has 2"):
        converted(manifest, saved(tmp_path, documented_state()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": {"family": "mlp", "config": {"inputs": 4}}}, "outputs is missing"),
        ({"architecture": {"family": "spline", "config": {}}}, "unknown architecture 'spline'"),
        ({"input": {"kind": "tensor", "shape": [5]}}, r"can't be computed: input must have shape \(B, 4\)"),
    ],
)
def test_a_manifest_that_describes_no_working_network_is_refused(
    tmp_path: Path, manifest: Path, changes: dict[str, Any], reason: str
) -> None:
    manifest.write_bytes(orjson.dumps({**MANIFEST, **changes}))
    with pytest.raises(BrokenCheckpoint, match=reason):
        converted(manifest, saved(tmp_path, documented_state()))
    assert not (tmp_path / "net").exists()


def test_a_manifest_that_names_other_weights_is_refused(tmp_path: Path, manifest: Path) -> None:
    manifest.write_bytes(orjson.dumps({**MANIFEST, "files": {WEIGHTS: FileEntry.of(b"other").model_dump()}}))
    with pytest.raises(BrokenCheckpoint, match=r"net\.pt is not the file that the manifest names"):
        converted(manifest, saved(tmp_path, documented_state()))


def test_a_folder_that_is_there_is_never_replaced(tmp_path: Path, manifest: Path) -> None:
    weights = saved(tmp_path, documented_state())
    converted(manifest, weights)
    before = CheckpointFiles(tmp_path / "net" / "1").manifest
    with pytest.raises(FileExistsError):
        converted(manifest, weights)
    assert CheckpointFiles(tmp_path / "net" / "1").manifest == before


def test_the_command_ends_with_what_became_of_it(
    tmp_path: Path, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = saved(tmp_path, own_network().state_dict())
    rename_file = tmp_path / "rename.json"
    rename_file.write_bytes(orjson.dumps(RENAMES))
    what = ["--model", "net", "--version", "1", "--weights", str(weights), "--manifest", str(manifest)]
    where = ["--out", str(tmp_path / "net" / "1")]
    assert main([*what, *where]) == 1
    assert "missing:     hidden.0.bias" in capsys.readouterr().err
    assert main([*what, *where, "--rename", str(rename_file)]) == 0
    assert main([*what, *where, "--rename", str(rename_file)]) == 1
    assert "exists already" in capsys.readouterr().err
