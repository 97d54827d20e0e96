"""What the service measures of live models, as values, and how its JSON is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import httpx

from servoloop.results import pick


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure with its 95 % interval and the rows behind it, or None and the reason why there is none."""

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SliceFigures:
    """How good a model is where a tag has one value; `slice` is name:value.

    `n` of its `predictions` have a label; how many were made is None within another slice. `differences` are from all
    other rows that are looked at; their intervals hold for all groups at once with 95 %.
    """

    slice: str
    n: int
    predictions: int | None
    metrics: Mapping[str, Figure]
    differences: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Slices:
    """The groups that differ in the value of a tag, the largest first.

    `worst` names the group with the worst main figure; it `is_shown` to be worse than the rest, or may be so by chance.
    Groups with fewer labels than `minimum_n` are named alone, under `suppressed`; `omitted` counts those that are left
    out because there are too many.
    """

    tag: str
    minimum_n: int
    groups: Sequence[SliceFigures]
    worst: str | None
    worst_is_shown: bool
    suppressed: Sequence[str]
    omitted: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a model is, by what is known of its predictions; None is what its task doesn't have.

    `n` of the `predictions` that were made between `since` and `until` have a label. `label_delay_seconds` are
    quantiles; what was made before `matured_until` has most of the labels that it will ever get. `confusion_matrix`
    counts how often each of `labels`, a row, was taken for each other, a column. `slices` are what `by` asked for.
    """

    model: str
    version: str | None
    role: str | None
    slice: str | None
    since: str | None
    until: str
    n: int
    predictions: int
    coverage: float | None
    unknown_labels: int
    label_delay_seconds: Mapping[str, float]
    matured_until: str | None
    metrics: Mapping[str, Figure]
    rating: Figure
    per_label: Mapping[str, Mapping[str, Figure]] | None
    labels: Sequence[str] | None
    confusion_matrix: Sequence[Sequence[int]] | None
    reliability: Sequence[Mapping[str, Any]] | None
    residuals: Mapping[str, Any] | None
    slices: Slices | None


@dataclass(frozen=True, slots=True)
class Compared:
    """How far rows are from those of a reference; None, with the `reason`, where that can't be said.

    `psi` is the population stability index in nats, `jensen_shannon` the divergence in bits, 0 to 1. They count as
    drifted where either is above its threshold, and the index above `psi_noise`, what chance gives as well.
    `reference` and `counts` say how many rows are in each bin: between `edges`, where the outer bins take what lies
    beyond, or with each of `labels`.
    """

    psi: float | None
    jensen_shannon: float | None
    n: int
    reference_n: int
    psi_threshold: float
    jensen_shannon_threshold: float
    psi_noise: float | None
    drifted: bool | None
    reason: str | None
    edges: Sequence[float] | None
    labels: Sequence[str] | None
    reference: Sequence[int]
    counts: Sequence[int]


@dataclass(frozen=True, slots=True)
class EstimatedAccuracy:
    """The accuracy of predictions before anyone says what is true, by how sure the model was.

    How often one so sure is right is told by `calibration_n` rows: `calibrated_by` labels, by the reference, or by
    none, which takes confidence at its word. Of the last day's predictions that have a label, `scored_estimated` was
    to be expected and `scored_actual` was found.
    """

    figure: Figure
    calibrated_by: str
    calibration_n: int
    scored_estimated: Figure
    scored_actual: Figure


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a version's `n` latest predictions, made from `since` to `until`, are from those that it was measured on.

    Of fewer than `minimum_n` nothing is said: `drifted` is None. `inputs` has each feature by its name, of inputs that
    were kept. `reference_reason` says why there is no reference, where `reference_rows` is 0.
    """

    model: str
    version: str
    since: str | None
    until: str | None
    n: int
    minimum_n: int
    reference_rows: int
    reference_reason: str | None
    drifted: bool | None
    inputs: Mapping[str, Compared]
    predictions: Compared | None
    confidence: Compared | None
    estimated_accuracy: EstimatedAccuracy | None


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """How good a version was on `n` labelled rows; None is what its task doesn't have, as in `Evaluation`."""

    version: str
    n: int
    metrics: Mapping[str, Figure]
    per_label: Mapping[str, Mapping[str, Figure]] | None
    labels: Sequence[str] | None
    confusion_matrix: Sequence[Sequence[int]] | None
    reliability: Sequence[Mapping[str, Any]] | None
    residuals: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class VersionsCompared:
    """Two versions on the same rows: the first is the one that the other is compared with.

    Of numbers, right is the nearer. `p_value` is that of McNemar's exact test; `differences` are the second's figures
    minus the first's. `winner` is the version that is shown to be better, if one is; `verdict` says all that in words.
    """

    rows: int
    only_first_right: int
    only_second_right: int
    p_value: float
    differences: Mapping[str, Figure]
    winner: str | None
    verdict: str


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What was found on labelled rows, of which `failed_rows` could not be predicted; `digest` is that of the rows."""

    id: str
    model: str
    time: str
    dataset: str
    digest: str
    rows: int
    failed_rows: int
    versions: Sequence[VersionFigures]
    comparison: VersionsCompared | None


@dataclass(frozen=True, slots=True)
class EvaluationReports:
    """A page of reports, the newest first; `next_cursor` asks for the next one."""

    reports: Sequence[EvaluationReport]
    next_cursor: str | None


def read_report(response: httpx.Response) -> EvaluationReport:
    """Of POST /v1/models/{model}/evaluations, or GET of one."""
    return _report(response.json())


def read_reports(response: httpx.Response) -> EvaluationReports:
    """Of GET /v1/models/{model}/evaluations."""
    document = response.json()
    return EvaluationReports(tuple(_report(one) for one in document["evaluations"]), document["next_cursor"])


def read_evaluation(response: httpx.Response) -> Evaluation:
    """Of GET /v1/models/{model}/evaluation. Raises as the readers of `results` do."""
    document = response.json()
    window, slices = document["window"], document.get("slices")
    return pick(
        Evaluation,
        {
            **_read_figures(document),
            "since": window["from"],
            "until": window["to"],
            "rating": _figure(document["rating"]),
            "slices": slices and _slices(slices),
        },
    )


def read_drift(response: httpx.Response) -> Drift:
    """Of GET /v1/models/{model}/drift."""
    document = response.json()
    window, estimate, reference = document["window"] or {}, document["estimated_accuracy"], document["reference"]
    return pick(
        Drift,
        {
            **document,
            "since": window.get("from"),
            "until": window.get("to"),
            "reference_rows": reference["rows"],
            "reference_reason": reference.get("reason"),
            "inputs": {name: _compared(one) for name, one in document["inputs"].items()},
            "predictions": document["predictions"] and _compared(document["predictions"]),
            "confidence": document["confidence"] and _compared(document["confidence"]),
            "estimated_accuracy": estimate and _estimated(estimate),
        },
    )


def read_picture(response: httpx.Response) -> bytes:
    """Of either, where `Accept` asked for a picture."""
    content_type = response.headers["Content-Type"]
    if not content_type.startswith("image/"):
        raise ValueError(f"expected a picture, got {content_type}")
    return response.content


def _report(document: Mapping[str, Any]) -> EvaluationReport:
    compared = document["comparison"]
    if compared is not None:
        compared = pick(VersionsCompared, {**compared, "differences": _figures(compared["differences"])})
    versions = tuple(pick(VersionFigures, _read_figures(one)) for one in document["versions"])
    return pick(EvaluationReport, {**document, "versions": versions, "comparison": compared})


def _read_figures(document: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation and a version of a report have in common."""
    confusion, per_label = document.get("confusion_matrix"), document.get("per_label")
    return {
        **document,
        "metrics": _figures(document["metrics"]),
        "per_label": per_label and {label: _figures(figures) for label, figures in per_label.items()},
        "labels": confusion and confusion["labels"],
        "confusion_matrix": confusion and confusion["counts"],
        "reliability": document.get("reliability"),
        "residuals": document.get("residuals"),
    }


def _slices(document: Mapping[str, Any]) -> Slices:
    worst = document["worst"] or {}
    groups = tuple(
        pick(
            SliceFigures,
            {**group, "metrics": _figures(group["metrics"]), "differences": _figures(group["differences"])},
        )
        for group in document["groups"]
    )
    worst_of = {"worst": worst.get("slice"), "worst_is_shown": worst.get("is_shown", False)}
    return pick(Slices, {**document, "groups": groups, **worst_of})


def _compared(document: Mapping[str, Any]) -> Compared:
    return pick(Compared, {"reason": None, "edges": None, "labels": None, **document})


def _estimated(document: Mapping[str, Any]) -> EstimatedAccuracy:
    scored = document["scored"]
    return EstimatedAccuracy(
        _figure(document),
        document["calibrated_by"],
        document["calibration_n"],
        _figure(scored["estimated"]),
        _figure(scored["actual"]),
    )


def _figures(document: Mapping[str, Any]) -> dict[str, Figure]:
    return {name: _figure(figure) for name, figure in document.items()}


def _figure(document: Mapping[str, Any]) -> Figure:
    return Figure(*(document.get(each.name) for each in fields(Figure)))  # type: ignore[arg-type]
