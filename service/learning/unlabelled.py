"""How good a version is by its own word: from how sure it was, and how often it was right when it was so sure before.

Confidence-based performance estimation. It holds while what confidence means stays as it was; how far it did is told
by `scored`: what would have been said of labelled predictions, beside what their labels say.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from models.metrics import Array, Calibrator, Estimate, estimated_accuracy, proportion
from models.reference import Reference
from service.learning.live import LiveModel

# Of fewer, an isotonic regression would follow chance.
_LEAST_ROWS = 200
# The latest of more say the same, sooner.
_MOST_ROWS = 20_000
_EVER = 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """What confidence means: by the labels of `n` rows, those of earlier predictions or the reference's. 0 rows: what
    it says."""

    calibrator: Calibrator
    source: Literal["labels", "reference", "none"]
    n: int


def calibration(model: LiveModel, version: int, reference: Reference | None, until: float) -> Calibration:
    """By labelled predictions that were made before `until`, in seconds since 1970, where they are enough."""
    judged = model.judged(version, _EVER, until, most=_MOST_ROWS)
    if judged is not None and len(judged[0]) >= _LEAST_ROWS:
        confidence, correct = judged
        return Calibration(Calibrator.fit(confidence, correct), "labels", len(confidence))
    if reference is not None and reference.confidence is not None and reference.right is not None:
        edges, counts = np.array(reference.confidence.edges), np.array(reference.confidence.counts)
        held = counts > 0
        shares = np.array(reference.right)[held] / counts[held]
        calibrator = Calibrator.fit(((edges[:-1] + edges[1:]) / 2)[held], shares, counts[held])
        return Calibration(calibrator, "reference", int(counts.sum()))
    return Calibration(Calibrator.identity(), "none", 0)


def of_confidence(confidence: Array, by: Calibration) -> Estimate:
    """The accuracy that labels of these rows (n,) would show."""
    return estimated_accuracy(confidence, by.calibrator, by.n or None)


def scored(model: LiveModel, version: int, reference: Reference | None, since: float, now: float) -> dict[str, Any]:
    """Of predictions made since then that have a label by now: the estimate, beside what the labels say."""
    judged = model.judged(version, since, now)
    if judged is None:
        return {}
    confidence, correct = judged
    estimate = of_confidence(confidence, calibration(model, version, reference, since))
    return {"estimated": estimate.to_dict(), "actual": proportion(int(correct.sum()), len(correct)).to_dict()}
