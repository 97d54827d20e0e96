"""`servoloop register`, `verify` and `train`: real files, and real processes for what needs torch."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.checkpoint_files import verify
from models.manifest import WEIGHTS
from service.domain import Ref
from tests import checkpoints
from tests.service.cli.conftest import Run
from tests.stores import open_store
from tests.terminal import AtTerminal

SERVOLOOP = ("-c", "from service.cli import main; main()")

MANIFEST: dict[str, Any] = {
    "architecture": {"family": "mlp", "config": {"inputs": 4, "outputs": 2}},
    "task": "multiclass",
    "input": {"kind": "tensor", "shape": [4]},
    "labels": ["low", "high"],
}


class Author:
    """Somebody's folder: a manifest, and weights in every form."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.manifest = self.write_manifest()
        torch.manual_seed(0)
        self.network = nn.Linear(4, 2)
        self.renames = folder / "rename.json"
        self.renames.write_bytes(orjson.dumps({"weight": "output.weight", "bias": "output.bias"}))
        self.pt = folder / "net.pt"
        torch.save(self.network.state_dict(), self.pt)
        self.safetensors = folder / "net.safetensors"
        save_file({f"output.{name}": tensor for name, tensor in self.network.state_dict().items()}, self.safetensors)

    def write_manifest(self, **changes: Any) -> Path:
        path = self.folder / "manifest.json"
        path.write_bytes(orjson.dumps({**MANIFEST, **changes}))
        return path

    def command(self, weights: Path, *more: object) -> Sequence[object]:
        return ["register", "net", "--weights", weights, "--manifest", self.manifest, *more]


@pytest.fixture
def author(tmp_path: Path) -> Author:
    return Author(tmp_path / "author")


def test_a_state_dict_becomes_the_first_version_and_champion(run: Run, data_dir: Path, author: Author) -> None:
    result = run(author.command(author.pt, "--rename", author.renames))
    folder = data_dir / "models" / "net" / "1"
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"Registered net/1 in {folder}" in result.stdout
    assert "Callers send it 4 numbers (float32)." in result.stdout
    assert "becomes its champion" in result.stdout
    assert f"A service that runs on {data_dir} picks the new version up by itself" in result.stdout
    assert verify(folder).labels == ["low", "high"]


def test_at_a_terminal_it_is_shown_that_the_network_is_tried(data_dir: Path, author: Author) -> None:
    renames = author.renames.read_bytes()
    author.renames.unlink()
    os.mkfifo(author.renames)  # for as long as nobody writes it, the conversion goes on
    with AtTerminal(*SERVOLOOP, *author.command(author.pt, "--rename", author.renames)) as terminal:
        terminal.sees("Building and trying net/1")
        threading.Thread(target=author.renames.write_bytes, args=[renames], daemon=True).start()
        status, printed = terminal.ended()
    assert status == 0
    assert printed.startswith(f"Registered net/1 in {data_dir / 'models' / 'net' / '1'}\n")
    assert "Building" not in printed


def test_later_versions_leave_the_champion_where_it_is(run: Run, data_dir: Path, author: Author) -> None:
    for version in (3, 9):
        checkpoints.write(data_dir / "models", "net", version, **MANIFEST)
    (data_dir / "models" / "net" / "11").mkdir()  # broken, and its number is taken all the same
    open_store(data_dir).control.crown_new_models({"net": {9: "d" * 64}})
    result = run(author.command(author.safetensors))
    assert result.exit_code == 0
    assert "Registered net/12" in result.stdout
    assert "The champion stays net/9 until it is moved: servoloop alias net champion 12" in result.stdout
    assert verify(data_dir / "models" / "net" / "12").version == 12


def test_a_champion_not_crowned_yet_is_named_as_the_service_will_crown_it(
    run: Run, data_dir: Path, author: Author
) -> None:
    checkpoints.write(data_dir / "models", "net", 3, **MANIFEST)
    assert "The champion stays net/3" in run(author.command(author.safetensors)).stdout


def test_numbers_that_a_service_has_seen_are_never_given_again(run: Run, data_dir: Path, author: Author) -> None:
    data_dir.mkdir()
    store = open_store(data_dir)
    store.control.crown_new_models({"net": {3: "d" * 64, 7: "d" * 64}})
    store.control.delete_version(Ref("net", 7))
    store.close()
    assert "Registered net/8" in run(author.command(author.safetensors)).stdout


def test_a_model_that_was_deleted_begins_anew_under_the_next_number(run: Run, data_dir: Path, author: Author) -> None:
    checkpoints.write(data_dir / "models", "net", 1, **{**MANIFEST, "labels": ["small", "large"]})
    store = open_store(data_dir)
    store.control.crown_new_models({"net": {1: "d" * 64}})
    store.control.delete_model("net", [1])
    store.close()
    result = run(author.command(author.safetensors))
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Registered net/2" in result.stdout
    assert "the first version of net and becomes its champion" in result.stdout


def test_wrong_names_are_listed_and_nothing_appears(run: Run, data_dir: Path, author: Author) -> None:
    result = run(author.command(author.pt))
    assert result.exit_code == 1
    assert "missing:     output.weight (2, 4)" in result.stderr
    assert "unexpected:  weight (2, 4)" in result.stderr
    assert "--rename FILE.json" in result.stderr
    assert not (data_dir / "models").exists()


class Payload:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def test_code_in_a_pickle_never_runs(run: Run, data_dir: Path, author: Author, tmp_path: Path) -> None:
    evil = tmp_path / "evil.pt"
    torch.save(Payload(tmp_path / "ran"), evil)
    result = run(author.command(evil))
    assert result.exit_code == 1
    assert "nothing in it was run" in result.stderr
    assert not (tmp_path / "ran").exists()
    assert not (data_dir / "models").exists()


@pytest.mark.parametrize(
    ("changes", "what"),
    [({"labels": ["low", "top"]}, "labels"), ({"input": {**MANIFEST["input"], "minimum": 0}}, "input")],
)
def test_a_version_that_answers_another_question_is_refused(
    run: Run, data_dir: Path, author: Author, changes: dict[str, Any], what: str
) -> None:
    checkpoints.write(data_dir / "models", "net", **MANIFEST)
    author.write_manifest(**changes)
    result = run(author.command(author.safetensors))
    assert result.exit_code == 1
    assert f"its {what} differs from that of net/1" in result.stderr


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": "guess"}, "task: "),
        ({"model": "other"}, "says model 'other', not 'net'"),
        ({"input": {"kind": "tensor", "shape": [5]}}, "a sample row can't be computed: input must have shape (B, 4)"),
    ],
)
def test_a_faulty_manifest_is_refused(
    run: Run, data_dir: Path, author: Author, changes: dict[str, Any], reason: str
) -> None:
    author.write_manifest(**changes)
    result = run(author.command(author.safetensors))
    assert result.exit_code == 1
    assert reason in result.stderr
    assert not (data_dir / "models").exists()


@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("name", ["Net", "../net", "", "a" * 65])
def test_a_name_that_is_none_is_a_fault_of_the_command(run: Run, author: Author, name: str) -> None:
    result = run(["register", name, "--weights", author.pt, "--manifest", author.manifest])
    assert result.exit_code == 2


@pytest.mark.usefixtures("data_dir")
def test_a_folder_named_models_is_not_taken_for_ours(
    run: Run, author: Author, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise SystemExit('somebody else')")
    monkeypatch.chdir(tmp_path)
    assert run(author.command(author.safetensors)).exit_code == 0


def test_verify_shows_what_a_checkpoint_is(run: Run, tmp_path: Path) -> None:
    metric = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    manifest = checkpoints.write_image(tmp_path, metrics={"accuracy": metric}, description="Kinds of clothes.")
    result = run(["verify", tmp_path / "clothes" / "1"])
    assert result.exit_code == 0
    for shown in ("clothes/1", "Kinds of clothes.", "10 labels", "cnn", "0.5 (0.4 to 0.6), n = 100"):
        assert shown in result.stdout
    assert manifest.digest[:12] in result.stdout
    assert "a sample row" not in result.stdout


def test_verify_can_build_the_network_too(run: Run, tmp_path: Path) -> None:
    checkpoints.write_columns(tmp_path)
    result = run(["verify", "--load", tmp_path / "rent" / "1"])
    assert result.exit_code == 0
    assert "3 parameters; a sample row is answered with finite numbers" in result.stdout


def test_at_a_terminal_it_is_shown_that_verify_tries_the_network(tmp_path: Path) -> None:
    checkpoints.write_columns(tmp_path)
    with AtTerminal(*SERVOLOOP, "verify", "--load", tmp_path / "rent" / "1") as terminal:
        terminal.sees("Building and trying rent/1")
        status, printed = terminal.ended()
    assert status == 0
    assert "Building" not in printed


@pytest.mark.parametrize("options", [[], ["--load"]])
def test_verify_gives_the_reason_why_a_checkpoint_is_broken(run: Run, tmp_path: Path, options: list[str]) -> None:
    checkpoints.write_columns(tmp_path)
    weights = tmp_path / "rent" / "1" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    result = run(["verify", *options, tmp_path / "rent" / "1"])
    assert result.exit_code == 1
    assert "is broken: weights.safetensors has " in result.stderr


def test_verify_load_finds_what_only_building_shows(run: Run, tmp_path: Path) -> None:
    checkpoints.write_image(tmp_path, preprocess=[{"step": "resize", "height": 8, "width": 8}])
    folder = tmp_path / "clothes" / "1"
    assert run(["verify", folder]).exit_code == 0
    result = run(["verify", "--load", folder])
    assert result.exit_code == 1
    assert "a sample row can't be computed" in result.stderr


def test_train_hands_its_arguments_and_exit_status_on(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "no-such-recipe", "--out", "x"]).exit_code == 1
    assert capfd.readouterr().err.startswith("error: unknown recipe 'no-such-recipe'")


def test_a_champion_whose_files_are_gone_is_not_taken_for_replaced(run: Run, data_dir: Path, author: Author) -> None:
    data_dir.mkdir()
    store = open_store(data_dir)
    store.control.crown_new_models({"net": {1: "d" * 64}})
    store.close()
    result = run(author.command(author.safetensors))
    assert "Registered net/2" in result.stdout
    assert "still net/1, whose files are gone or broken: servoloop alias net champion 2" in result.stdout
    assert "becomes its champion" not in result.stdout
