"""What the promotion gate goes by, made of what two versions said of the same labelled rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from models.metrics import Array, Paired, PairedErrors, PairedHits, calibration_rise, paired_recalls
from service.errors import BrokenContract
from service.learning.gate import GateEvidence, SetEvidence
from service.learning.offline import confidence_of, predicted_by


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """What n rows are, and what both versions say of them, in the shapes of `service.learning.offline.judge`.

    `slices`: masks (n,) of the guarded ones, by name.
    """

    truth: Array
    champion: Array
    challenger: Array
    slices: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of a prediction and bytes of a checkpoint; None where that was not measured."""

    champion_latency: float | None = None
    challenger_latency: float | None = None
    champion_bytes: int | None = None
    challenger_bytes: int | None = None


def evidence_of(
    task: str,
    labels: Sequence[str],
    sets: Mapping[str, JudgedSet],
    costs: Costs,
    *,
    thresholds: tuple[float, float] = (0.5, 0.5),
) -> GateEvidence:
    """Return what `service.learning.gate.decide` goes by; `thresholds` are the champion's and the challenger's.

    Raises ValueError for embeddings, which nothing says the truth of, and BrokenContract for arrays that don't fit.
    """
    if task == "embedding":
        raise ValueError("versions of a model that embeds can't be compared by labels")
    return GateEvidence(
        {name: _of_set(task, labels, one, thresholds) for name, one in sets.items()},
        "mae" if task == "regression" else "accuracy",
        _ratio(costs.challenger_latency, costs.champion_latency),
        _ratio(costs.challenger_bytes, costs.champion_bytes),
    )


def _of_set(task: str, labels: Sequence[str], one: JudgedSet, thresholds: tuple[float, float]) -> SetEvidence:
    truth, said = one.truth, (one.champion, one.challenger)
    lengths = [len(each) for each in (*said, *one.slices.values())]
    if any(length != len(truth) for length in lengths):
        raise BrokenContract("judged rows", expected=f"{len(truth)} of each version and slice", got=lengths)
    if task == "regression":
        # What is too large for a float has no gain.
        with np.errstate(over="ignore"):
            errors = [np.abs(each - truth) for each in said]
        return SetEvidence(
            PairedErrors.of(errors[0], errors[1]),
            slices={name: PairedErrors.of(*(each[rows] for each in errors)) for name, rows in one.slices.items()},
        )
    first, second = (predicted_by(task, each, threshold) for each, threshold in zip(said, thresholds, strict=True))
    right = [each == truth for each in (first, second)]
    if task == "multilabel":
        classes = [
            PairedHits.of(first[truth[:, index], index], second[truth[:, index], index]) for index in range(len(labels))
        ]
        right = [each.all(axis=1) for each in right]
        rise = None
    else:
        classes = paired_recalls(truth, first, second, len(labels))
        rise = calibration_rise(*confidence_of(task, truth, said[0]), *confidence_of(task, truth, said[1]))
    slices: dict[str, Paired] = {
        name: PairedHits.of(*(each[rows] for each in right)) for name, rows in one.slices.items()
    }
    return SetEvidence(PairedHits.of(*right), dict(zip(labels, classes, strict=True)), slices, rise)


def _ratio(challenger: float | None, champion: float | None) -> float | None:
    return None if challenger is None or not champion else challenger / champion
