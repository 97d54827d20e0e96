"""What evaluations and drift look like over HTTP."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.learning.instants import WINDOW_PATTERN, Instant
from service.serving.parameters import TagName, TagText


class EvaluationFilters(BaseModel):
    """Which predictions are looked at."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int | None, Field(ge=1, lt=10**9, description="of this version alone")] = None
    role: Annotated[
        Literal["answered", "shadow", "all"], Field(description="shadow: those computed beside what was returned")
    ] = "answered"
    window: Annotated[str, Field(pattern=WINDOW_PATTERN, description="made in the last minutes, hours or days")] = "7d"
    since: Annotated[Instant | None, Field(description="instead: made at this time or later")] = None
    until: Annotated[Instant | None, Field(description="made before this time")] = None
    slice: Annotated[TagText | None, Field(description="with this tag: name:value")] = None
    matured: Annotated[
        bool, Field(description="of those alone that have most of the labels that they will ever get")
    ] = False
    buckets: Annotated[int, Field(ge=0, le=500, description="with the main figure in so many parts of the window")] = 0
    by: Annotated[TagName | None, Field(description="with the groups that differ in this tag")] = None


class Interval(BaseModel):
    """A figure with its 95 % interval, or why it has none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    reason: Annotated[str | None, Field(description="why there is no value")] = None


class EvaluationWindow(BaseModel):
    """Of when predictions were made; it begins with a minute."""

    from_: Annotated[datetime | None, Field(alias="from", description="null: of all that are kept")]
    to: datetime


class ConfusionMatrix(BaseModel):
    """How often each label, a row, was taken for each other, a column."""

    labels: list[str]
    counts: list[list[int]]


class ReliabilityBin(BaseModel):
    """Rows whose confidence lies between two bounds, and how many of them were right."""

    low: float
    high: float
    n: int
    confidence: Annotated[float, Field(description="the mean")]
    accuracy: Interval


class Residuals(BaseModel):
    """How often actual - predicted lies between each two edges."""

    edges: list[float]
    counts: list[int]


class PointInTime(Interval):
    """A figure of a part of the window."""

    from_: Annotated[datetime, Field(alias="from")]
    to: datetime


class OverTime(BaseModel):
    metric: Annotated[str, Field(description="accuracy, or mae of a regression")]
    points: list[PointInTime]


class SliceInfo(BaseModel):
    """How good a model is where a tag has one value."""

    slice: Annotated[str, Field(description="name:value")]
    n: int
    predictions: Annotated[int | None, Field(description="all that were made; null within another slice")]
    metrics: dict[str, Interval]
    differences: Annotated[
        dict[str, Interval], Field(description="from the rest; the intervals hold for all groups at once with 95 %")
    ]


class WorstSlice(BaseModel):
    slice: str
    is_shown: Annotated[bool, Field(description="whether it is shown to be worse than the rest")]


class Slices(BaseModel):
    """The groups that differ in a tag, the largest first."""

    tag: str
    minimum_n: Annotated[int, Field(description="groups with fewer labels are named alone, under `suppressed`")]
    groups: list[SliceInfo]
    worst: WorstSlice | None
    suppressed: list[str]
    omitted: Annotated[int, Field(description="groups that are left out because there are too many")]


class EvaluationInfo(BaseModel):
    """How good a model is, by what is known of its predictions."""

    model: str
    version: Annotated[str | None, Field(description="null: all of them")]
    role: Literal["answered", "shadow"] | None
    slice: str | None
    window: EvaluationWindow
    n: Annotated[int, Field(description="predictions with a label")]
    predictions: Annotated[int, Field(description="all that were made")]
    coverage: Annotated[float | None, Field(description="n / predictions")]
    unknown_labels: Annotated[int, Field(description="predictions whose label is none of the model's")]
    label_delay_seconds: Annotated[dict[str, float], Field(description="from a prediction to its label, by quantile")]
    matured_until: Annotated[
        datetime | None, Field(description="what was made before has most of the labels that it will ever get")
    ]
    metrics: dict[str, Interval]
    rating: Interval
    per_label: dict[str, dict[str, Interval]] | None = None
    confusion_matrix: ConfusionMatrix | None = None
    reliability: list[ReliabilityBin] | None = None
    residuals: Residuals | None = None
    over_time: OverTime | None = None
    slices: Slices | None = None


class DriftFilters(BaseModel):
    """What is compared."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int | None, Field(ge=1, lt=10**9, description="the champion unless given")] = None
    rows: Annotated[
        int | None,
        Field(ge=100, le=10_000, description="so many of its latest predictions; as configured unless given"),
    ] = None


class DriftWindow(BaseModel):
    """When the first and the last of the predictions were made."""

    from_: Annotated[datetime, Field(alias="from")]
    to: datetime


class ReferenceInfo(BaseModel):
    rows: Annotated[int, Field(description="0 where the version has no reference")]
    reason: Annotated[str | None, Field(description="why it has none")] = None


class ComparedInfo(BaseModel):
    """A distribution beside the reference's."""

    psi: Annotated[float | None, Field(description="population stability index, in nats")]
    jensen_shannon: Annotated[float | None, Field(description="divergence in bits, 0 to 1")]
    n: int
    reference_n: int
    psi_threshold: Annotated[float, Field(description="above it they count as drifted")]
    jensen_shannon_threshold: Annotated[float, Field(description="or above this one")]
    psi_noise: Annotated[
        float | None, Field(description="what chance alone makes of the index; where it is not above, nothing drifted")
    ]
    drifted: Annotated[bool | None, Field(description="null where there are too few to say")]
    reason: Annotated[str | None, Field(description="why nothing is said")] = None
    edges: Annotated[list[float] | None, Field(description="of bins; the outer ones take what lies beyond")] = None
    labels: Annotated[list[str] | None, Field(description="instead of edges")] = None
    reference: Annotated[list[int], Field(description="rows in each bin")]
    counts: list[int]


class ScoredEstimate(BaseModel):
    """Of the last day's predictions that have a label: what was to be expected, and what was found."""

    estimated: Interval
    actual: Interval


class EstimatedAccuracy(Interval):
    """The accuracy of the latest predictions by how sure they are."""

    calibrated_by: Annotated[
        Literal["labels", "reference", "none"], Field(description="what tells how often one so sure is right")
    ]
    calibration_n: Annotated[int, Field(description="rows of that")]
    scored: ScoredEstimate


class DriftInfo(BaseModel):
    """How far a version's latest predictions are from those that it was measured on."""

    model: str
    version: str
    window: DriftWindow | None
    n: Annotated[int, Field(description="the predictions that are compared")]
    minimum_n: Annotated[int, Field(description="of fewer nothing is said")]
    reference: ReferenceInfo
    drifted: Annotated[bool | None, Field(description="whether anything did; null where nothing can be said")]
    inputs: dict[str, ComparedInfo]
    predictions: ComparedInfo | None
    confidence: ComparedInfo | None
    estimated_accuracy: Annotated[
        EstimatedAccuracy | None,
        Field(description="null without predictions, and of tasks in which it is not sure of one label"),
    ]


_Version = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]


class EvaluationWanted(BaseModel):
    """What is evaluated."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[_Version | None, Field(description="the champion unless given")] = None
    against: Annotated[_Version | None, Field(description="compared with this one on the same rows")] = None
    name: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$", description="of the rows, for people")] = "sent"


class EvaluationRequest(EvaluationWanted):
    """Labelled rows, or where they are."""

    dataset: Annotated[
        Literal["held-out"] | None, Field(description="the held-out rows that the version's checkpoint keeps")
    ] = None
    instances: Annotated[list[Any] | None, Field(description="rows, as predictions take them")] = None
    labels: Annotated[list[Any] | None, Field(description="what each is, as feedback takes it")] = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        is_sent = self.instances is not None and self.labels is not None
        if is_sent == (self.dataset is not None) or (self.instances is None) != (self.labels is None):
            raise ValueError("either instances and labels, or dataset")
        return self


class ReportFilters(BaseModel):
    """Which reports are wanted."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[int | None, Field(ge=1, lt=10**9, description="those in which it is")] = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[UUID | None, Field(description="next_cursor of the page before")] = None


class VersionReport(BaseModel):
    """How good a version was."""

    version: str
    n: Annotated[int, Field(description="rows that every version could predict")]
    metrics: dict[str, Interval]
    per_label: dict[str, dict[str, Interval]] | None = None
    confusion_matrix: ConfusionMatrix | None = None
    reliability: list[ReliabilityBin] | None = None
    residuals: Residuals | None = None


class VersionComparison(BaseModel):
    """Two versions on the same rows: the first is `against`, the second `version`. Of numbers, right is the nearer."""

    rows: int
    only_first_right: int
    only_second_right: int
    p_value: Annotated[float, Field(description="McNemar's exact test")]
    differences: Annotated[dict[str, Interval], Field(description="the second's figure minus the first's; bootstrap")]
    winner: Annotated[str | None, Field(description="null where none is shown to be better")]
    verdict: str


class EvaluationReport(BaseModel):
    """What was found on labelled rows."""

    id: str
    model: str
    time: datetime
    dataset: str
    digest: Annotated[str, Field(description="of rows and labels: the same rows have the same")]
    rows: int
    failed_rows: Annotated[int, Field(description="rows that a version could not predict")]
    versions: list[VersionReport]
    comparison: VersionComparison | None = None


class EvaluationReports(BaseModel):
    """The newest first."""

    evaluations: list[EvaluationReport]
    next_cursor: Annotated[str | None, Field(description="null where there are no more")]
