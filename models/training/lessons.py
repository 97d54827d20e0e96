"""What a retraining learns from, and how: a mixture for the champion's weights, or everything for a new network."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.architectures import build
from models.checkpoint import to_bytes
from models.feedback.job import RetrainJob
from models.feedback.rows import LabelledRows
from models.manifest import Target
from models.preprocess import Preprocessor, Step
from models.raw_rows import joined, take
from models.training import evaluate, preparation
from models.training.augment import ImageAugmentation
from models.training.batches import Rows, TrainingRows
from models.training.judging import Version
from models.training.losses import LossConfig
from models.training.mixture import Mixture, num_replayed, strata_of, stratified
from models.training.optim import OptimizerConfig, ScheduleConfig
from models.training.originals import Originals, Part
from models.training.recipes import Recipe
from models.training.trainer import LoopConfig, Objective, Trainer

Array = np.ndarray[Any, np.dtype[Any]]

_LOSSES = {"multiclass": "cross_entropy", "binary": "bce", "regression": "mse"}


@dataclass(frozen=True, slots=True)
class Method:
    """How to learn."""

    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    loop: LoopConfig
    augmentation: ImageAugmentation | None = None
    token_dropout: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """What the lineage says of it."""
        parts = {"loss": self.loss, "optimizer": self.optimizer, "schedule": self.schedule, "loop": self.loop}
        told = {name: part.model_dump(mode="json") for name, part in parts.items()}
        augmentation = None if self.augmentation is None else self.augmentation.model_dump(mode="json")
        return {**told, "augmentation": augmentation, "token_dropout": self.token_dropout}


@dataclass(frozen=True, slots=True)
class Lesson:
    """A trainer with what it learns from. `replayed` counts original rows of an epoch; `key` names all of it."""

    trainer: Trainer
    train: TrainingRows
    validation: Rows
    steps: list[Step]
    files: dict[str, bytes]
    target: Target | None
    method: Method
    replayed: int
    key: str


def fine_tuning(
    job: RetrainJob,
    parent: Version,
    files: dict[str, bytes],
    originals: Originals,
    new: LabelledRows,
    validation: LabelledRows,
    device: torch.device,
    rng: np.random.Generator,
) -> Lesson:
    """Prepare to go on from the parent's weights, on `new` rows mixed with a replay."""
    options, manifest = job.options, parent.manifest
    wanted = 0 if originals.train is None else num_replayed(len(new), options.replay_share)
    method = _fine_tuning_method(job, manifest.task, originals.recipe, len(new) + wanted)
    replay = None
    if originals.train is not None and wanted:
        # No more than all epochs together can use: preparing the whole of a large data set takes long.
        most = min(len(originals.train.targets), wanted * method.loop.epochs)
        replay = originals.train.at(stratified(strata_of(originals.train.targets), most, rng))
    old_validation = None
    if originals.validation is not None and wanted:
        count = min(num_replayed(len(validation), options.replay_share), len(originals.validation.targets))
        old_validation = originals.validation.at(stratified(strata_of(originals.validation.targets), count, rng))
    rows = _rows(new, replay, parent.preprocess, manifest.target, method, weighted=True)
    strata = np.zeros(0, np.int64) if replay is None else strata_of(replay.targets)
    return Lesson(
        _trainer(parent, method, _learned(new, replay, manifest.target), device),
        Mixture(rows, len(new), strata, wanted),
        _rows(validation, old_validation, parent.preprocess, manifest.target, method, weighted=False),
        list(manifest.preprocess),
        {name: files[name] for name in manifest.preprocess_files},
        manifest.target,
        method,
        wanted,
        _key(job, parent, method, [new, validation], [replay, old_validation], device),
    )


def full_training(
    job: RetrainJob,
    parent: Version,
    originals: Originals,
    new: LabelledRows,
    validation: LabelledRows,
    device: torch.device,
) -> Lesson:
    """Prepare a new network by the parent's recipe, on all original training rows and the `new` ones.

    Raises ValueError without a recipe and all of its data. What it draws is torch's.
    """
    recipe, train = originals.recipe, originals.train
    if recipe is None or train is None or not originals.is_whole:
        raise ValueError(f"a full retraining needs the parent's recipe and data: {' '.join(originals.notes)}")
    epochs = {} if job.options.epochs is None else {"epochs": job.options.epochs}
    loop = recipe.loop.model_copy(update=epochs)
    method = Method(recipe.loss, recipe.optimizer, recipe.schedule, loop, recipe.augmentation, recipe.token_dropout)
    steps, files = preparation.fit(recipe.preprocess, joined([new.rows, train.rows]))
    target = parent.manifest.target
    if target is not None:
        values = np.concatenate([new.targets, train.targets])
        moments = {"mean": float(values.mean()), "std": float(values.std()) or 1.0}
        target = target.model_copy(update=moments)
    network = build(recipe.architecture.family, recipe.architecture.config)
    preprocess = Preprocessor(steps, files.__getitem__)
    fresh = Version(parent.manifest, network, preprocess)
    return Lesson(
        _trainer(fresh, method, _learned(new, train, target), device),
        _rows(new, train, preprocess, target, method, weighted=True),
        _rows(validation, originals.validation, preprocess, target, method, weighted=False),
        steps,
        files,
        target,
        method,
        len(train.targets),
        _key(job, fresh, method, [new, validation], [train, originals.validation], device),
    )


def _fine_tuning_method(job: RetrainJob, task: str, recipe: Recipe | None, rows: int) -> Method:
    options = job.options
    if task not in _LOSSES:
        raise ValueError(f"versions of task {task} can't be retrained; only {', '.join(_LOSSES)} can")
    if recipe is None:
        loss = LossConfig.model_validate({"kind": _LOSSES[task]})
        optimizer = OptimizerConfig(kind="adamw", learning_rate=1e-3, gradient_clip=1.0)
        method = Method(loss, optimizer, ScheduleConfig(), LoopConfig(epochs=1, batch_size=32, keep_best_by="loss"))
    else:
        method = Method(
            recipe.loss, recipe.optimizer, recipe.schedule, recipe.loop, recipe.augmentation, recipe.token_dropout
        )
    # Few rows in large batches would be an epoch of one or two steps.
    batch_size = options.batch_size or min(method.loop.batch_size, max(16, rows // 20))
    changes = {"epochs": options.epochs or 10, "batch_size": batch_size, "patience": options.patience or 3}
    rate = method.optimizer.learning_rate * options.learning_rate_factor
    return Method(
        method.loss,
        method.optimizer.model_copy(update={"learning_rate": rate}),
        ScheduleConfig(kind="cosine", warmup=0.1),
        method.loop.model_copy(update=changes),
        method.augmentation,
        method.token_dropout,
    )


def _trainer(version: Version, method: Method, targets: Array, device: torch.device) -> Trainer:
    manifest = version.manifest
    objective = Objective(
        loss=method.loss.build(targets, len(manifest.labels)),
        metric=lambda logits, y: evaluate.validation_metric(manifest.task, logits, y, manifest.threshold),
    )
    return Trainer(version.network, objective, method.loop, method.optimizer, method.schedule, device)


def _rows(
    new: LabelledRows,
    old: Part | None,
    preprocess: Preprocessor,
    target: Target | None,
    method: Method,
    *,
    weighted: bool,
) -> Rows:
    """The new rows, then the old ones; changed at random and weighted where they are learned from."""
    rows = new.rows if old is None else old.rows if not len(new) else joined([new.rows, old.rows])
    weights = np.concatenate([new.weights, np.ones(0 if old is None else len(old.targets))])
    targets = _learned(new, old, target)
    if not weighted:
        return Rows(rows, targets, preprocess)
    return Rows(rows, targets, preprocess, method.augmentation, method.token_dropout, weights)


def _learned(new: LabelledRows, old: Part | None, target: Target | None) -> Array:
    """What the network learns (n,): class indices, or standardised float32 values."""
    targets = np.concatenate([new.targets, new.targets[:0] if old is None else old.targets])
    if target is None:
        return targets.astype(np.int64)
    return np.asarray((targets - target.mean) / target.std, np.float32)


def _key(
    job: RetrainJob,
    version: Version,
    method: Method,
    new: list[LabelledRows],
    old: list[Part | None],
    device: torch.device,
) -> str:
    """Names all that decides the weights that come out."""
    total = hashlib.sha256(to_bytes(version.network.state_dict(), "float32"))
    machine = [torch.__version__, torch.get_num_threads(), str(device)]
    total.update(repr([method.to_dict(), job.options.seed, job.mode, machine]).encode())
    for rows in new:
        total.update(rows.digest().encode())
    for part in old:
        given = LabelledRows.of([], np.zeros(0), []) if part is None else _as_labelled(part)
        total.update(given.digest().encode())
    return total.hexdigest()


def _as_labelled(part: Part) -> LabelledRows:
    return LabelledRows.of(part.rows, part.targets, np.full(len(part.targets), ""))


def sample(new: LabelledRows, old: Part | None, count: int, rng: np.random.Generator) -> Part | None:
    """Return `count` rows at most of what was learned from, half of them new, for the new version's replay.

    None where there is nothing, and of sequences, which make no one array.
    """
    num_new = min(len(new), count if old is None else count - min(count // 2, len(old.targets)))
    chosen = take(new.rows, picked := stratified(strata_of(new.targets), num_new, rng))
    rows, targets = chosen, new.targets[picked]
    if old is not None:
        kept = old.at(stratified(strata_of(old.targets), min(count - num_new, len(old.targets)), rng))
        rows, targets = (joined([chosen, kept.rows]) if num_new else kept.rows), np.concatenate([targets, kept.targets])
    if not len(targets) or not (isinstance(rows, np.ndarray) or isinstance(rows[0], str)):
        return None
    return Part("replay", rows, targets)
