"""A whole retraining: from a champion and labelled feedback to a new checkpoint, and what both say of the same rows.

The frozen test set and the holdout of feedback are read once, at the end, with the weights as they were stored.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch

from models import checkpoint, durable
from models.checkpoint import StorageType
from models.checkpoint_files import CheckpointFiles, check_safetensors
from models.feedback import defences
from models.feedback import job as jobs
from models.feedback.holdout import is_held_out
from models.feedback.job import Judged, Pair, RetrainJob, RetrainResult
from models.feedback.rows import LabelledRows, joined_rows, read, row_bytes, row_digest
from models.manifest import WEIGHTS, FileEntry
from models.preprocess import Preprocessor
from models.reference import REFERENCE_FILE
from models.training import curves, evaluate, new_reference
from models.training.judging import MEASURED_ROWS, Version, said, seconds_per_row
from models.training.lessons import Lesson, fine_tuning, full_training, sample
from models.training.mixture import num_replayed
from models.training.originals import Originals, Part, find
from models.training.resuming import Keeper, Stopped
from models.training.run import CURVES_FILE, EVALUATION_FILE, REPLAY_FILE, code_revision, pick_device
from models.training.trainer import History, Progress, reproducible

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class Told:
    """Where a retraining stands: its phase, and within training what the trainer tells."""

    phase: str
    training: Progress | None = None


@dataclass(frozen=True, slots=True)
class _Divided:
    """What became of the labelled rows."""

    train: LabelledRows
    validation: LabelledRows
    holdout: LabelledRows
    quarantined: list[defences.Quarantined]
    ids: Array
    counts: dict[str, int]

    @property
    def set_apart(self) -> LabelledRows:
        """Rows that nothing was learned from."""
        return joined_rows([self.validation, self.holdout])


class _Retraining:
    """One job on its way. What is None is not there."""

    def __init__(self, folder: Path, job: RetrainJob, device: torch.device) -> None:
        self.folder, self.job, self.device = folder, job, device
        self.files = CheckpointFiles(job.parent)
        self.files.verify()
        manifest = self.files.manifest
        if manifest.task not in ("multiclass", "binary", "regression"):
            raise ValueError(f"versions of task {manifest.task} can't be retrained")
        network = checkpoint.network_of(self.files.read(WEIGHTS), manifest)
        self.parent = Version(manifest, network, Preprocessor(manifest.preprocess, self.files.read))
        self.originals: Originals = find(self.files)
        self.notes = self.originals.notes
        self.given = read(folder, manifest.input)
        _check_targets(self.given, manifest.task, len(manifest.labels))

    def divided(self) -> _Divided:
        """Defend against wrong labels, then set the holdout and the validation part apart."""
        job, given, manifest = self.job, self.given, self.parent.manifest
        policy, options, test = job.defences, job.options, self.originals.test
        in_test = {row_digest(row, manifest.input) for row in test.rows} if test is not None else set()
        keys = np.array([row_digest(row, manifest.input) for row in given.rows])
        counts = {"given": len(given)}
        keep = np.array([key not in in_test for key in keys], bool)
        counts["in_test_set"] = int((~keep).sum())
        weights = defences.trusted(given.weights, given.sources, policy.trust)
        counts["untrusted"] = int((keep & (weights <= 0)).sum())
        keep &= weights > 0
        doubled = defences.repeated(keys, given.targets, given.actors) & keep
        counts["repeated"] = int(doubled.sum())
        keep &= ~doubled
        left = np.flatnonzero(keep)
        over = defences.over_cap(given.actors[left], policy.most_rows_of_actor, np.random.default_rng(options.seed))
        counts["over_cap"] = int(over.sum())
        left = left[~over]
        found = self._quarantined(replace(given, weights=weights).take(left), keys[left])
        quarantined = [replace(row, index=int(left[row.index])) for row in found]
        left = np.setdiff1d(left, [row.index for row in quarantined])
        counts["quarantined"] = len(quarantined)
        salt = job.model if options.holdout_salt is None else options.holdout_salt
        held, chosen = (
            np.array(
                [is_held_out(row_bytes(given.rows[i], manifest.input), share, f"{part} {salt}") for i in left], bool
            )
            for part, share in (("holdout", options.holdout_share), ("validation", options.validation_share))
        )
        weighted = replace(given, weights=weights)
        train, validation, holdout = (weighted.take(left[part]) for part in (~held & ~chosen, ~held & chosen, held))
        counts |= {"trained": len(train), "validated": len(validation), "held_out": len(holdout)}
        old = self.originals.train
        others = 0 if old is None else num_replayed(len(train), options.replay_share)
        others = len(old.targets) if old is not None and job.mode == "full" else others
        limited = defences.limited(train.weights, train.actors, policy.most_influence_of_actor, others)
        counts["weighed_down"] = int((limited < train.weights).sum())
        return _Divided(replace(train, weights=limited), validation, holdout, quarantined, given.ids, counts)

    def _quarantined(self, rows: LabelledRows, keys: Array) -> list[defences.Quarantined]:
        manifest, test, policy = self.parent.manifest, self.originals.test, self.job.defences
        if test is None or not len(rows):
            self.notes.append("Without a test set nobody knows when the champion is sure: nothing is quarantined.")
            return []
        says, test_says = (said(self.parent.answers(part, self.device)) for part in (rows.rows, test.rows))
        task, threshold = manifest.task, manifest.threshold
        held = defences.opinion(task, says, rows.targets, test_says, test.targets, threshold, policy)
        other = defences.otherwise(task, says, rows.targets, threshold, held)
        return defences.quarantine(held, other, keys, rows.targets, rows.actors, policy)

    def lesson(self, divided: _Divided, rng: np.random.Generator) -> Lesson:
        """Prepare what is learned from."""
        if not len(divided.train):
            raise ValueError(f"no labelled row is left to learn from: {divided.counts}")
        if not len(divided.validation) and self.originals.validation is None:
            raise ValueError(
                f"{len(divided.train)} labelled rows are too few: none is left to choose the best epoch by"
            )
        given = divided.train, divided.validation, self.device
        if self.job.mode == "full":
            return full_training(self.job, self.parent, self.originals, *given)
        files = {name: self.files.read(name) for name in self.parent.manifest.preprocess_files}
        # Trained in place: the parent's own stays to be compared with.
        network = checkpoint.network_of(self.files.read(WEIGHTS), self.parent.manifest)
        copy = replace(self.parent, network=network)
        return fine_tuning(self.job, copy, files, self.originals, *given, rng)

    def storage(self) -> StorageType:
        """How the weights are stored: as the recipe says, else as the parent's are."""
        if self.originals.recipe is not None:
            return self.originals.recipe.storage
        dtypes = {dtype for dtype, _ in check_safetensors(self.files.read(WEIGHTS)).values()}
        return "float16" if dtypes == {"F16"} else "float32"


def retrain(
    folder: Path,
    tell: Callable[[Told], None] = lambda told: None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> RetrainResult:
    """Do what `folder`/job.json says, write the checkpoint and everything beside it, and return result.json.

    A retraining that was broken off goes on where it stood; one that is over returns its result again. Raises Stopped
    when `is_stopped` says so, FileExistsError where the checkpoint's folder is somebody else's, ValueError for a job,
    rows or a parent that don't work out, OSError, and ArithmeticError when training diverges.
    """
    job = jobs.read_job(folder)
    if job.out.exists():
        done = jobs.read_result(folder)
        if done is None or CheckpointFiles(job.out).manifest.digest != done.digest:
            raise FileExistsError(f"{job.out} exists already, and checkpoints are immutable")
        return done

    def enter(phase: str) -> None:
        if is_stopped():
            raise Stopped
        tell(Told(phase))

    enter("read")
    device = pick_device(job.options.device)
    running = _Retraining(folder, job, device)
    enter("prepare")
    divided = running.divided()
    with reproducible(job.options.seed) as rng, _threads(job.options.threads):
        lesson = running.lesson(divided, rng)
        every = job.options.save_every_seconds
        keeper = Keeper(folder / jobs.STATE_FILE, lesson.key, every=every, is_stopped=is_stopped)
        trainer = lesson.trainer
        history = trainer.fit(
            lesson.train, lesson.validation, rng, lambda progress: tell(Told("train", progress)), keeper
        )
    if keeper.refused:
        running.notes.append(f"The state of an earlier training was not taken up: {keeper.refused}.")
    enter("judge")
    result = _finish(running, divided, lesson, history, lambda: enter("write"))
    keeper.forget()
    return result


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _finish(
    running: _Retraining, divided: _Divided, lesson: Lesson, history: History, before_writing: Callable[[], None]
) -> RetrainResult:
    job, parent, originals, device = running.job, running.parent, running.originals, running.device
    storage = running.storage()
    weights = checkpoint.to_bytes(lesson.trainer.network.state_dict(), storage)
    stored = checkpoint.from_bytes(weights, parent.manifest.architecture)
    fields = {**parent.manifest.model_dump(), "model": job.model, "version": job.version}
    fields |= {"preprocess": lesson.steps, "target": lesson.target}
    manifest = parent.manifest.model_copy(update={"preprocess": lesson.steps, "target": lesson.target})
    new = Version(manifest, stored, Preprocessor(lesson.steps, lesson.files.__getitem__))
    judged: dict[str, Array] = {}
    parts = {"test": originals.test, "holdout": _holdout(divided.holdout)}
    answers: dict[str, evaluate.Answers] = {}
    for name, part in parts.items():
        if part is not None:
            answers[name] = new.answers(part.rows, device)
            judged |= {
                f"{name}_truth": part.targets,
                f"{name}_parent": said(parent.answers(part.rows, device)),
                f"{name}_new": said(answers[name]),
            }
    judged["holdout_ids"] = divided.holdout.ids
    measured = next((name for name in parts if parts[name] is not None), None)
    metrics: dict[str, Any] = {}
    if measured is not None and (part := parts[measured]) is not None:
        task, threshold = manifest.task, manifest.threshold
        found = evaluate.measure(answers[measured], part.targets, task, threshold)
        metrics = {name: estimate.to_dict() for name, estimate in found.items()}
    on = None if measured is None else measured if originals.is_whole or measured == "holdout" else EVALUATION_FILE
    lineage = _lineage(running, divided, lesson, history, on)
    files = {**lesson.files, **_further_files(running, divided, new, history)}
    rows = next((part.rows for part in parts.values() if part is not None), None)
    result = RetrainResult(
        model=job.model,
        version=job.version,
        out=job.out,
        digest=FileEntry.of(weights).sha256,
        parent_digest=parent.manifest.digest,
        rows_digest=running.given.digest(),
        counts={**divided.counts, "replayed_each_epoch": lesson.replayed},
        test=_counted(parts["test"]),
        holdout=_counted(parts["holdout"]),
        weight_bytes=Pair(parent=parent.manifest.files[WEIGHTS].size, new=len(weights)),
        seconds_per_row=None if rows is None else seconds_per_row(parent, new, rows, device),
        measured_rows=0 if rows is None else min(len(rows), MEASURED_ROWS),
        epochs=len(history.epochs),
        best_epoch=history.best + 1,
        seconds=round(sum(epoch.seconds for epoch in history.epochs), 1),
        notes=running.notes,
        lineage=lineage,
    )
    before_writing()
    _write_beside(running.folder, divided, judged, result)
    # Last: the retraining is over when the checkpoint is there.
    whole = {**fields, "metrics": metrics, "lineage": lineage}
    del whole["files"]
    checkpoint.write(job.out, whole, stored, files=files, dtype=storage)
    return result


def _write_beside(folder: Path, divided: _Divided, judged: dict[str, Array], result: RetrainResult) -> None:
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **judged)
    quarantined = [
        {"id": str(divided.ids[row.index]), "reason": row.reason, "loss": row.loss} for row in divided.quarantined
    ]
    used = {
        "trained": divided.train.ids.tolist(),
        "validated": divided.validation.ids.tolist(),
        "held_out": divided.holdout.ids.tolist(),
    }
    durable.replace(folder / jobs.JUDGED_FILE, packed.getvalue())
    durable.replace(folder / jobs.QUARANTINE_FILE, orjson.dumps(quarantined, option=orjson.OPT_INDENT_2))
    durable.replace(folder / jobs.USED_FILE, orjson.dumps(used))
    durable.replace(folder / jobs.RESULT_FILE, result.model_dump_json(indent=2).encode())


def _lineage(
    running: _Retraining, divided: _Divided, lesson: Lesson, history: History, measured_on: str | None
) -> dict[str, Any]:
    job, manifest = running.job, running.parent.manifest
    inherited: dict[str, Any] = {
        name: manifest.lineage[name] for name in ("dataset", "recipe") if name in manifest.lineage
    }
    if job.mode == "full":
        inherited["recipe"] = {**inherited["recipe"], "version": job.version, "seed": job.options.seed}
    return {
        **inherited,
        "parent": {"model": manifest.model, "version": manifest.version, "digest": manifest.digest},
        "feedback_digest": job.feedback_digest,
        "seed": job.options.seed,
        "retraining": {
            "mode": job.mode,
            "options": job.options.model_dump(mode="json"),
            "defences": job.defences.model_dump(mode="json"),
            "method": lesson.method.to_dict(),
            "rows_digest": running.given.digest(),
            "counts": divided.counts,
            "replay": None if running.originals.train is None else running.originals.train.source,
            "measured_on": measured_on,
            "job": job.lineage,
        },
        "training": {
            "epochs": len(history.epochs),
            "best_epoch": history.best + 1,
            "seconds": round(sum(epoch.seconds for epoch in history.epochs), 1),
        },
        "code_revision": code_revision(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "framework": f"torch {torch.__version__}",
    }


def _further_files(running: _Retraining, divided: _Divided, new: Version, history: History) -> dict[str, bytes]:
    """reference.json, samples of data, and curves: what there is to make them of."""
    job, manifest = running.job, running.parent.manifest
    rng = np.random.default_rng(job.options.seed)
    files: dict[str, bytes] = {}
    if EVALUATION_FILE in manifest.files:
        files[EVALUATION_FILE] = running.files.read(EVALUATION_FILE)
    labelled = new_reference.LabelledParts(divided.train, divided.set_apart, running.originals.test)
    built = new_reference.build(new, labelled, running.device)
    if built is not None:
        files[REFERENCE_FILE] = built
    old = _replay_of(running)
    count = job.options.kept_rows
    if count is None:
        count = 0 if old is None else len(old.targets)
    replay = sample(divided.train, old, count, rng)
    if replay is not None:
        packed = io.BytesIO()
        np.savez_compressed(packed, rows=np.asarray(replay.rows), targets=replay.targets)
        files[REPLAY_FILE] = packed.getvalue()
    if find_spec("matplotlib") is None:
        running.notes.append(f"There is no {CURVES_FILE}: matplotlib is not installed.")
    else:
        metric = "R2" if manifest.task == "regression" else "accuracy"
        title = f"{job.model} version {job.version}: {len(history.epochs)} epochs from version {manifest.version}"
        files[CURVES_FILE] = curves.draw(history, metric, title)
    return files


def _replay_of(running: _Retraining) -> Part | None:
    """The original rows that the parent itself carries: others may not be stored."""
    if REPLAY_FILE not in running.files.manifest.files:
        return None
    with np.load(io.BytesIO(running.files.read(REPLAY_FILE)), allow_pickle=False) as kept:
        rows, targets = kept["rows"], kept["targets"]
    return Part(REPLAY_FILE, rows.tolist() if rows.dtype.kind == "U" else rows, targets)


def _holdout(rows: LabelledRows) -> Part | None:
    return Part("feedback", rows.rows, rows.targets) if len(rows) else None


def _counted(part: Part | None) -> Judged | None:
    return None if part is None else Judged(source=part.source, rows=len(part.targets))


def _check_targets(given: LabelledRows, task: str, num_labels: int) -> None:
    if not len(given):
        raise ValueError("there are no labelled rows")
    if task == "regression":
        if given.targets.dtype.kind not in "fiu" or not np.isfinite(given.targets).all():
            raise ValueError("targets must be finite numbers")
    elif given.targets.dtype.kind not in "iu" or given.targets.min() < 0 or given.targets.max() >= num_labels:
        raise ValueError(f"targets must be whole numbers from 0 to {num_labels - 1}, the labels' indices")
