"""The shapes of bodies and answers, for /docs and for clients that generate code from it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from models.inputs import InputContract
from models.manifest import NAME_PATTERN, Metric, Target
from service.domain import Precision
from service.learning.instants import Instant
from service.registry.fleet import VersionState
from service.serving.parameters import Parameters, TagText, Text
from service.store.feedback import EventKind, EventState

_VERSION = r"^[1-9][0-9]{0,8}$"
VersionText = Annotated[str, Field(pattern=_VERSION)]
Reason = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$", description="kept in the history")]

MOST_OF_A_PAGE = 1000
_Limit = Annotated[
    int, Field(ge=1, description=f"of a page at most {MOST_OF_A_PAGE}; a file has all unless it is given")
]


class Scored(BaseModel):
    label: str
    index: Annotated[int | None, Field(description="its place in the model's labels; not told by multilabel")] = None
    probability: float


class RowError(BaseModel):
    type: str
    detail: str


class Prediction(BaseModel):
    """What is there depends on the model's task; `error` stands alone, where a row failed and others did not."""

    label: Annotated[str | None, Field(description="multiclass and binary: the label that was chosen")] = None
    index: int | None = None
    probability: Annotated[float | None, Field(description="that of `label`")] = None
    top: Annotated[list[Scored] | None, Field(description="the best labels, when top_k asks for them")] = None
    probabilities: Annotated[dict[str, float] | None, Field(description="of every label, when asked for")] = None
    value: Annotated[float | None, Field(description="regression")] = None
    labels: Annotated[list[dict[str, Any]] | None, Field(description="multilabel")] = None
    embedding: list[float] | None = None
    error: RowError | None = None


class PredictAnswer(BaseModel):
    model: str
    version: str
    prediction_ids: list[str]
    predictions: list[Prediction]


class PredictRequest(BaseModel):
    """Rows as raw values: nested numbers, texts, named columns, or images in base64."""

    instances: Annotated[list[Any], Field(min_length=1)]
    parameters: Parameters = Parameters()


class BackendInfo(BaseModel):
    """What runs a version's network."""

    name: Annotated[str, Field(description="eager is PyTorch as it is")]
    precision: Precision
    threads: Annotated[int, Field(description="0: as many as its engine has")]
    reason: Annotated[str, Field(description="why this one")]
    pending: Annotated[bool, Field(description="nothing else was tried on this machine yet, and it will be")] = False


class VersionInfo(BaseModel):
    version: str
    state: Annotated[VersionState, Field(description="on_demand: it is loaded when it is asked for")]
    ready: Annotated[bool, Field(description="whether it answers at once")]
    reason: Annotated[
        str | None, Field(description="why it is not ready; where it is, why it could not be loaded anew")
    ] = None
    description: str
    architecture: str
    digest: Annotated[str, Field(description="sha256 of the weights")]
    metrics: dict[str, Metric]
    pinned: Annotated[bool, Field(description="never unloaded to make room for others")]
    replicas: Annotated[int, Field(description="on how many devices it is wanted, as far as there are so many")]
    precision: Annotated[Precision, Field(description="what it is wanted to compute with")]
    engines: Annotated[list[str], Field(description="where it is loaded")]
    resident_bytes: Annotated[int | None, Field(description="of one replica; null until it was loaded once")]
    backend: Annotated[BackendInfo | None, Field(description="null while it is not loaded")] = None


class ModelInfo(BaseModel):
    name: str
    task: str
    input: InputContract
    content_types: list[str]
    labels: list[str]
    target: Target | None
    aliases: dict[str, str]
    ready: Annotated[bool, Field(description="whether its champion answers")]
    versions: list[VersionInfo]


class BrokenInfo(BaseModel):
    model: str
    version: str
    reason: str


class ModelList(BaseModel):
    models: list[ModelInfo]
    broken: Annotated[list[BrokenInfo], Field(description="checkpoints that can't be served, and why")]


class PredictionFilters(BaseModel):
    """Which predictions are wanted."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str | None, Field(pattern=NAME_PATTERN)] = None
    version: Annotated[int | None, Field(ge=1, lt=10**9)] = None
    since: Annotated[Instant | None, Field(description="made at this time or later: 2026-01-31T08:00:00Z")] = None
    until: Annotated[Instant | None, Field(description="made before this time")] = None
    external_id: Text | None = None
    limit: _Limit = 100
    cursor: Annotated[UUID | None, Field(description="next_cursor of the page before")] = None


class PredictionRecord(BaseModel):
    """A prediction as it was made."""

    prediction_id: str
    time: datetime
    model: str
    version: str
    digest: Annotated[str, Field(description="sha256 of the weights that answered")]
    role: Annotated[Literal["answered", "shadow"], Field(description="shadow: computed, and never returned")]
    paired_with: Annotated[str | None, Field(description="shadow: the prediction that was returned instead")]
    propensity: Annotated[float, Field(description="the probability with which routing chose this version")]
    external_id: str | None
    key: str | None
    tags: dict[str, str]
    prediction: Annotated[dict[str, Any], Field(description="label and probability, labels, value, or error")]
    probabilities: Annotated[
        list[float] | None, Field(description="of all labels, in their order, where there are more than two")
    ]
    latency_ms: float
    principal: str
    request_id: str


class PredictionPage(BaseModel):
    predictions: list[PredictionRecord]
    next_cursor: Annotated[str | None, Field(description="null where there are no more")]


class ErasureFilters(BaseModel):
    """Which predictions shall be deleted."""

    model_config = ConfigDict(extra="forbid")

    tag: Annotated[TagText, Field(description="name:value, as it was given with the predictions", examples=["user:7"])]
    model: Annotated[str | None, Field(pattern=NAME_PATTERN)] = None
    cursor: Annotated[UUID | None, Field(description="next_cursor of the answer before")] = None


class Erased(BaseModel):
    deleted: Annotated[int, Field(description="predictions, shadows among them")]
    feedback: Annotated[int, Field(description="events: what was said of them")] = 0
    next_cursor: Annotated[str | None, Field(description="null where all were looked through")] = None


class FeedbackResult(BaseModel):
    """What became of one item."""

    index: Annotated[int, Field(description="its place among the items that were sent, from 0")]
    event_id: Annotated[str | None, Field(description="the first one's where it is a duplicate; null where rejected")]
    prediction_id: str | None
    status: Annotated[
        Literal["joined", "pending", "duplicate", "conflict", "rejected"],
        Field(description="pending: the prediction is not known yet; conflict: its key was used for something else"),
    ]
    error: str | None


class FeedbackAnswer(BaseModel):
    accepted: Annotated[int, Field(description="how many are durable now: joined, pending or duplicates")]
    results: list[FeedbackResult]
    omitted: Annotated[int, Field(description="problems beyond the first 10,000")] = 0


class FeedbackWanted(BaseModel):
    """How the answer to feedback is wanted."""

    model_config = ConfigDict(extra="forbid")

    results: Annotated[
        Literal["all", "problems"], Field(description="problems: only of items that were not accepted")
    ] = "all"


class FeedbackEventFilters(BaseModel):
    """Which events are wanted."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str | None, Field(pattern=NAME_PATTERN)] = None
    prediction_id: UUID | None = None
    external_id: Text | None = None
    kind: EventKind | None = None
    source: Text | None = None
    since: Annotated[Instant | None, Field(description="received at this time or later: 2026-01-31T08:00:00Z")] = None
    until: Annotated[Instant | None, Field(description="received before this time")] = None
    limit: _Limit = 100
    cursor: Annotated[UUID | None, Field(description="next_cursor of the page before")] = None


class FeedbackEventInfo(BaseModel):
    """Something that was said of a prediction."""

    event_id: str
    prediction_id: str | None
    model: Annotated[str | None, Field(description="null while the prediction is not known")]
    external_id: str | None
    kind: EventKind
    label: str | list[str] | None = None
    value: float | None = None
    rating: float | None = None
    source: str
    trust: Annotated[int, Field(description="of the source, when it was received")]
    actor: str | None
    principal: str
    labelled_at: datetime
    received_at: datetime
    supersedes: str | None
    idempotency_key: str | None
    status: EventState


class FeedbackEventPage(BaseModel):
    events: list[FeedbackEventInfo]
    next_cursor: Annotated[str | None, Field(description="null where there are no more")]


class AliasChange(BaseModel):
    """The version that an alias shall name."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: VersionText
    reason: Reason = ""
    expected: Annotated[VersionText | None, Field(description="409 unless the alias names this now")] = None


class AliasMoved(BaseModel):
    model: str
    alias: str
    version: str
    previous: Annotated[str | None, Field(description="null where the alias was new")]
    actor: str
    reason: str
    time: datetime
    revision: Annotated[int, Field(description="of the store; it grows with every change")]


class VersionChange(BaseModel):
    """How long the answer may wait for the change to be done."""

    model_config = ConfigDict(extra="forbid", strict=True)

    wait_ms: Annotated[float, Field(ge=0, le=300_000, description="202 when it takes longer")] = 30_000


class VersionLoad(VersionChange):
    """What is wanted of a version; what is left out stays as it is."""

    pinned: Annotated[bool | None, Field(description="never unload it to make room for others")] = None
    replicas: Annotated[int | None, Field(ge=1, le=256, description="on how many devices")] = None
    precision: Precision | None = None


class Deleted(BaseModel):
    model: str
    versions: list[str]
    unloaded: Annotated[bool, Field(description="whether they are on no device any more; their files go after that")]


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    field: str | None = None
    expected: str | None = None


def inlined(shape: type[BaseModel]) -> dict[str, Any]:
    """The shape's JSON schema without references: OpenAPI resolves them from the document's root, not from here."""
    schema = shape.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(node: Any) -> Any:
        match node:
            case {"$ref": str(name), **more}:
                return {**resolved(definitions[name.rsplit("/", 1)[-1]]), **more}
            case dict():
                return {key: resolved(value) for key, value in node.items()}
            case list():
                return [resolved(value) for value in node]
            case _:
                return node

    whole: dict[str, Any] = resolved(schema)
    return whole


def says_problem(description: str, shape: type[Problem] = Problem) -> dict[str, Any]:
    """What OpenAPI shows of an answer that is a problem. By itself FastAPI would call it application/json."""
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": shape.model_json_schema()}},
    }


class Health(BaseModel):
    live: bool = True


class ModelReadiness(BaseModel):
    model: str
    version: Annotated[str, Field(description="the champion")]
    ready: bool = True


class Readiness(BaseModel):
    ready: bool
    waiting_for: Annotated[dict[str, str], Field(description="models whose champion doesn't answer, and why")]
    broken: Annotated[dict[str, str], Field(description="models whose champion can't be served, and why")]
