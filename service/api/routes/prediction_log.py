"""Predictions that were made: one by its id, or many by filters."""

import asyncio
import time
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from service.api.accepting import VARY
from service.api.deps import UseServices
from service.api.listing import SAYS as LISTING_SAYS
from service.api.listing import export, file_wanted, page
from service.api.schemas import (
    Erased,
    ErasureFilters,
    PredictionFilters,
    PredictionPage,
    PredictionRecord,
    says_problem,
)
from service.errors import UnknownInput, UnknownPrediction
from service.serving.recording import scores_in
from service.store.base import Filters, Record, Tag
from service.store.row_files import PREDICTIONS

router = APIRouter(tags=["predictions"])

_FORMS = {"text": "text/plain", "npy": "application/x-npy", "prepared": "application/x-npy"}
_ERASING_SECONDS = 5.0
# At a time: meanwhile the recorder writes nothing else.
_LOOKED_THROUGH = 5_000

_UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    503: says_problem("The store can't be read just now: try again after Retry-After seconds")
}


@router.get(
    "/v1/predictions/{prediction_id}",
    responses={404: says_problem("There is no such prediction"), 422: says_problem("This is no id"), **_UNAVAILABLE},
)
async def get_prediction(
    prediction_id: Annotated[UUID, Path(description="As the answer gave it.")], services: UseServices
) -> PredictionRecord:
    """One prediction. It can be found a fraction of a second after its answer."""
    record = await asyncio.to_thread(services.predictions.get, str(prediction_id))
    if record is None:
        raise UnknownPrediction(str(prediction_id))
    return _shown(record)


@router.get(
    "/v1/predictions/{prediction_id}/input",
    response_class=Response,
    responses={
        200: {
            "description": "The row, as it came",
            "content": {
                media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in _FORMS.values()
            },
        },
        404: says_problem("No input is kept of such a prediction"),
        422: says_problem("This is no id"),
        **_UNAVAILABLE,
    },
)
async def get_input(
    prediction_id: Annotated[UUID, Path(description="As the answer gave it.")], services: UseServices
) -> Response:
    """The row that a prediction was made of, where it was kept: a text, or a .npy file."""
    kept = await asyncio.to_thread(services.predictions.input, str(prediction_id))
    if kept is None:
        raise UnknownInput(str(prediction_id))
    headers = {
        "X-Input-Form": kept.form,
        "X-Input-Chosen": kept.chosen,
        "X-Input-Probability": repr(kept.probability),
    }
    return Response(kept.data, headers=headers, media_type=_FORMS[kept.form])


_ERASING: dict[int | str, dict[str, Any]] = {
    422: says_problem("The id or a filter is malformed"),
    503: says_problem("The store does not answer: some of it may be deleted; ask again"),
}


@router.delete(
    "/v1/predictions/{prediction_id}", responses={404: says_problem("There is no such prediction"), **_ERASING}
)
async def erase_prediction(
    prediction_id: Annotated[UUID, Path(description="As the answer gave it.")], services: UseServices
) -> Erased:
    """Delete a prediction with all that is kept of it: its input, what was said of it, and what follows from that.

    Of one that is not known, what was said of it; a prediction that is still on its way to the store stays: ask again.
    """
    gone = await services.changes.erase([str(prediction_id)])
    if not any(gone):
        raise UnknownPrediction(str(prediction_id))
    return Erased(deleted=gone.predictions, feedback=gone.events)


@router.delete("/v1/predictions", responses=_ERASING)
async def erase_predictions(wanted: Annotated[ErasureFilters, Query()], services: UseServices) -> Erased:
    """Delete predictions with a tag, and all that is kept of them.

    What looks through a large log answers after a few seconds: ask again with `next_cursor` as `cursor`, until that is
    null.
    """
    name, _, value = wanted.tag.partition(":")
    deleted, events, cursor = 0, 0, str(wanted.cursor) if wanted.cursor else ""
    until = time.monotonic() + _ERASING_SECONDS
    while True:
        gone, last = await services.changes.erase_tagged(
            Tag(name, value), wanted.model, after=cursor, limit=_LOOKED_THROUGH
        )
        deleted, events = deleted + gone.predictions, events + gone.events
        if last is None or time.monotonic() > until:
            return Erased(deleted=deleted, feedback=events, next_cursor=last)
        cursor = last


@router.get(
    "/v1/predictions",
    response_model=PredictionPage,
    responses={**LISTING_SAYS, 422: says_problem("A filter is malformed"), **_UNAVAILABLE},
)
async def list_predictions(
    wanted: Annotated[PredictionFilters, Query()], request: Request, response: Response, services: UseServices
) -> PredictionPage | Response:
    """Predictions, the newest first. Where there are more, `next_cursor` asks for them as `cursor`.

    As lines of JSON, CSV or Parquet where `Accept` asks for one: then all of them.
    """
    filters = Filters(
        model=wanted.model,
        version=wanted.version,
        external_id=wanted.external_id,
        since=wanted.since.timestamp() if wanted.since else None,
        until=wanted.until.timestamp() if wanted.until else None,
    )

    def read(limit: int, cursor: str | None) -> tuple[list[PredictionRecord], str | None]:
        found = services.predictions.list(filters, limit=limit, cursor=cursor)
        return [_shown(record) for record in found.records], found.cursor

    if (media_type := file_wanted(request)) is not None:
        return await export("predictions", media_type, PREDICTIONS, wanted, read)
    records, next_cursor = await page(wanted, read)
    response.headers.update(VARY)
    return PredictionPage(predictions=records, next_cursor=next_cursor)


def _shown(record: Record) -> PredictionRecord:
    return PredictionRecord(
        prediction_id=record.id,
        time=record.time,
        model=record.model,
        version=str(record.version),
        digest=record.digest,
        role=record.role,
        paired_with=record.paired_with,
        propensity=record.propensity,
        external_id=record.external_id,
        key=record.key,
        tags=dict(record.tags),
        prediction=dict(record.outputs),
        probabilities=None if record.scores is None else list(scores_in(record.scores)),
        latency_ms=1000 * record.latency,
        principal=record.principal,
        request_id=record.request_id,
    )
