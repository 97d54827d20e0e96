"""Predictions that were made: one by its id, or many by filters."""

import asyncio
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query

from service.api.deps import UseServices
from service.api.schemas import PredictionFilters, PredictionPage, PredictionRecord, says_problem
from service.errors import UnknownPrediction
from service.store.base import Filters, Record

router = APIRouter(tags=["predictions"])

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


@router.get("/v1/predictions", responses={422: says_problem("A filter is malformed"), **_UNAVAILABLE})
async def list_predictions(wanted: Annotated[PredictionFilters, Query()], services: UseServices) -> PredictionPage:
    """Predictions, the newest first. Where there are more, `next_cursor` asks for them as `cursor`."""
    filters = Filters(
        model=wanted.model,
        version=wanted.version,
        external_id=wanted.external_id,
        since=wanted.since.timestamp() if wanted.since else None,
        until=wanted.until.timestamp() if wanted.until else None,
    )
    cursor = str(wanted.cursor) if wanted.cursor else None
    page = await asyncio.to_thread(services.predictions.list, filters, limit=wanted.limit, cursor=cursor)
    return PredictionPage(predictions=[_shown(record) for record in page.records], next_cursor=page.cursor)


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
        latency_ms=1000 * record.latency,
        principal=record.principal,
        request_id=record.request_id,
    )
