import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.manifest import MANIFEST
from models.training import loaders
from models.training.recipes import Recipe
from models.training.remeasure import main, remeasure
from models.training.run import run

MakeRecipe = Callable[..., Recipe]


def restate(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a manifest says."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["spots", "words", "lots"])
def test_a_checkpoint_measured_again_has_the_figures_of_its_manifest(
    name: str, make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = run(make_recipe(name), tmp_path / "1", device="cpu")
    remeasured = remeasure(tmp_path / "1", "cpu")
    assert remeasured.found == manifest.metrics
    assert main([str(tmp_path / "1"), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{name} version 1: holds\n")
    assert len(printed.splitlines()) == 1 + len(manifest.metrics)


def test_a_figure_that_is_not_so_is_found_out(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = run(make_recipe("spots"), tmp_path / "1", device="cpu")
    accuracy = manifest.metrics["accuracy"].value
    assert accuracy is not None
    restate(tmp_path / "1", lambda said: said["metrics"]["accuracy"].update(value=accuracy - 0.002))
    assert main([str(tmp_path / "1"), "--device", "cpu"]) == 1
    printed = capsys.readouterr().out
    assert "spots version 1: DOES NOT HOLD" in printed
    assert f"stated {accuracy - 0.002:.6g}, n = 30" in printed
    assert f"found {accuracy:.6g}, n = 30" in printed


def test_a_metric_that_nobody_stated_does_not_hold(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run(make_recipe("lots"), tmp_path / "1", device="cpu")
    restate(tmp_path / "1", lambda said: said["metrics"].pop("mae"))
    assert not remeasure(tmp_path / "1", "cpu").holds


def test_other_data_than_it_was_trained_on_are_refused(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(make_recipe("lots"), tmp_path / "1", device="cpu")
    lots = loaders.LOADERS["lots"]
    monkeypatch.setitem(loaders.LOADERS, "lots", lambda: lots(130))
    assert main([str(tmp_path / "1"), "--device", "cpu"]) == 1
    assert "are not those that it was trained on" in capsys.readouterr().err


def test_a_checkpoint_that_no_recipe_made_is_refused(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run(make_recipe("lots"), tmp_path / "1", device="cpu")
    restate(tmp_path / "1", lambda said: said.update(lineage={}))
    with pytest.raises(ValueError, match="its lineage names no recipe"):
        remeasure(tmp_path / "1", "cpu")
