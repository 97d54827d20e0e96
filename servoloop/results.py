"""What the service answers, as values, and how its JSON is read; `measured` has what it measures of live models."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar, overload

import httpx

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scored:
    """A label and its probability; `index` is its place in the model's labels, where the service gives it."""

    label: str
    probability: float
    index: int | None = None


@dataclass(frozen=True, slots=True)
class RowError:
    """Why one row failed where others did not."""

    type: str
    detail: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one row; None is what its task, or the question, doesn't have.

    `label`, `index`, `probability`: multiclass and binary. `value`: regression. `labels`: multilabel.
    """

    prediction_id: str
    model: str
    version: str
    label: str | None = None
    index: int | None = None
    probability: float | None = None
    value: float | None = None
    top: tuple[Scored, ...] | None = None
    probabilities: Mapping[str, float] | None = None
    labels: tuple[Scored, ...] | None = None
    embedding: tuple[float, ...] | None = None
    error: RowError | None = None


@dataclass(frozen=True, slots=True)
class Predictions(Sequence[Prediction]):
    """One prediction for each instance, in their order, all by one version."""

    model: str
    version: str
    rows: tuple[Prediction, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | Sequence[Prediction]:
        return self.rows[index]


@dataclass(frozen=True, slots=True)
class Backend:
    """What runs a version's network, and why; `pending`: nothing else was tried on its machine yet, and it will be."""

    name: str
    precision: str
    threads: int
    reason: str
    pending: bool


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model; `reason` says why it is not ready, `metrics` what was measured before it was deployed.

    `state`: loaded, loading, on_demand, unloaded, no_room or failed; `pinned`, `replicas` and `precision` are what is
    wanted; `engines` are where it is loaded, `resident_bytes` what one replica takes, None until it was loaded once;
    `backend` is None while it is not loaded.
    """

    version: str
    state: str
    ready: bool
    reason: str | None
    description: str
    architecture: str
    digest: str
    metrics: Mapping[str, Mapping[str, Any]]
    pinned: bool
    replicas: int
    precision: str
    engines: Sequence[str]
    resident_bytes: int | None
    backend: Backend | None


@dataclass(frozen=True, slots=True)
class VersionChange:
    """A version after a change was asked for. Where it is not `done`, it goes on; `version` is as it was by then."""

    version: Version
    done: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """Versions that are no more; their files go once they are `unloaded` from every device."""

    model: str
    versions: tuple[str, ...]
    unloaded: bool


@dataclass(frozen=True, slots=True)
class Model:
    """A model: its task, what it takes (`input`, as in the manifest), and its versions."""

    name: str
    task: str
    input: Mapping[str, Any]
    content_types: Sequence[str]
    labels: Sequence[str]
    target: Mapping[str, Any] | None
    aliases: Mapping[str, str]
    ready: bool
    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A checkpoint that can't be served."""

    model: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Models(Sequence[Model]):
    """All models, and in `broken` the checkpoints that can't be served."""

    models: tuple[Model, ...]
    broken: tuple[Broken, ...]

    def __len__(self) -> int:
        return len(self.models)

    @overload
    def __getitem__(self, index: int) -> Model: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Model]: ...
    def __getitem__(self, index: int | slice) -> Model | Sequence[Model]:
        return self.models[index]


@dataclass(frozen=True)
class AliasMove:
    """An alias names another version since `time` (RFC 3339); `previous` is None where the alias was new."""

    model: str
    alias: str
    version: str
    previous: str | None
    actor: str
    reason: str
    time: str
    revision: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """A version on trial: as a shadow it computes its `share` of the requests that name no version, as a canary it
    answers it. `actor` and `reason` are those of the latest change; times as RFC 3339."""

    model: str
    version: str
    stage: str
    share: float
    paused: bool
    policy: Mapping[str, Any]
    began: str
    stage_began: str
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided of a model's versions: rollout_began, rollout_changed, promoted or rolled_back.

    `before` and `after` have the champion's version, and the rollout or None.
    """

    id: int
    model: str
    kind: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    actor: str
    reason: str
    time: str
    revision: int


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """What became of one item of feedback.

    `status`: joined; pending, where its prediction is not known yet; duplicate, where it was sent before; conflict,
    where its key was used for something else; or rejected. `event_id` is the first one's where it is a duplicate.
    """

    status: str
    event_id: str | None
    prediction_id: str | None
    error: str | None

    @property
    def accepted(self) -> bool:
        """Whether it is durable now."""
        return self.status in ("joined", "pending", "duplicate")


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """Something that was said of a prediction; times as RFC 3339 has them.

    `status`: joined, pending, or orphaned, where its prediction did not become known in time.
    """

    event_id: str
    prediction_id: str | None
    model: str | None
    external_id: str | None
    kind: str
    label: str | Sequence[str] | None
    value: float | None
    rating: float | None
    source: str
    trust: int
    actor: str | None
    principal: str
    labelled_at: str
    received_at: str
    supersedes: str | None
    idempotency_key: str | None
    status: str


@dataclass(frozen=True, slots=True)
class FeedbackPage:
    """Some events, the newest first; `next_cursor` asks for those after them, None where there are no more."""

    events: tuple[FeedbackEvent, ...]
    next_cursor: str | None


def read_ready(response: httpx.Response) -> bool:
    """Like every reader here, raises ValueError, KeyError, TypeError or AttributeError for what it is not."""
    return response.json()["ready"] is True


def read_models(response: httpx.Response) -> Models:
    """Of GET /v1/models."""
    document = response.json()
    broken = tuple(pick(Broken, entry) for entry in document["broken"])
    return Models(tuple(_model(entry) for entry in document["models"]), broken)


def read_model(response: httpx.Response) -> Model:
    """Of GET /v1/models/{model}."""
    return _model(response.json())


def read_version(response: httpx.Response) -> Version:
    """Of GET /v1/models/{model}/versions/{version}."""
    return _version(response.json())


def read_version_change(response: httpx.Response) -> VersionChange:
    """Of what changes a version."""
    return VersionChange(read_version(response), done=response.status_code == 200)


def read_deleted(response: httpx.Response) -> Deleted:
    """Of what deletes versions."""
    document = response.json()
    return pick(Deleted, {**document, "versions": tuple(document["versions"])})


def read_rollout(response: httpx.Response) -> Rollout:
    """Of GET and PUT /v1/models/{model}/rollout."""
    return pick(Rollout, response.json())


def read_decision(response: httpx.Response) -> Decision:
    """Of POST /v1/models/{model}/promote and rollback."""
    return pick(Decision, response.json())


def read_alias_move(response: httpx.Response) -> AliasMove:
    """Of PUT /v1/models/{model}/aliases/{alias}."""
    return pick(AliasMove, response.json())


def read_feedback(response: httpx.Response) -> tuple[FeedbackResult, ...]:
    """Of POST /v1/feedback."""
    return tuple(pick(FeedbackResult, result) for result in response.json()["results"])


def read_feedback_page(response: httpx.Response) -> FeedbackPage:
    """Of GET /v1/feedback."""
    document = response.json()
    return FeedbackPage(tuple(pick(FeedbackEvent, event) for event in document["events"]), document["next_cursor"])


def read_predictions(response: httpx.Response) -> Predictions:
    """Of a prediction."""
    answer = response.json()
    model, version = answer["model"], answer["version"]
    pairs = zip(answer["prediction_ids"], answer["predictions"], strict=True)
    return Predictions(model, version, tuple(_prediction(row, ident, model, version) for ident, row in pairs))


def _prediction(row: Mapping[str, Any], prediction_id: str, model: str, version: str) -> Prediction:
    error, embedding = row.get("error"), row.get("embedding")
    return Prediction(
        prediction_id=prediction_id,
        model=model,
        version=version,
        label=row.get("label"),
        index=row.get("index"),
        probability=row.get("probability"),
        value=row.get("value"),
        top=_scored(row.get("top")),
        probabilities=row.get("probabilities"),
        labels=_scored(row.get("labels")),
        embedding=None if embedding is None else tuple(embedding),
        error=None if error is None else RowError(error["type"], error["detail"]),
    )


def _scored(entries: Iterable[Mapping[str, Any]] | None) -> tuple[Scored, ...] | None:
    if entries is None:
        return None
    return tuple(Scored(entry["label"], entry["probability"], entry.get("index")) for entry in entries)


def _model(document: Mapping[str, Any]) -> Model:
    return pick(Model, {**document, "versions": tuple(map(_version, document["versions"]))})


def _version(document: Mapping[str, Any]) -> Version:
    backend = document["backend"]
    return pick(Version, {**document, "backend": None if backend is None else pick(Backend, backend)})


def pick(kind: type[T], members: Mapping[str, Any]) -> T:
    """A dataclass of the members that it names; a newer service may send more."""
    return kind(**{each.name: members[each.name] for each in fields(kind)})  # type: ignore[arg-type]
