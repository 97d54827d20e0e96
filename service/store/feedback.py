"""What people and systems say of predictions, and what follows from it: the current label, a pure function of events.

An event is never changed. What it means for a prediction is decided anew from all events of that prediction whenever
one more is known, so that neither duplicates nor the order of arrival matter.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

EventKind = Literal["label", "correction", "rating", "retraction"]
EventState = Literal["joined", "pending", "orphaned"]
Status = Literal["joined", "pending", "duplicate", "conflict", "rejected"]

DEFAULT_TRUST = 1
"""Of sources that nobody said anything of."""

MOST_EVENTS = 1_000
"""Of what one principal says of one prediction, or under one of its own ids: each makes all of them be read again."""

_LABELS: tuple[EventKind, ...] = ("label", "correction")


class FeedbackEvent(NamedTuple):
    """One thing said of one prediction, which `prediction_id` names, or `external_id` together with `model`.

    `value` is a label's name, the names of several, a number, or None in a retraction. `labelled_at` is when it was
    found to be so, `received_at` when we heard of it, both in whole milliseconds since 1970. `trust` is that of its
    `source` when it was received. `digest` is that of what was sent, to know it again under the same key.
    """

    id: str
    prediction_id: str | None
    model: str | None
    external_id: str | None
    kind: EventKind
    value: Any
    source: str
    trust: int
    actor: str | None
    principal: str
    labelled_at: int
    received_at: int
    supersedes: str | None = None
    idempotency_key: str | None = None
    digest: str = ""


class Outcome(NamedTuple):
    """What became of an event that was sent. `event_id` is the first one's where it is a duplicate.

    `field`: of what is rejected, the item's member that it is rejected for.
    """

    status: Status
    event_id: str | None
    prediction_id: str | None
    error: str | None = None
    field: str | None = None


class Truth(NamedTuple):
    """What is known of a prediction now. Without a `label` nothing is, or it was taken back.

    `first_labelled` is when the first label of it was received, whatever became of that, in whole milliseconds since
    1970: label delays count to there, so that a later correction does not make them longer.
    """

    label: FeedbackEvent | None = None
    rating: FeedbackEvent | None = None
    first_labelled: int | None = None


class ModelContract(NamedTuple):
    """What all versions of a model share, as far as feedback is checked against it."""

    task: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FeedbackFilters:
    """Which events are wanted; None wants all. `since` (included) and `until` (excluded) in seconds since 1970."""

    model: str | None = None
    prediction_id: str | None = None
    external_id: str | None = None
    kind: EventKind | None = None
    source: str | None = None
    since: float | None = None
    until: float | None = None


class StoredEvent(NamedTuple):
    """An event, and whether there is a prediction that it speaks of."""

    event: FeedbackEvent
    state: EventState


@dataclass(frozen=True, slots=True)
class FeedbackPage:
    """Some events, the newest first. `cursor` asks for those after them; None where there are no more."""

    events: list[StoredEvent]
    cursor: str | None


def truth_of(events: Iterable[FeedbackEvent]) -> Truth:
    """What these events, all of one prediction, say together: the same for the same set, however it is ordered.

    1. An event that another one supersedes is void, if the other is of at least its trust, came later, and is not void
       itself.
    2. A retraction that supersedes nothing takes back what was found before it by sources of at most its trust.
    3. Of what is left, the label of the highest trust counts, then the one found last, then the one with the highest
       id; and so for ratings.
    """
    distinct = {event.id: event for event in events}
    standing = _standing(distinct)
    retractions = [event for event in standing if event.kind == "retraction" and event.supersedes is None]
    # Of each trust the last one: of one prediction there may be many thousands.
    last = {one.trust: one for one in sorted(retractions, key=_found)}.values()
    left = [event for event in standing if not any(_takes_back(one, event) for one in last)]
    return Truth(
        max((event for event in left if event.kind in _LABELS), key=_weight, default=None),
        max((event for event in left if event.kind == "rating"), key=_weight, default=None),
        min((event.received_at for event in distinct.values() if event.kind in _LABELS), default=None),
    )


def misfit(kind: EventKind, value: Any, contract: ModelContract) -> str | None:
    """Why such a label can't be one of this model's; None where it can."""
    if kind in ("rating", "retraction"):
        return None
    task, labels = contract
    match task:
        case "regression":
            return None if _is_number(value) else f"{_shown(value)} is no number; expected a value, as a regression has"
        case "embedding":
            return "the model gives vectors, which have no label; expected a rating"
        case "multilabel":
            named: Sequence[Any] = value if isinstance(value, list) else [value]
        case _:
            if isinstance(value, list):
                return "there are several labels; expected one"
            named = [value]
    wrong = next((one for one in named if one not in labels), None)
    if wrong is None:
        return None
    known = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
    return f"{_shown(wrong)} is no label of the model; expected one of {known}"


def _standing(events: dict[str, FeedbackEvent]) -> list[FeedbackEvent]:
    """Those that are not superseded. Ids are in the order of arrival, so whoever supersedes is decided on first."""
    void: set[str] = set()
    for event in sorted(events.values(), key=lambda one: one.id, reverse=True):
        named = None if event.supersedes is None or event.id in void else events.get(event.supersedes)
        if named is not None and named.id < event.id and named.trust <= event.trust:
            void.add(named.id)
    return [event for event in events.values() if event.id not in void]


def _takes_back(retraction: FeedbackEvent, event: FeedbackEvent) -> bool:
    return event.kind != "retraction" and event.trust <= retraction.trust and _found(event) < _found(retraction)


def _found(event: FeedbackEvent) -> tuple[int, str]:
    return event.labelled_at, event.id


def _weight(event: FeedbackEvent) -> tuple[int, int, str]:
    return event.trust, event.labelled_at, event.id


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return repr(value)[:100]
