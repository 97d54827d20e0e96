"""What two versions say of the same rows, how fast, and what the difference is to be judged by. Shapes: n rows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from models.architectures import Network
from models.feedback.job import Pair
from models.manifest import Manifest
from models.preprocess import Preprocessor, RawRows
from models.training import evaluate
from models.training.batches import Rows
from models.training.evaluate import Answers

Array = np.ndarray[Any, np.dtype[Any]]

MEASURED_ROWS = 64
_RUNS = 15


@dataclass(frozen=True, slots=True)
class Version:
    """A network as its manifest has it served."""

    manifest: Manifest
    network: Network
    preprocess: Preprocessor

    def answers(self, rows: RawRows, device: torch.device) -> Answers:
        """What it says of raw rows."""
        n, manifest = len(rows), self.manifest
        logits = evaluate.outputs(self.network, Rows(rows, np.zeros(n, np.int64), self.preprocess), device)
        return evaluate.answers(logits, manifest.task, manifest.threshold, manifest.target)


def said(answers: Answers) -> Array:
    """What judging takes: probabilities (n, C), that of the positive label (n,), or values (n,)."""
    return answers.predicted if answers.probabilities is None else answers.probabilities


def seconds_per_row(
    parent: Version, new: Version, rows: RawRows, device: torch.device, clock: Callable[[], float] = time.perf_counter
) -> Pair:
    """Return the median forward of at most 64 rows together, by row; both in turn, so that what disturbs meets both."""
    versions = (parent, new)
    batches = []
    for version in versions:
        prepared = Rows(rows[:MEASURED_ROWS], np.zeros(len(rows[:MEASURED_ROWS]), np.int64), version.preprocess)
        ((_, batch),) = prepared.in_order_of_length(MEASURED_ROWS)
        batches.append(batch.to(device))
        version.network.eval().to(device)
    taken: list[list[float]] = [[], []]
    with torch.inference_mode():
        for _ in range(_RUNS):
            for version, batch, seconds in zip(versions, batches, taken, strict=True):
                began = clock()
                version.network(batch.x, batch.lengths).cpu()
                seconds.append(clock() - began)
    count = len(batches[0].x)
    return Pair(parent=float(np.median(taken[0])) / count, new=float(np.median(taken[1])) / count)
