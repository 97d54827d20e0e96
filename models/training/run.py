"""A whole run: from a recipe to a complete checkpoint folder.

The held-out part is read once, at the end, with the weights as they were stored, through the declared steps.
"""

import io
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import checkpoint
from models.architectures import Network, build
from models.manifest import Manifest, Target
from models.preprocess import Preprocessor, Step
from models.raw_rows import take
from models.reference import REFERENCE_FILE
from models.training import curves, evaluate, loaders, preparation, reference
from models.training.batches import Rows
from models.training.data import Array, Dataset, prepare
from models.training.recipes import Recipe
from models.training.trainer import History, Objective, Progress, Trainer, reproducible

EVALUATION_FILE = "evaluation.npz"
REPLAY_FILE = "replay.npz"
CURVES_FILE = "curves.png"


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe brought together with its data."""

    recipe: Recipe
    dataset: Dataset
    steps: Sequence[Step]
    files: dict[str, bytes]
    preprocess: Preprocessor
    target: Target | None


def run(
    recipe: Recipe, out: Path, *, device: str = "auto", on_progress: Callable[[Progress], None] = lambda progress: None
) -> Manifest:
    """Train by `recipe`, write the checkpoint folder `out` and return its manifest.

    Raises FileExistsError when `out` is there already, ValueError for data or settings that don't work out,
    FileNotFoundError for missing data, MissingMatplotlib, and ArithmeticError when training diverges.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists already, and checkpoints are immutable")
    curves.check_installed()
    started = datetime.now(UTC)
    where = pick_device(device)
    revision = code_revision()
    plan = plan_run(recipe)
    network, history = train(plan, where, on_progress)
    weights = checkpoint.to_bytes(network.state_dict(), recipe.storage)
    stored = checkpoint.from_bytes(weights, recipe.architecture)
    found, reference_file = measure_held_out(plan, stored, where)
    lineage = {
        "parent": None,
        "dataset": plan.dataset.to_dict(),
        "recipe": recipe.model_dump(mode="json"),
        "seed": recipe.seed,
        "training": {
            "epochs": len(history.epochs),
            "best_epoch": history.best + 1,
            "seconds": round(sum(epoch.seconds for epoch in history.epochs), 1),
        },
        "code_revision": revision,
        "feedback_digest": None,
        "created_at": started.isoformat(timespec="seconds"),
        "framework": f"torch {torch.__version__}",
    }
    title = f"{recipe.model}: {len(history.epochs)} epochs, seed {recipe.seed}"
    metric = "R2" if recipe.task == "regression" else "accuracy"
    files = {
        **plan.files,
        REFERENCE_FILE: reference_file,
        CURVES_FILE: curves.draw(history, metric, title),
        **samples(plan),
    }
    return checkpoint.write(
        out,
        {**manifest_fields(plan), "metrics": found, "lineage": lineage},
        stored,
        files=files,
        dtype=recipe.storage,
    )


def pick_device(device: str) -> torch.device:
    """Return the device: cpu, cuda, cuda:1 ...; "auto" is a GPU where there is one. Raises ValueError for others."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, _, number = device.partition(":")
    if name not in ("cpu", "cuda") or not (number or "0").isdecimal():
        raise ValueError(f"unknown device {device!r}; use auto, cpu, cuda or cuda:N")
    if name == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no device {device!r} here: {torch.cuda.device_count()} GPUs were found")
    return torch.device(device)


def plan_run(recipe: Recipe) -> Plan:
    """Load, clean and split the data, and learn on the training part what preprocessing needs.

    Raises ValueError for data that don't fit the recipe, FileNotFoundError for missing ones.
    """
    dataset = prepare(loaders.load(recipe.data), recipe.input, recipe.data)
    if recipe.labels and int(dataset.targets.max()) >= len(recipe.labels):
        raise ValueError(
            f"the data have a class {int(dataset.targets.max())}, the recipe has {len(recipe.labels)} labels"
        )
    parts = dataset.split
    steps, files = preparation.fit(recipe.preprocess, take(dataset.rows, parts.train))
    target = None
    if recipe.target is not None:
        values = dataset.targets[parts.train]
        target = Target(
            name=recipe.target.name, unit=recipe.target.unit, mean=float(values.mean()), std=float(values.std()) or 1.0
        )
    return Plan(recipe, dataset, steps, files, Preprocessor(steps, files.__getitem__), target)


def train(plan: Plan, device: torch.device, on_progress: Callable[[Progress], None]) -> tuple[Network, History]:
    """Return the trained network and what each epoch reached. The same seed gives the same weights."""
    recipe, parts = plan.recipe, plan.dataset.split
    with reproducible(recipe.seed) as rng:
        network = build(recipe.architecture.family, recipe.architecture.config)
        targets = learned_targets(plan)
        objective = Objective(
            loss=recipe.loss.build(targets[parts.train], len(recipe.labels)),
            metric=lambda logits, y: evaluate.validation_metric(recipe.task, logits, y, recipe.threshold),
        )
        rows = Rows(
            take(plan.dataset.rows, parts.train),
            targets[parts.train],
            plan.preprocess,
            recipe.augmentation,
            recipe.token_dropout,
        )
        validation = Rows(take(plan.dataset.rows, parts.validation), targets[parts.validation], plan.preprocess)
        trainer = Trainer(network, objective, recipe.loop, recipe.optimizer, recipe.schedule, device)
        history = trainer.fit(rows, validation, rng, on_progress)
    return network, history


def learned_targets(plan: Plan) -> Array:
    """Return (n,) what the network learns: class indices, or standardised float32 values."""
    if plan.target is None:
        return plan.dataset.targets.astype(np.int64)
    return ((plan.dataset.targets - plan.target.mean) / plan.target.std).astype(np.float32)


def measure_held_out(plan: Plan, network: Network, device: torch.device) -> tuple[dict[str, Any], bytes]:
    """Return the manifest's metrics and reference.json, from one pass over the held-out part."""
    recipe, indices = plan.recipe, plan.dataset.split.held_out
    raw, truth = take(plan.dataset.rows, indices), plan.dataset.targets[indices]
    logits = evaluate.outputs(network, Rows(raw, truth, plan.preprocess), device)
    answers = evaluate.answers(logits, recipe.task, recipe.threshold, plan.target)
    estimates = evaluate.measure(answers, truth, recipe.task, recipe.threshold)
    found = {name: estimate.to_dict() for name, estimate in estimates.items()}
    return found, reference.build(
        recipe.input, list(recipe.labels), raw, plan.preprocess(raw), answers, (answers, truth)
    )


def manifest_fields(plan: Plan) -> dict[str, Any]:
    """Return what the manifest says of serving."""
    recipe = plan.recipe
    return {
        "model": recipe.model,
        "version": recipe.version,
        "description": recipe.description,
        "architecture": recipe.architecture,
        "task": recipe.task,
        "input": recipe.input,
        "preprocess": plan.steps,
        "labels": list(recipe.labels),
        "threshold": recipe.threshold,
        "target": plan.target,
    }


def samples(plan: Plan) -> dict[str, bytes]:
    """Return small held-out and training samples as .npz files with `rows` (raw) and `targets`, if the recipe may."""
    parts = plan.dataset.split
    if not plan.recipe.sample_rows:
        return {}
    rng = np.random.default_rng(plan.recipe.data.split_seed)
    files = {}
    for name, indices in ((EVALUATION_FILE, parts.held_out), (REPLAY_FILE, parts.train)):
        chosen = rng.choice(indices, min(plan.recipe.sample_rows, len(indices)), replace=False)
        packed = io.BytesIO()
        np.savez_compressed(
            packed, rows=np.asarray(take(plan.dataset.rows, chosen)), targets=plan.dataset.targets[chosen]
        )
        files[name] = packed.getvalue()
    return files


def code_revision() -> str | None:
    """Return the git commit of this code, with "+changes" where `models` differs from it; None outside of git."""
    folder = Path(__file__).parent.parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        changes = git("status", "--porcelain", "--", ".", ":(exclude)checkpoints")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return None
