"""What a checkpoint was trained and tested on: the data that its recipe names where they are here, else its samples."""

import io
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from models.checkpoint_files import CheckpointFiles
from models.feedback.holdout import is_held_out
from models.feedback.rows import row_bytes
from models.preprocess import RawRows
from models.raw_rows import take
from models.training import loaders
from models.training.data import prepare
from models.training.loaders import MissingData, UnknownLoader
from models.training.recipes import InvalidRecipe, Recipe, parse_recipe
from models.training.run import EVALUATION_FILE, REPLAY_FILE

Array = np.ndarray[Any, np.dtype[Any]]

_VALIDATION_SHARE = 0.1


class Part(NamedTuple):
    """Raw rows and what they are: class indices, int64, or values (n,). `source` names where they come from."""

    source: str
    rows: RawRows
    targets: Array

    def at(self, indices: Array) -> "Part":
        """Return the part's rows at `indices`."""
        return Part(self.source, take(self.rows, indices), self.targets[indices])


@dataclass(frozen=True, slots=True)
class Originals:
    """What there is of them, None for what there is not; `notes` say why, in plain sentences.

    `test` is the frozen test set. `is_whole`: whether these are all the data that the recipe names, and not samples.
    """

    recipe: Recipe | None
    train: Part | None
    validation: Part | None
    test: Part | None
    is_whole: bool
    notes: list[str]


def find(files: CheckpointFiles) -> Originals:
    """Look for a checkpoint's data. Raises BrokenCheckpoint for samples that are not those of the manifest."""
    notes: list[str] = []
    recipe = _recipe(files, notes)
    if recipe is not None:
        whole = _whole(files, recipe, notes)
        if whole is not None:
            return whole
    return _samples(files, recipe, notes)


def _recipe(files: CheckpointFiles, notes: list[str]) -> Recipe | None:
    lineage = files.manifest.lineage
    if "recipe" not in lineage:
        notes.append("The parent's lineage names no recipe: it is fine-tuned by a default one for its task.")
        return None
    try:
        return parse_recipe(lineage["recipe"])
    except InvalidRecipe as error:
        notes.append(f"The recipe in the parent's lineage can't be used, so a default one is: {error}.")
        return None


def _whole(files: CheckpointFiles, recipe: Recipe, notes: list[str]) -> Originals | None:
    try:
        dataset = prepare(loaders.load(recipe.data), recipe.input, recipe.data)
    except (MissingData, UnknownLoader) as error:
        notes.append(f"The data that the parent was trained on are not here, so its samples stand for them: {error}.")
        return None
    known = files.manifest.lineage.get("dataset")
    if not isinstance(known, dict) or known.get("digest") != dataset.digest:
        notes.append(
            f"The data of {dataset.name} that are here are not those that the parent was trained on, so neither a "
            "replay nor the test set is taken from them."
        )
        return None
    every, split = Part(dataset.name, dataset.rows, dataset.targets), dataset.split
    return Originals(recipe, every.at(split.train), every.at(split.validation), every.at(split.held_out), True, notes)


def _samples(files: CheckpointFiles, recipe: Recipe | None, notes: list[str]) -> Originals:
    test, replay = (_sample(files, name, notes) for name in (EVALUATION_FILE, REPLAY_FILE))
    if replay is None:
        return Originals(recipe, None, None, test, False, notes)
    contract = files.manifest.input
    chosen = np.array([is_held_out(row_bytes(row, contract), _VALIDATION_SHARE, "validation") for row in replay.rows])
    train, validation = replay.at(np.flatnonzero(~chosen)), replay.at(np.flatnonzero(chosen))
    return Originals(recipe, train, validation if chosen.any() else None, test, False, notes)


def _sample(files: CheckpointFiles, name: str, notes: list[str]) -> Part | None:
    if name not in files.manifest.files:
        notes.append(f"The parent has no {name}.")
        return None
    with np.load(io.BytesIO(files.read(name)), allow_pickle=False) as sample:
        rows, targets = sample["rows"], sample["targets"]
    return Part(name, rows.tolist() if rows.dtype.kind == "U" else rows, targets) if len(targets) else None
