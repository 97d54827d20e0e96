"""`servoloop optimize`: a real process tries real back ends."""

import sys
from pathlib import Path

import orjson
import pytest

from service.cli.optimizing import table
from tests import checkpoints
from tests.service.cli.conftest import Run


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling would take longer than all else."""
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    monkeypatch.delenv("CXX", raising=False)


def test_what_was_tried_is_shown_and_kept(run: Run, data_dir: Path) -> None:
    checkpoints.write_columns(data_dir / "models")
    result = run(["optimize", "rent"])
    assert (result.exit_code, result.stderr.strip()) == (0, "")
    assert "rent/1 on " in result.stdout
    assert "eager" in result.stdout
    assert "chosen" in result.stdout
    assert "Not tried: compile float32, bfloat16: torch.compile needs a C++ compiler" in result.stdout
    assert "A running service takes it up with: servoloop reload rent 1" in result.stdout
    (kept,) = (data_dir / "optimized").iterdir()
    evidence = orjson.loads(kept.read_bytes())
    assert (evidence["model"], evidence["version"], evidence["num_rows"]) == ("rent", 1, 500)
    assert evidence["tried"][evidence["chosen"]]["verdict"] == "passed"
    shown = table(evidence)
    assert shown.row_count == len(evidence["tried"])


def test_a_model_or_version_that_is_not_there_is_said(run: Run, data_dir: Path) -> None:
    result = run(["optimize", "rent"])
    assert result.exit_code == 1
    assert "there is no model rent in" in result.stderr
    checkpoints.write_columns(data_dir / "models")
    result = run(["optimize", "rent", "--version", 7])
    assert result.exit_code == 1
    assert "rent has no version 7; there are 1" in result.stderr


def test_what_is_wrong_with_a_checkpoint_is_said(run: Run, data_dir: Path) -> None:
    manifest = {"files": {"evaluation.npz": b"no archive"}}
    checkpoints.write(
        data_dir / "models",
        "m",
        **manifest,  # type: ignore[arg-type]
        architecture={"family": "mlp", "config": {"inputs": 2, "outputs": 2}},
        task="multiclass",
        input={"kind": "tensor", "shape": [2]},
        labels=["a", "b"],
    )
    result = run(["optimize", "m"])
    assert result.exit_code == 1
    assert "error: evaluation.npz holds no rows with targets" in result.stderr
