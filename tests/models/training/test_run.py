"""Whole runs on small data, from recipe to checkpoint."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from models.checkpoint_files import CheckpointFiles, verify
from models.preprocess import Preprocessor
from models.raw_rows import take
from models.training import loaders
from models.training import run as training
from models.training.batches import Rows, pad
from models.training.data import RawData
from models.training.recipes import Recipe
from models.training.run import code_revision, pick_device, plan_run, run

MakeRecipe = Callable[..., Recipe]


@pytest.mark.parametrize("name", ["spots", "words"])
def test_a_run_writes_a_checkpoint_that_verifies_and_answers_well(
    name: str, make_recipe: MakeRecipe, tmp_path: Path
) -> None:
    manifest = run(make_recipe(name), tmp_path / "1")
    assert verify(tmp_path / "1") == manifest
    accuracy = manifest.metrics["accuracy"]
    assert accuracy.value is not None
    assert accuracy.value > 0.85
    assert accuracy.low is not None
    assert accuracy.low < accuracy.value
    assert {"weights.safetensors", "reference.json", "curves.png"} <= set(manifest.files)


def test_a_regression_answers_in_the_targets_unit(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    manifest = run(make_recipe("lots"), tmp_path / "1")
    r2, mae = manifest.metrics["r2"].value, manifest.metrics["mae"].value
    assert r2 is not None
    assert r2 > 0.99
    assert mae is not None
    assert 5 < mae < 30  # the noise has a standard deviation of 20
    assert manifest.target is not None
    assert (manifest.target.name, manifest.target.unit) == ("price", "EUR")
    assert 1200 < manifest.target.mean < 1900


@pytest.mark.parametrize("name", ["spots", "words"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(name: str, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    loop = {"epochs": 2, "batch_size": 16}
    manifests = {
        out: run(make_recipe(name, seed=seed, loop=loop), tmp_path / out)
        for out, seed in {"one": 3, "two": 3, "other": 4}.items()
    }
    weights = {out: manifest.files["weights.safetensors"].sha256 for out, manifest in manifests.items()}
    assert weights["one"] == weights["two"] != weights["other"]
    splits = {manifest.lineage["dataset"]["digest"] for manifest in manifests.values()}
    assert len(splits) == 1


def test_a_run_leaves_torchs_random_state_alone(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run(make_recipe("lots"), tmp_path / "1")
    assert torch.rand(1) == expected
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("name", ["spots", "words", "lots"])
def test_training_and_serving_prepare_the_same_bits(name: str, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe(name, loop={"epochs": 1, "batch_size": 16})
    run(recipe, tmp_path / "1")
    files = CheckpointFiles(tmp_path / "1")
    serving = Preprocessor(files.manifest.preprocess, files.read)
    plan = plan_run(recipe)
    part = plan.dataset.split.train
    rows = Rows(take(plan.dataset.rows, part), plan.dataset.targets[part], plan.preprocess)
    for indices, batch in rows.in_order_of_length(7):
        for i, x in zip(indices, batch.x, strict=True):
            alone, lengths = pad(serving(take(plan.dataset.rows, part[i : i + 1])))
            length = None if lengths is None else int(lengths[0])
            assert x[:length].numpy().tobytes() == alone[0].numpy().tobytes()


def test_the_metrics_are_those_of_the_stored_weights(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("spots")
    manifest = run(recipe, tmp_path / "1")
    network = checkpoint.load(tmp_path / "1")
    plan = plan_run(recipe)
    held_out = plan.dataset.split.held_out
    x, _ = pad(plan.preprocess(take(plan.dataset.rows, held_out)))
    with torch.inference_mode():
        hits = (network(x).argmax(1).numpy() == plan.dataset.targets[held_out]).mean()
    assert manifest.metrics["accuracy"].value == pytest.approx(hits)


def test_the_held_out_part_is_read_once_and_after_training(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []

    def noted(rows: object, indices: np.ndarray) -> object:
        held_out = set(plan.dataset.split.held_out.tolist())
        reads.append("held-out" if held_out & set(indices.tolist()) else "other")
        return take(rows, indices)  # type: ignore[arg-type]

    recipe = make_recipe("words", loop={"epochs": 1, "batch_size": 16})
    plan = plan_run(recipe)
    monkeypatch.setattr(training, "take", noted)
    run(recipe, tmp_path / "1")
    assert reads.count("held-out") == 1
    assert reads[-1] == "held-out"


def test_the_lineage_says_where_the_weights_come_from(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("spots", seed=9)
    lineage = run(recipe, tmp_path / "1").lineage
    assert lineage["parent"] is None
    assert lineage["seed"] == 9
    assert Recipe.model_validate(lineage["recipe"]) == recipe
    assert lineage["dataset"]["name"] == "spots"
    assert lineage["dataset"]["split"] == {"train": 81, "validation": 9, "held_out": 30}
    assert lineage["dataset"]["cleaning"]["kept"] == 120
    assert len(lineage["dataset"]["digest"]) == 64
    assert lineage["framework"] == f"torch {torch.__version__}"


def test_samples_are_raw_rows_of_their_own_part(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_recipe("spots")
    run(recipe, tmp_path / "1")
    files, plan = CheckpointFiles(tmp_path / "1"), plan_run(recipe)
    for name, indices in (("evaluation.npz", plan.dataset.split.held_out), ("replay.npz", plan.dataset.split.train)):
        with np.load(io.BytesIO(files.read(name)), allow_pickle=False) as sample:
            assert sample["rows"].shape == (20, 1, 6, 6)
            known = {row.tobytes() for row in take(plan.dataset.rows, indices)}  # type: ignore[union-attr]
            assert all(row.tobytes() in known for row in sample["rows"])
            assert len(sample["targets"]) == 20


def test_without_a_licence_no_rows_are_stored(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    manifest = run(make_recipe("words", loop={"epochs": 1, "batch_size": 16}), tmp_path / "1")
    assert not {"evaluation.npz", "replay.npz"} & set(manifest.files)


def test_progress_is_told_after_every_batch(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    told = []
    run(make_recipe("spots", loop={"epochs": 3, "batch_size": 30}), tmp_path / "1", on_progress=told.append)
    assert [progress.step for progress in told] == list(range(1, 10))
    assert {progress.num_steps for progress in told} == {9}
    assert told[0].metric is None
    assert told[-1].metric is not None
    assert told[-1].seconds_left == 0.0


def test_a_folder_that_exists_is_refused_before_any_work(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    told: list[object] = []
    with pytest.raises(FileExistsError, match="immutable"):
        run(make_recipe("spots"), tmp_path, on_progress=told.append)
    assert told == []


def test_data_with_more_classes_than_labels_are_refused(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = RawData(
        "more",
        np.zeros((30, 1, 6, 6), np.uint8) + np.arange(30, dtype=np.uint8)[:, None, None, None],
        np.arange(30) % 3,
    )
    monkeypatch.setitem(loaders.LOADERS, "spots", lambda: more)
    with pytest.raises(ValueError, match="the data have a class 2, the recipe has 2 labels"):
        run(make_recipe("spots"), tmp_path / "1")


def test_reference_histograms_count_the_held_out_rows(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run(make_recipe("words"), tmp_path / "1")
    content = json.loads(CheckpointFiles(tmp_path / "1").read("reference.json"))
    assert content["rows"] == 24
    assert sum(content["inputs"]["tokens"]["counts"]) == 24
    assert sum(content["outputs"]["labels"].values()) == 24
    assert sum(content["confidence"]["counts"]) == 24


def test_the_metrics_are_those_of_the_weights_as_stored(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, cpu = make_recipe("lots", storage="float16"), torch.device("cpu")
    plan = plan_run(recipe)
    network, history = training.train(plan, cpu, lambda _: None)
    with torch.no_grad():
        network.get_parameter("output.bias").fill_(1000.2)  # 1000 as float16
    monkeypatch.setattr(training, "train", lambda *_: (network, history))
    manifest = run(recipe, tmp_path / "1", device="cpu")
    stored = checkpoint.load(tmp_path / "1")
    reported = {name: metric.value for name, metric in manifest.metrics.items()}
    of_stored, of_trained = (training.measure_held_out(plan, each, cpu)[0] for each in (stored, network))
    assert reported == {name: metric["value"] for name, metric in of_stored.items()}
    assert reported != {name: metric["value"] for name, metric in of_trained.items()}


def test_a_word_of_held_out_rows_alone_is_not_in_the_vocabulary(
    make_recipe: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = np.arange(60) >= 40
    texts = [f"{'unseen' if held else 'seen'} text end{i}" for i, held in enumerate(held_out)]
    monkeypatch.setitem(loaders.LOADERS, "words", lambda: RawData("words", texts, np.arange(60) % 2, held_out))
    plan = plan_run(make_recipe("words"))
    vocabulary = json.loads(plan.files["tokenizer.json"])["model"]["vocab"]
    assert "seen" in vocabulary
    assert "unseen" not in vocabulary


def test_devices_by_name() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match="unknown device 'abacus'"):
        pick_device("abacus")
    with pytest.raises(ValueError, match="no device 'cuda:99' here"):
        pick_device("cuda:99")


def test_the_code_revision_is_a_commit_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    revision = code_revision()
    assert revision is None or len(revision.removesuffix("+changes")) == 40
    monkeypatch.setenv("PATH", "")
    assert code_revision() is None
