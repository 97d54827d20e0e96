"""What a caller says of predictions, checked, and the events that it becomes."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)
from uuid_utils import uuid7

from models.manifest import NAME_PATTERN
from service.domain import Principal
from service.learning.instants import Instant, written
from service.serving.parameters import Text
from service.store.feedback import DEFAULT_TRUST, FeedbackEvent, Outcome

log = logging.getLogger(__name__)

EXAMPLE = '{"prediction_id": "0199...", "label": "Bag"}'

MAGNITUDE = 1e100
"""Labels that are numbers lie no further from zero: the squares of their errors, and sums of them, stay finite."""

_FUTURE_SECONDS = 60.0
_DIGEST_BYTES = 16

_UNION_PARTS = {"constrained-str", "list[constrained-str]"}
"""What pydantic calls the ways in which a label may be written."""


def _moderate(value: float) -> float:
    # Pydantic's own bounds are told with all their zeros.
    if abs(value) > MAGNITUDE:
        raise ValueError(f"this is no number from -{MAGNITUDE:g} to {MAGNITUDE:g}")
    return value


_Number = Annotated[
    FiniteFloat, AfterValidator(_moderate), Field(json_schema_extra={"minimum": -MAGNITUDE, "maximum": MAGNITUDE})
]
_Label = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]*$")]


class FeedbackItem(BaseModel):
    """One thing that somebody says of one prediction."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prediction_id: Annotated[UUID | None, Field(strict=False, description="as the answer gave it")] = None
    external_id: Annotated[Text | None, Field(description="your own id of it, together with `model`")] = None
    model: Annotated[str | None, Field(pattern=NAME_PATTERN)] = None
    label: Annotated[
        _Label | list[_Label] | None, Field(description="what it should have been; of multilabel models, all of them")
    ] = None
    value: Annotated[_Number | None, Field(description="of a regression: what it should have been")] = None
    rating: Annotated[_Number | None, Field(description="how good it was, on a scale of your own")] = None
    kind: Annotated[
        Literal["label", "correction", "rating", "retraction"] | None,
        Field(description="label, or rating where there is one, unless it is said here"),
    ] = None
    source: Annotated[Text, Field(description="of whom more than one is trusted, the most trusted counts")] = "user"
    actor: Annotated[Text | None, Field(description="who found it")] = None
    labelled_at: Annotated[Instant | None, Field(strict=False, description="when it was found; now, if not said")] = (
        None
    )
    supersedes: Annotated[UUID | None, Field(strict=False, description="an event that counts no more")] = None
    idempotency_key: Annotated[Text | None, Field(description="sent again under it, this is kept once")] = None

    @field_validator("prediction_id", "supersedes")
    @classmethod
    def _ours(cls, value: UUID | None) -> UUID | None:
        if value is not None and value.version != 7:
            raise ValueError("this is none of our ids: they are UUIDs of version 7")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.prediction_id is None) == (self.external_id is None):
            raise ValueError("it must name a prediction: by prediction_id, or by external_id and model")
        if self.external_id is not None and self.model is None:
            raise ValueError("external_id needs model: the same id may be used for several")
        if self.prediction_id is not None and self.model is not None:
            raise ValueError("model belongs to external_id; prediction_id names one prediction by itself")
        said = [name for name in ("label", "value", "rating") if getattr(self, name) is not None]
        if self.kind == "retraction":
            if said:
                raise ValueError(f"a retraction has no {said[0]}")
        elif len(said) != 1:
            raise ValueError("it must say one of label, value or rating" + (f", and says {len(said)}" if said else ""))
        elif self.kind is not None and (self.kind == "rating") != (said == ["rating"]):
            raise ValueError(f"a {self.kind} has no {said[0]}")
        return self

    @property
    def said(self) -> tuple[str, Any]:
        """Its kind and its value."""
        if self.kind == "retraction":
            return "retraction", None
        if self.rating is not None:
            return "rating", self.rating
        return self.kind or "label", self.value if self.label is None else self.label


class Told(NamedTuple):
    """An item that was sent: the event that it becomes, or why it becomes none."""

    event: FeedbackEvent | None
    error: str | None = None
    field: str | None = None

    def refused(self) -> Outcome:
        """What becomes of it where there is no event."""
        where = f"{self.field}: " if self.field else ""
        return Outcome("rejected", None, None, f"{where}{self.error}")


class Listener:
    """Makes events of items. `trust` is that of sources, `clock` in seconds since 1970."""

    def __init__(self, trust: Mapping[str, int], clock: Callable[[], float] = time.time) -> None:
        self._trust = trust
        self._clock = clock

    def tell(self, document: Any, principal: Principal, key: str | None = None) -> Told:
        """`key`: under which the item is kept once, where it has none itself."""
        try:
            return self._tell(document, principal, key)
        except (ValueError, OverflowError):
            # Nothing is known to do that. Should something, then the items beside it shall not go with it.
            log.exception("an item of feedback could not be read")
            return Told(None, "this can't be read")

    def _tell(self, document: Any, principal: Principal, key: str | None) -> Told:
        if not isinstance(document, dict):
            return Told(None, "this is no object")
        try:
            item = FeedbackItem.model_validate(document)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"] if part not in _UNION_PARTS)
            return Told(None, first["msg"].removeprefix("Value error, "), place or None)
        now = self._clock()
        labelled = now if item.labelled_at is None else item.labelled_at.timestamp()
        if labelled > now + _FUTURE_SECONDS:
            return Told(None, f"{written(labelled)} lies in the future", "labelled_at")
        # Of a clock that is a little ahead of ours; else a retraction would find it only once ours is there.
        labelled = min(labelled, now)
        kind, value = item.said
        return Told(
            FeedbackEvent(
                id=str(uuid7()),
                prediction_id=None if item.prediction_id is None else str(item.prediction_id),
                model=item.model,
                external_id=item.external_id,
                kind=kind,  # type: ignore[arg-type]
                value=value,
                source=item.source,
                trust=self._trust.get(item.source, DEFAULT_TRUST),
                actor=item.actor,
                principal=principal.name,
                labelled_at=round(labelled * 1000),
                received_at=round(now * 1000),
                supersedes=None if item.supersedes is None else str(item.supersedes),
                idempotency_key=item.idempotency_key or key,
                digest=_digest(document),
            )
        )


def _digest(document: Mapping[str, Any]) -> str:
    """Of what was said, whatever the order of its fields, and whether a whole number is written 5 or 5.0."""
    said = {
        name: float(value) if isinstance(value, int) else value
        for name, value in document.items()
        if name != "idempotency_key"
    }
    written = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(written, digest_size=_DIGEST_BYTES).hexdigest()
