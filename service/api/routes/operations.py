"""Health and metrics."""

import asyncio

from fastapi import APIRouter, Response

from service.api.deps import UseServices
from service.api.readiness import readiness_of
from service.api.schemas import Health, Readiness
from service.telemetry.instruments import CONTENT_TYPE, expose

router = APIRouter(tags=["operations"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", responses={503: {"model": Health}})
async def live(services: UseServices, response: Response) -> Health:
    """The event loop works, and so does the supervisor's."""
    alive = services.is_supervised()
    if not alive:
        response.status_code = 503
    return Health(live=alive)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": Readiness}})
async def ready(services: UseServices, response: Response) -> Readiness:
    """Every champion that can be served answered rows lately, callers' or its canary, and its engine was just heard of.

    One that was unloaded to leave its room to others counts too, as long as an engine is there that would load it. A
    broken checkpoint, and a champion that there is no room for, cost their own model, which answers 503; the others
    serve, so that does not hold back readiness. Nor does a model that came after this process was ready, until it has
    answered for the first time.
    """
    readiness = readiness_of(services)
    if not readiness.ready:
        response.status_code = 503
    return readiness


@router.get("/metrics", response_class=Response)
async def metrics(services: UseServices) -> Response:
    """Prometheus metrics of all processes."""
    text = await asyncio.to_thread(expose, services.registry, services.state.deleted)
    return Response(text, media_type=CONTENT_TYPE)
