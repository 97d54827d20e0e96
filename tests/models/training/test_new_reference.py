"""What a version that was retrained is compared with from then on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint
from models.checkpoint_files import CheckpointFiles
from models.feedback.rows import LabelledRows
from models.manifest import WEIGHTS
from models.preprocess import Preprocessor
from models.reference import Reference, parse_reference
from models.training import new_reference
from models.training.judging import Version
from models.training.new_reference import LabelledParts
from models.training.originals import Part
from models.training.recipes import Recipe
from models.training.run import run

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def version(make_recipe: MakeRecipe, tmp_path: Path) -> Version:
    run(make_recipe("spots"), tmp_path / "1", device="cpu")
    files = CheckpointFiles(tmp_path / "1")
    network = checkpoint.network_of(files.read(WEIGHTS), files.manifest)
    return Version(files.manifest, network, Preprocessor(files.manifest.preprocess, files.read))


def rows(version: Version, numbers: range, brightness: int) -> LabelledRows:
    """Labelled in this order, as bright as that."""
    images = np.full((len(numbers), *version.manifest.input.shape), brightness, np.uint8)
    targets = np.zeros(len(numbers), np.int64)
    return LabelledRows.of(images, targets, [f"{number:05d}" for number in numbers])


def built(version: Version, trained: LabelledRows, set_apart: LabelledRows, test: Part | None) -> Reference:
    found = new_reference.build(version, LabelledParts(trained, set_apart, test), torch.device("cpu"))
    assert found is not None
    return parse_reference(found)


def test_it_is_of_the_latest_half_whatever_came_of_the_rows(version: Version) -> None:
    before, after = rows(version, range(300), 200), rows(version, range(400, 700), 20)
    reference = built(version, before, after, None)
    assert reference.rows == 300
    assert reference.inputs["pixel_mean"].edges == [19.5, 20.5]


def test_confidence_is_that_of_rows_that_nothing_was_learned_from(version: Version) -> None:
    reference = built(version, rows(version, range(600), 20), rows(version, range(600, 720), 200), None)
    assert reference.rows == 360
    assert reference.confidence is not None
    assert sum(reference.confidence.counts) == 120


def test_of_few_rows_the_test_set_says_how_it_should_be(version: Version) -> None:
    test = rows(version, range(50), 90)
    reference = built(
        version,
        rows(version, range(150), 20),
        rows(version, range(150, 180), 20),
        Part("test", test.rows, test.targets),
    )
    assert reference.rows == 80
    assert reference.confidence is not None
    assert sum(reference.confidence.counts) == 80


def test_of_nothing_there_is_none(version: Version) -> None:
    none = rows(version, range(0), 0)
    assert (
        new_reference.build(version, LabelledParts(rows(version, range(100), 9), none, None), torch.device("cpu"))
        is None
    )
