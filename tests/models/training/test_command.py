import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.checkpoint_files import verify
from models.training import recipes
from models.training.command import main
from models.training.recipes import Recipe
from tests.terminal import AtTerminal


@pytest.fixture(autouse=True)
def small_recipe(make_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recipes.RECIPES, "lots", make_recipe("lots"))


def test_the_command_trains_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lots", "--out", str(tmp_path / "1"), "--epochs", "3", "--seed", "5", "--device", "cpu"]) == 0
    manifest = verify(tmp_path / "1")
    assert manifest.lineage["recipe"]["loop"]["epochs"] == 3
    assert manifest.lineage["seed"] == 5
    printed = capsys.readouterr().out
    assert "r2: 0.9" in printed
    assert "epoch 2/3" in printed


def test_a_recipe_of_ones_own_is_a_json_file(
    make_recipe: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.json"
    file.write_text(make_recipe("lots", model="mine").model_dump_json())
    assert main([str(file), "--out", str(tmp_path / "1"), "--epochs", "2"]) == 0
    assert verify(tmp_path / "1").model == "mine"
    assert "mine version 1 written" in capsys.readouterr().out


def test_a_broken_recipe_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"model": "mine"')
    assert main([str(file), "--out", str(tmp_path / "1")]) == 1
    assert "mine.json is no JSON" in capsys.readouterr().err
    assert main([str(tmp_path / "none.json"), "--out", str(tmp_path / "1")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["poetry"], "error: unknown recipe 'poetry'"),
        (["lots", "--epochs", "0"], "error: recipe: loop.epochs: Input should be greater than or equal to 1, got 0\n"),
        (["lots", "--device", "abacus"], "error: unknown device 'abacus'"),
    ],
)
def test_what_goes_wrong_is_one_line_and_status_1(
    arguments: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--out", str(tmp_path / "1")]) == 1
    assert capsys.readouterr().err.startswith(problem)
    assert not (tmp_path / "1").exists()


def test_at_a_terminal_it_is_shown_that_torch_is_imported(tmp_path: Path) -> None:
    with AtTerminal("-m", "models.training", "poetry", "--out", tmp_path / "1") as terminal:
        terminal.sees("Importing PyTorch")
        assert terminal.ended() == (1, "")
    assert terminal.shown.index("Importing PyTorch") < terminal.shown.index("error: unknown recipe 'poetry'")


def test_without_matplotlib_help_is_there_and_a_training_says_what_to_install(tmp_path: Path) -> None:
    start = "import sys; sys.modules['matplotlib'] = None; from models.training.command import main; sys.exit(main())"

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", start, *arguments], capture_output=True, text=True, check=False)

    assert command("--help").returncode == 0
    training = command("house-price", "--out", str(tmp_path / "1"))
    assert training.returncode == 1
    assert training.stderr.startswith("error: training needs matplotlib: pip install 'servoloop[train]'")
