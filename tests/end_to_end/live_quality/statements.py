"""What will be said of each picture: in what order, how often, and what of it was wrong at first."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from models.metrics import Array
from models.training.loaders.images import fashion_mnist
from service.store.feedback import Status

MODEL = "fashion"

_WRONG, _REPEATED = 0.05, 0.10
_EARLY, _AT_ONCE, _BY_NAME = 0.05, 0.10, 0.2
_LONG_AGO, _LATER = "2026-01-31T08:00:00Z", "2026-01-31T09:00:00Z"

Moment = Literal["early", "at once", "later"]
"""Before its prediction is made, right after its answer, or whenever it comes."""


class Picture(NamedTuple):
    """`name` is the caller's own id of it."""

    name: str
    pixels: Array
    label: str


class Ack(NamedTuple):
    """What the service answered to a statement."""

    status: Status
    event_id: str


@dataclass(eq=False)
class Statement:
    """One thing that is said of a picture's prediction; without a `key` each time that it is sent is another event.

    `after`: only once that was acknowledged. `unanswered` counts how often it was sent without an answer.
    """

    picture: Picture
    by_name: bool
    said: dict[str, Any]
    key: str | None
    after: "Statement | None" = None
    supersedes: bool = False
    acks: list[Ack] = field(default_factory=list)
    unanswered: int = 0

    @property
    def is_due(self) -> bool:
        return self.after is None or bool(self.after.acks)

    def body(self, prediction_id: str | None) -> dict[str, Any]:
        """As an item of POST /v1/feedback."""
        body = dict(self.said)
        if self.by_name:
            body |= {"external_id": self.picture.name, "model": MODEL}
        else:
            body["prediction_id"] = prediction_id
        if self.supersedes:
            assert self.after is not None
            body["supersedes"] = self.after.acks[0].event_id
        return body if self.key is None else {**body, "idempotency_key": self.key}


class Plan(NamedTuple):
    """When a picture's statements come, and which: one that is sent again is there again.

    `by_name`: they name its prediction by the caller's own id.
    """

    moment: Moment
    by_name: bool
    statements: list[Statement]


def held_out(count: int, labels: Sequence[str], seed: int) -> list[Picture]:
    """Pictures of Fashion-MNIST's test set, shuffled. Raises MissingData."""
    data = fashion_mnist()
    assert isinstance(data.rows, np.ndarray)
    assert data.held_out is not None
    chosen = np.flatnonzero(data.held_out).tolist()
    random.Random(seed).shuffle(chosen)
    return [Picture(f"picture-{one}", data.rows[one, 0], labels[data.targets[one]]) for one in chosen[:count]]


def plan(picture: Picture, labels: Sequence[str], rng: random.Random) -> Plan:
    """What is said of a picture. Whatever becomes of it meanwhile, its label counts in the end."""
    drawn = rng.random()
    moment: Moment = "early" if drawn < _EARLY else "at once" if drawn < _EARLY + _AT_ONCE else "later"
    by_name = moment == "early" or rng.random() < _BY_NAME
    said = _said_of(picture, by_name, labels, rng)
    statements = []
    for number, statement in enumerate(said):
        statement.key = f"{picture.name} {number}"
        statements.append(statement)
        if rng.random() < _REPEATED:
            # What others come after must not come after them, as another event would.
            if rng.random() < 0.5 and not any(one.after is statement for one in said):
                statement.key = None
            statements.append(statement)
    return Plan(moment, by_name, statements)


def _said_of(picture: Picture, by_name: bool, labels: Sequence[str], rng: random.Random) -> list[Statement]:
    def say(label: str, after: Statement | None = None, *, supersedes: bool = False, **said: str) -> Statement:
        return Statement(picture, by_name, {"label": label, **said}, None, after, supersedes)

    right = picture.label
    if rng.random() >= _WRONG:
        return [say(right)]
    wrong = rng.choice([one for one in labels if one != right])
    match rng.randrange(5):
        case 0:
            return [say(wrong, labelled_at=_LONG_AGO), say(right)]
        case 1:
            return [say(wrong, labelled_at=_LONG_AGO), say(right, kind="correction", labelled_at=_LATER)]
        case 2:
            return [say(wrong), say(right, source="expert", labelled_at=_LONG_AGO)]
        case 3:
            first = say(wrong)
            return [first, say(right, first)]
        case _:
            first = say(wrong)
            return [first, say(right, first, supersedes=True, labelled_at=_LONG_AGO)]
