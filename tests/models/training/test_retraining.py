"""From a champion and feedback to a new checkpoint, on small networks and on real pictures of clothes."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import models
from models.checkpoint_files import CheckpointFiles, verify
from models.feedback.job import RetrainResult
from models.feedback.rows import LabelledRows, write
from models.training import loaders
from models.training.recipes import Recipe
from models.training.remeasure import remeasure
from models.training.resuming import Stopped
from models.training.retrain import STOPPED, Reporter, main
from models.training.retraining import Told, retrain
from models.training.run import plan_run, run
from models.training.trainer import Progress
from tests import checkpoints
from tests.models.training.conftest import lots, spots, words

MakeRecipe = Callable[..., Recipe]
FASHION = Path(models.__file__).parent / "checkpoints" / "fashion" / "1"


def prepared(folder: Path, parent: Path, rows: LabelledRows, mode: str = "fine_tune", **options: Any) -> Path:
    """A folder with a job whose checkpoint goes to `folder`/out."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "feedback.npz", rows)
    job = {"parent": str(parent), "model": "next", "version": 2, "out": "out", "mode": mode}
    (folder / "job.json").write_text(json.dumps({**job, "options": {"epochs": 3, "device": "cpu", **options}}))
    return folder


def feedback(name: str, n: int = 160) -> LabelledRows:
    """New rows of the same puzzle as the recipe of this name, by eight actors."""
    data = {"spots": spots, "words": words, "lots": lots}[name](120 + n)
    part = np.arange(120, 120 + n)
    rows = [data.rows[i] for i in part] if isinstance(data.rows, list) else data.rows[part]
    actors = [f"actor {i % 8}" for i in range(n)]
    return LabelledRows.of(rows, data.targets[part], [f"p{i}" for i in range(n)], actors=actors)


@pytest.fixture(params=["spots", "words", "lots"])
def champion(request: pytest.FixtureRequest, make_recipe: MakeRecipe, tmp_path: Path) -> Path:
    run(make_recipe(request.param), tmp_path / request.param, device="cpu")
    return tmp_path / request.param


@pytest.mark.parametrize("mode", ["fine_tune", "full"])
def test_a_champion_is_retrained_into_a_whole_checkpoint(mode: str, champion: Path, tmp_path: Path) -> None:
    rows = feedback(champion.name)
    result = retrain(prepared(tmp_path / "job", champion, rows, mode))
    manifest, parent = verify(tmp_path / "job" / "out"), CheckpointFiles(champion).manifest
    assert (manifest.model, manifest.version) == ("next", 2)
    assert manifest.digest == result.digest != parent.digest == result.parent_digest
    assert manifest.lineage["parent"] == {"model": champion.name, "version": 1, "digest": parent.digest}
    assert manifest.lineage["retraining"]["rows_digest"] == rows.digest()
    counts = result.counts
    assert sum(counts[name] for name in ("in_test_set", "trained", "validated", "held_out")) == 160
    assert result.test is not None
    assert result.holdout is not None
    assert result.holdout.rows == counts["held_out"] > 10
    assert {"reference.json", "curves.png"} <= manifest.files.keys()
    if mode == "fine_tune":
        assert manifest.preprocess == parent.preprocess
    found = remeasure(tmp_path / "job" / "out", "cpu")
    assert found.holds
    with np.load(tmp_path / "job" / "judged.npz", allow_pickle=False) as judged:
        for part in ("test", "holdout"):
            truth, before, after = (judged[f"{part}_{what}"] for what in ("truth", "parent", "new"))
            assert len(truth) == len(before) == len(after)
            assert before.shape[1:] == ((2,) if champion.name == "spots" else ())
            assert not np.array_equal(before, after)


def test_what_is_held_out_is_never_trained_on_and_duplicates_stay_together(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    run(make_recipe("spots"), tmp_path / "1", device="cpu")
    plan, new = plan_run(make_recipe("spots")), feedback("spots")
    test = plan.dataset.split.held_out
    rows = np.concatenate([new.rows, new.rows, plan.dataset.rows[test]])  # type: ignore[index,arg-type]
    targets = np.concatenate([new.targets, new.targets, plan.dataset.targets[test]])
    actors = np.concatenate([new.actors, np.full(160, "again"), np.full(30, "cheat")])
    ids = [f"p{i}" for i in range(160)] + [f"again{i}" for i in range(160)] + [f"test{i}" for i in range(30)]
    result = retrain(prepared(tmp_path / "job", tmp_path / "1", LabelledRows.of(rows, targets, ids, actors=actors)))
    used = json.loads((tmp_path / "job" / "used.json").read_bytes())
    held_out, trained = set(used["held_out"]), set(used["trained"] + used["validated"])
    assert result.counts["in_test_set"] == 30
    assert not any(name.startswith("test") for name in held_out | trained)
    for i in range(160):
        assert (f"p{i}" in held_out) == (f"again{i}" in held_out)


def small_retraining(folder: Path, parent: Path, **options: Any) -> Path:
    return prepared(folder, parent, feedback(parent.name), save_every_seconds=0, epochs=4, **options)


def weights(folder: Path) -> bytes:
    return (folder / "out" / "weights.safetensors").read_bytes()


def test_a_retraining_that_is_stopped_again_and_again_gives_the_same_bytes(champion: Path, tmp_path: Path) -> None:
    retrain(small_retraining(tmp_path / "whole", champion))
    folder, stops = small_retraining(tmp_path / "stopped", champion), 0
    while not (folder / "out").exists():
        steps: list[Told] = []

        def tell(told: Told, steps: list[Told] = steps) -> None:
            steps.extend([told] if told.training else [])

        def is_stopped(steps: list[Told] = steps) -> bool:
            return len(steps) >= 7

        try:
            retrain(folder, tell, is_stopped)
        except Stopped:
            stops += 1
            assert stops < 50
    assert stops > 0
    assert weights(folder) == weights(tmp_path / "whole")
    assert not (folder / "state" / "training.safetensors").exists()


def test_one_that_is_over_gives_its_result_again_and_other_folders_are_left_alone(
    make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    run(make_recipe("lots"), tmp_path / "lots", device="cpu")
    folder = small_retraining(tmp_path / "job", tmp_path / "lots")
    result = retrain(folder)
    assert retrain(folder) == result
    (folder / "result.json").unlink()
    with pytest.raises(FileExistsError, match="immutable"):
        retrain(folder)


def test_other_data_than_the_champion_was_trained_on_are_not_its_test_set(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(make_recipe("spots"), tmp_path / "spots", device="cpu")
    monkeypatch.setitem(loaders.LOADERS, "spots", lambda: spots(130))
    result = retrain(prepared(tmp_path / "job", tmp_path / "spots", feedback("spots")))
    assert result.test is not None
    assert result.test.source == "evaluation.npz"
    assert "not those that the parent was trained on" in result.notes[0]
    monkeypatch.undo()
    with pytest.raises(ValueError, match="not of its recipe's held-out rows"):
        remeasure(tmp_path / "job" / "out", "cpu")


def test_a_full_retraining_needs_the_data(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(make_recipe("spots"), tmp_path / "spots", device="cpu")
    monkeypatch.delitem(loaders.LOADERS, "spots")
    with pytest.raises(ValueError, match="a full retraining needs the parent's recipe and data"):
        retrain(prepared(tmp_path / "job", tmp_path / "spots", feedback("spots"), "full"))


def test_a_registered_checkpoint_without_a_recipe_is_fine_tuned_by_a_default_one(tmp_path: Path) -> None:
    checkpoints.write_columns(tmp_path)
    area = np.random.default_rng(0).uniform(30, 150, (200, 2))
    rows = LabelledRows.of(area, 9 * area[:, 0] + 100, [f"p{i}" for i in range(200)])
    result = retrain(prepared(tmp_path / "job", tmp_path / "rent" / "1", rows, epochs=20, learning_rate_factor=1.0))
    assert result.test is None
    assert "names no recipe" in result.notes[0]
    with np.load(tmp_path / "job" / "judged.npz") as judged:
        errors = [np.abs(judged[f"holdout_{who}"] - judged["holdout_truth"]).mean() for who in ("parent", "new")]
    assert errors[1] < errors[0]
    assert not {"replay.npz", "evaluation.npz"} & verify(tmp_path / "job" / "out").files.keys()


@pytest.mark.parametrize("write_model", [checkpoints.write_vector, checkpoints.write_steps])
def test_tasks_that_no_loss_is_known_for_are_refused(write_model: Callable[[Path], Any], tmp_path: Path) -> None:
    manifest = write_model(tmp_path)
    rows = LabelledRows.of(np.zeros((3, 4)), np.zeros(3), ["a", "b", "c"])
    with pytest.raises(ValueError, match="can't be retrained"):
        retrain(prepared(tmp_path / "job", tmp_path / manifest.model / "1", rows))


def test_clothes_whose_pictures_are_inverted_are_learned_and_the_old_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(loaders.LOADERS, "fashion-mnist")  # its samples are everywhere, the data are not
    with np.load(FASHION / "replay.npz") as sample:
        rows, targets = 255 - sample["rows"], sample["targets"]
    actors = [f"actor {i % 7}" for i in range(len(rows))]
    new = LabelledRows.of(rows, targets, [f"p{i}" for i in range(len(rows))], actors=actors)
    result = retrain(prepared(tmp_path / "job", FASHION, new))
    assert result.counts["quarantined"] == 0
    assert result.counts["replayed_each_epoch"] == result.counts["trained"] > 200
    assert result.seconds_per_row is not None
    assert 0 < result.seconds_per_row.parent < 0.1
    with np.load(tmp_path / "job" / "judged.npz") as judged:
        right = {
            f"{part} {who}": (judged[f"{part}_{who}"].argmax(axis=1) == judged[f"{part}_truth"]).mean()
            for part in ("test", "holdout")
            for who in ("parent", "new")
        }
    assert right["holdout new"] > right["holdout parent"] + 0.2
    assert right["test new"] > right["test parent"] - 0.06
    files = CheckpointFiles(tmp_path / "job" / "out")
    assert files.read("evaluation.npz") == (FASHION / "evaluation.npz").read_bytes()
    with np.load(io.BytesIO(files.read("replay.npz"))) as kept:
        assert kept["rows"].shape == (300, 1, 28, 28)


def test_an_actor_who_flips_labels_goes_to_review(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    # Half of 120 rows is a test set that is large enough to know by when the champion is sure.
    run(make_recipe("lots", data={"loader": "lots", "held_out": 0.5}), tmp_path / "lots", device="cpu")
    rows = feedback("lots")
    bad = rows.actors == "actor 3"
    rows.targets[bad] = 5000 - rows.targets[bad]
    result = retrain(prepared(tmp_path / "job", tmp_path / "lots", rows))
    quarantined = json.loads((tmp_path / "job" / "quarantined.json").read_bytes())
    assert {row["id"] for row in quarantined} <= set(rows.ids[bad].tolist())
    assert len(quarantined) == result.counts["quarantined"] > 12
    assert "actor 3 contradicts" in quarantined[0]["reason"]


def test_the_command_tells_its_progress_in_lines(
    make_recipe: MakeRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(make_recipe("lots"), tmp_path / "lots", device="cpu")
    assert main([str(small_retraining(tmp_path / "job", tmp_path / "lots"))]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["phase"] for line in lines if line["phase"] != "train"] == [
        "read",
        "prepare",
        "judge",
        "write",
        "done",
    ]
    last = [line for line in lines if line["phase"] == "train"][-1]
    assert last["done"] == last["total"] > 0
    assert {"epoch", "loss", "metric", "seconds_left"} < last.keys()


def test_what_goes_wrong_is_one_line_and_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path} has no job.json\n"
    rows = LabelledRows.of(np.zeros((2, 2)), np.array([1.0, np.nan]), ["a", "b"])
    checkpoints.write_columns(tmp_path)
    assert main([str(prepared(tmp_path / "job", tmp_path / "rent" / "1", rows))]) == 1
    assert capsys.readouterr().err == "error: targets must be finite numbers\n"


def test_at_most_two_lines_a_second_are_told() -> None:
    lines: list[bytes] = []
    now = 0.0
    reporter = Reporter(lines.append, lambda: now)
    for step in range(1, 101):
        now += 0.1
        reporter.tell(Told("train", Progress(1, 1, step, 100, 0.5, None, 1.0)))
    assert 18 <= len(lines) <= 22
    assert json.loads(lines[-1])["done"] == 100


def command(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "models.training.retrain", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def interrupt(folder: Path, with_signal: signal.Signals) -> int:
    """Start the command, end it while it trains, and return its status."""
    with command(folder) as process:
        assert process.stdout is not None
        while '"phase":"train"' not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(with_signal)
        process.stdout.read()
    return process.returncode


def test_a_command_that_is_told_to_stop_and_one_that_is_killed_are_gone_on_from(tmp_path: Path) -> None:
    checkpoints.write_columns(tmp_path)
    area = np.random.default_rng(0).uniform(30, 150, (400, 2))
    rows = LabelledRows.of(area, 9 * area[:, 0] + 100, [f"p{i}" for i in range(400)])
    options = {"epochs": 200, "patience": 200, "save_every_seconds": 0.2}
    parent = tmp_path / "rent" / "1"
    folder = prepared(tmp_path / "job", parent, rows, **options)
    assert interrupt(folder, signal.SIGTERM) == STOPPED
    assert (folder / "state" / "training.safetensors").exists()
    assert interrupt(folder, signal.SIGKILL) == -signal.SIGKILL
    assert not (folder / "out").exists()
    assert main([str(folder)]) == 0
    whole = prepared(tmp_path / "whole", parent, rows, **options)
    result: RetrainResult = retrain(whole)
    assert weights(folder) == weights(whole)
    assert result.epochs > 1
