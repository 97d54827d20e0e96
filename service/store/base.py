"""What the store keeps, and the few verbs to read and change it.

Control state is what the service shall do: models, the versions seen, aliases and their history, under one growing
revision. The prediction log is what it did. Both may lie in SQLite or in PostgreSQL; nothing here knows which.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from uuid_utils import UUID

from service.domain import CHAMPION, Loading, Precision, Ref, Rollout, Wish
from service.store.feedback import FeedbackEvent, FeedbackFilters, FeedbackPage, ModelContract, Outcome
from service.store.jobs import Jobs
from service.store.rollouts import RolloutControl, RolloutReader

Aliases = dict[str, dict[str, int]]
"""Model -> alias -> version."""

Found = Mapping[str, Mapping[int, str]]
"""Model -> version -> digest of its weights: what lies on disk."""

Contracts = Mapping[str, ModelContract]
"""Model -> what all its versions share."""

NO_CONTRACTS: Contracts = {}

Role = Literal["answered", "shadow"]


@dataclass(frozen=True, slots=True)
class State:
    """All aliases, wishes and rollouts as they were at one revision.

    `wishes` has the versions of which something else than the default is wanted. `deleted` versions are served no
    more, and their numbers are not used again; `to_remove` are those of them whose files may still be there. `rollouts`
    has the models of which a version is on trial.
    """

    revision: int
    aliases: Aliases
    wishes: Mapping[Ref, Wish] = field(default_factory=dict)
    deleted: frozenset[Ref] = frozenset()
    to_remove: frozenset[Ref] = frozenset()
    rollouts: Mapping[str, Rollout] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WishChange:
    """What an operator wants changed of a wish; None leaves it.

    `load` makes auto of unloaded, and leaves what is pinned so. `reload` has it loaded anew, and so has a precision
    that it did not have. With `in_use_too` a version may be unloaded that an alias names.
    """

    loading: Loading | None = None
    replicas: int | None = None
    precision: Precision | None = None
    load: bool = False
    reload: bool = False
    in_use_too: bool = False


@dataclass(frozen=True, slots=True)
class AliasMove:
    """An alias got another version. `previous` is None where it was new; `time` in seconds since 1970."""

    model: str
    alias: str
    version: int
    previous: int | None
    actor: str
    reason: str
    time: float
    revision: int


class Record(NamedTuple):
    """One prediction as it was made. `latency` in seconds, from the request's arrival to its answer.

    `role` shadow: computed beside the prediction `paired_with`, and never returned. `propensity` is the probability
    with which routing chose this version. A tuple, because every prediction makes one in each of two processes, and a
    frozen dataclass takes several times as long to make and to encode.
    """

    id: str
    model: str
    version: int
    digest: str
    outputs: Mapping[str, Any]
    latency: float
    principal: str
    request_id: str
    tags: Mapping[str, str]
    role: Role = "answered"
    paired_with: str | None = None
    propensity: float = 1.0
    external_id: str | None = None
    key: str | None = None
    scores: str | None = None
    """The probabilities of all labels, where there are more than two: float32, little-endian, in base64."""

    @property
    def time(self) -> float:
        """When it was made, in seconds since 1970 and exact to the millisecond: its id says so."""
        return milliseconds_of(self.id) / 1000


Chosen = Literal["uniform", "uncertain"]
Form = Literal["npy", "text", "prepared"]


class Input(NamedTuple):
    """The row that a prediction was made of, as it came: a text in UTF-8, or a .npy file.

    `prepared`: the row came prepared, as the version's network takes it. `probability` is that of its being kept, given
    what came before it; `chosen` says whether it was drawn, or kept because the model was unsure.
    """

    prediction_id: str
    model: str
    form: Form
    chosen: Chosen
    probability: float
    data: bytes


class KeptInput(NamedTuple):
    """That an input is kept, and in how many bytes."""

    prediction_id: str
    size: int


class Gone(NamedTuple):
    """How much was deleted: predictions, and what was said of them."""

    predictions: int
    events: int


class Tag(NamedTuple):
    """What callers give with their predictions."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Filters:
    """Which records are wanted; None wants all. `since` (included) and `until` (excluded) in seconds since 1970."""

    model: str | None = None
    version: int | None = None
    external_id: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class CountFilters:
    """Which predictions are counted; None counts all. Times in seconds since 1970, to whole minutes: the one of `since`
    counts, and so does the one that `until` lies in, unless it is where that begins. `slice` is name:value of a tag."""

    model: str
    version: int | None = None
    role: Role | None = None
    since: float | None = None
    until: float | None = None
    slice: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, the newest first. `cursor` asks for those after them; None where there are no more."""

    records: list[Record]
    cursor: str | None


class Position(NamedTuple):
    """How far somebody followed what is known of predictions."""

    changed: int = 0
    prediction_id: str = ""


class Known(NamedTuple):
    """What is known of a prediction: no `label` and no `rating` where it was deleted, or all was taken back.

    `received_at` is when the first label was, in whole milliseconds since 1970.
    """

    prediction_id: str
    model: str
    version: int
    role: Role
    label: Any
    received_at: int | None
    rating: float | None
    changed: int
    outputs: Mapping[str, Any] | None
    scores: str | None
    tags: Mapping[str, str] | None

    @property
    def position(self) -> Position:
        return Position(self.changed, self.prediction_id)


class StoredReport(NamedTuple):
    """How a version did on labelled rows, and perhaps another on the same. `id` is a UUIDv7, `digest` that of the rows
    and their labels; `report` is what the API shows of it."""

    id: str
    model: str
    version: int
    against: int | None
    dataset: str
    digest: str
    rows: int
    principal: str
    report: Mapping[str, Any]


class ControlReader(RolloutReader, Protocol):
    """Each verb raises StoreUnavailable while the store can't be read."""

    def revision(self) -> int: ...

    def state(self) -> State: ...

    def aliases(self) -> Aliases: ...

    def history(self, model: str, *, limit: int = 100) -> list[AliasMove]:
        """The moves of a model's aliases, the newest first."""
        ...

    def contracts(self) -> Contracts:
        """What every model that was ever seen asks of feedback."""
        ...


class Control(ControlReader, RolloutControl, Protocol):
    """Each change is one transaction that also raises the revision; what changes nothing raises nothing."""

    def move_alias(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove:
        """Let an alias name another version, with a row of history.

        Where it names that version already, the move that brought it there is returned. Raises UnknownModel,
        UnknownVersion, AliasMoved where it does not name the `expected` version, VersionUnloaded, or RolloutUnderWay
        where a trial holds the champion and the challenger.
        """
        ...

    def change_wish(self, ref: Ref, change: WishChange) -> Wish:
        """What is wanted of a version from now on.

        Raises UnknownModel, UnknownVersion, VersionInUse where a version that an alias names shall be unloaded, or
        VersionUnloaded where one that stays unloaded shall be loaded anew.
        """
        ...

    def delete_version(self, ref: Ref) -> None:
        """Serve a version no more. Raises UnknownModel, UnknownVersion, or VersionInUse where an alias names it."""
        ...

    def delete_model(self, model: str, numbers: Collection[int]) -> None:
        """Serve these versions of a model no more, and forget its aliases. Raises UnknownModel.

        Others that were seen keep their numbers: one may lie in a root that is not mounted now, and be nobody's to
        delete.
        """
        ...

    def note_removed(self, ref: Ref) -> None:
        """The files of a deleted version are gone."""
        ...

    def crown_new_models(self, found: Found, contracts: Contracts = NO_CONTRACTS) -> Aliases:
        """Remember the versions found on disk, and make the lowest of a model without a champion its champion.

        Versions that were deleted are none, whatever lies there. What their models' versions share is remembered too.
        """
        ...

    def import_aliases(self, aliases: Aliases) -> None:
        """Take over aliases that were kept elsewhere, for models that have none here yet."""
        ...


class PredictionReader(Protocol):
    """Each verb raises StoreUnavailable while the store can't be read."""

    def get(self, prediction_id: str) -> Record | None: ...

    def input(self, prediction_id: str) -> Input | None: ...

    def inputs(self, ids: Sequence[str]) -> Sequence[Input]:
        """Those of these predictions' that are kept, in any order."""
        ...

    def latest_inputs(self, ref: Ref, since: float, *, limit: int) -> Sequence[KeptInput]:
        """What is kept of a version's latest predictions that were drawn with one probability, the newest first."""
        ...

    def served_since(self, model: str, time: float) -> Sequence[int]:
        """The model's versions that predicted since then, in whole minutes."""
        ...

    def count(self, filters: CountFilters) -> int: ...

    def list(self, filters: Filters, *, limit: int, cursor: str | None = None) -> Page: ...


class Predictions(PredictionReader, Protocol):
    """What the recorder alone may do."""

    def append(self, records: Sequence[Record], inputs: Sequence[Input] = ()) -> int:
        """Make records durable, all or none, with the inputs of some of them; what is there already stays as it is.

        What was said of them before counts from then on: how many events waited for them. Raises StoreUnavailable
        where trying again later may help.
        """
        ...

    def delete_older_than(self, time: float, *, limit: int) -> int:
        """Delete up to `limit` records that were made before `time`, the oldest first; how many there were."""
        ...

    def delete_inputs(self, older_than: float, max_bytes: int, *, limit: int) -> int:
        """Delete up to `limit` inputs, the oldest first, that came before `older_than` or while there are more bytes
        of them than `max_bytes`; how many there were."""
        ...


class FeedbackReader(Protocol):
    """Each verb raises StoreUnavailable while the store can't be read."""

    def list(self, filters: FeedbackFilters, *, limit: int, cursor: str | None = None) -> FeedbackPage: ...


class TruthReader(Protocol):
    """Raises StoreUnavailable while the store can't be read."""

    def changes(self, after: Position, *, limit: int) -> Sequence[Known]:
        """What is known of predictions, as far as it changed after this position, in the order of changes."""
        ...


class Feedback(FeedbackReader, Protocol):
    """What the recorder alone may do. Each verb is one transaction, and raises StoreUnavailable."""

    def add(self, events: Sequence[FeedbackEvent], contracts: Contracts) -> list[Outcome]:
        """Make events durable, all or none of those that are accepted; what became of each, in their order.

        What is there already is left as it is; labels that a model does not have are rejected.
        """
        ...

    def orphan_older_than(self, time: float, *, limit: int) -> int:
        """Give up on up to `limit` events that were received before `time` and have no prediction; how many there were.

        Should it still come, they are joined all the same.
        """
        ...

    def delete_older_than(self, time: float, *, limit: int) -> int:
        """Delete up to `limit` events received before `time`, the oldest first, and what is known of predictions made
        before it; how many events there were."""
        ...


class ReportReader(Protocol):
    """Each verb raises StoreUnavailable while the store can't be read."""

    def get(self, report_id: str) -> StoredReport | None: ...

    def list(
        self, model: str, version: int | None, *, limit: int, cursor: str | None = None
    ) -> tuple[Sequence[StoredReport], str | None]:
        """Reports of a model, or those in which one version is, the newest first, and the cursor of the next ones."""
        ...


class Reports(ReportReader, Protocol):
    """What the recorder alone may do."""

    def keep(self, report: StoredReport) -> None:
        """Make a report durable; one that is there already stays as it is. Raises StoreUnavailable."""
        ...


class Erasure(Protocol):
    """What the recorder alone may do."""

    def erase(self, ids: Sequence[str]) -> Gone:
        """Delete these predictions and those computed beside them, with all that is kept of them.

        Of one that nobody knows, what was said of it. Raises StoreUnavailable.
        """
        ...

    def erase_tagged(self, tag: Tag, model: str | None, *, after: str = "", limit: int) -> tuple[Gone, str | None]:
        """Look through `limit` predictions whose ids follow `after`, and delete those with this tag, as `erase` does.

        What was deleted, and where to go on; None where all were looked through. Raises StoreUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """All that the recorder writes."""

    control: Control
    predictions: Predictions
    feedback: Feedback
    erasure: Erasure
    reports: Reports
    jobs: Jobs


def champions(aliases: Aliases, found: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The lowest version of each model found that has no champion yet: the first version of a new model becomes it."""
    return {
        model: min(versions) for model, versions in found.items() if versions and CHAMPION not in aliases.get(model, {})
    }


def milliseconds_of(prediction_id: str) -> int:
    """When a UUIDv7 was made, in milliseconds since 1970: its first 48 bits."""
    return UUID(prediction_id).int >> 80


def lowest_id(time: float) -> str:
    """No UUIDv7 made at `time` (seconds since 1970) or later is lower than this, and none made before is higher."""
    milliseconds = min(max(round(time * 1000), 0), (1 << 48) - 1)
    return str(UUID(int=milliseconds << 80))
