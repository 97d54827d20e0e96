"""The checkpoints in models/checkpoints/: whole, as good as promised, and each row's answer its own."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from models import checkpoint
from models.architectures import Network
from models.checkpoint_files import CheckpointFiles, verify
from models.preprocess import Preprocessor, RawRows
from models.training.batches import pad
from models.training.recipes import RECIPES, parse_recipe

FOLDER = Path(models.__file__).parent / "checkpoints"
TEXTS = [
    "A wonderful film: moving, funny and beautifully acted. I loved every minute of it.",
    "Dull, predictable and far too long. The worst film I have seen this year, a complete waste of time.",
    "good",
    "!",
    "It starts well, but then nothing happens. " * 60,
    "One of the best performances of the decade carries this brilliant, touching story. " * 12,
]
FLOORS = {
    "fashion": ("accuracy", 0.92),
    "sentiment-lstm": ("accuracy", 0.86),
    "sentiment": ("accuracy", 0.86),
    "house-price": ("r2", 0.0),
}


class Served:
    """A shipped checkpoint as a service holds it."""

    def __init__(self, name: str) -> None:
        self.files = CheckpointFiles(FOLDER / name / "1")
        self.manifest = self.files.manifest
        self.preprocess = Preprocessor(self.manifest.preprocess, self.files.read)
        self.network: Network = checkpoint.load(FOLDER / name / "1")

    def __call__(self, rows: RawRows) -> np.ndarray:
        with torch.inference_mode():
            return self.network(*pad(self.preprocess(rows))).numpy()


@pytest.fixture(scope="module", params=FLOORS)
def served(request: pytest.FixtureRequest) -> Served:
    return Served(request.param)


def some_rows(served: Served) -> RawRows:
    if served.manifest.input.kind == "text":
        return TEXTS
    if served.manifest.input.kind == "columns":
        return np.array([[1500.0], [5850.0], [16200.0]])
    with np.load(io.BytesIO(served.files.read("evaluation.npz")), allow_pickle=False) as sample:
        return sample["rows"][:20]  # type: ignore[no-any-return]


def test_the_checkpoint_is_whole(served: Served) -> None:
    assert verify(served.files.folder) == served.manifest
    assert {path.name for path in served.files.folder.iterdir()} == {*served.manifest.files, "manifest.json"}


def test_its_held_out_metric_is_above_the_floor(served: Served) -> None:
    name, floor = FLOORS[served.manifest.model]
    metric = served.manifest.metrics[name]
    assert metric.value is not None
    assert metric.low is not None
    assert metric.value >= floor
    if name == "r2":
        assert metric.low > floor


def test_a_rows_answer_is_its_own(served: Served) -> None:
    rows = some_rows(served)
    together = served(rows)
    alone = np.concatenate([served(rows[i : i + 1]) for i in range(len(rows))])
    assert np.abs(together - alone).max() <= 1e-5 * max(1.0, np.abs(alone).max())


def test_its_recipe_can_be_run_again(served: Served) -> None:
    assert parse_recipe(served.manifest.lineage["recipe"]) == RECIPES[served.manifest.model]
    assert len(served.manifest.lineage["code_revision"]) == 40


def test_its_reference_counts_every_held_out_row(served: Served) -> None:
    reference = json.loads(served.files.read("reference.json"))
    held_out = served.manifest.lineage["dataset"]["split"]["held_out"]
    assert reference["rows"] == held_out
    assert all(sum(histogram["counts"]) == held_out for histogram in reference["inputs"].values())
    if "confidence" in reference:
        assert sum(reference["right"]) == round(served.manifest.metrics["accuracy"].value * held_out)


@pytest.mark.parametrize("name", ["sentiment", "sentiment-lstm"])
def test_plain_opinions_are_understood(name: str) -> None:
    logits = Served(name)(TEXTS[:2])[:, 0]
    assert logits[0] > 1
    assert logits[1] < -1


def test_most_sample_images_are_recognised() -> None:
    fashion = Served("fashion")
    with np.load(io.BytesIO(fashion.files.read("evaluation.npz")), allow_pickle=False) as sample:
        hits = fashion(sample["rows"]).argmax(axis=1) == sample["targets"]
    assert hits.mean() > 0.88


def test_larger_lots_cost_more() -> None:
    house = Served("house-price")
    target = house.manifest.target
    assert target is not None
    small, large = house(np.array([[2000.0], [8000.0]]))[:, 0] * target.std + target.mean
    assert 30_000 < small < large < 150_000


def test_all_together_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 30_000_000


def test_no_reviews_text_is_shipped() -> None:
    for name in ("sentiment", "sentiment-lstm"):
        assert not {"evaluation.npz", "replay.npz"} & set(Served(name).manifest.files)
