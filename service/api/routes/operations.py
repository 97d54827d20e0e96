"""Health and metrics."""

import asyncio

from fastapi import APIRouter, Response

from service.api.deps import UseServices
from service.api.schemas import Health, Readiness
from service.telemetry import CONTENT_TYPE, expose

router = APIRouter(tags=["operations"])


@router.get("/livez")
async def live() -> Health:
    """The event loop works."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness}})
async def ready(services: UseServices, response: Response) -> Readiness:
    """Every champion is loaded, warm, and its engine was heard of in the last seconds."""
    waiting = {}
    for model in services.catalog.models.values():
        champion = model.champion
        if champion is None:
            waiting[model.name] = "its champion's checkpoint is missing or broken"
        elif not services.engines.is_ready(champion.ref):
            waiting[model.name] = services.engines.status.failed.get(champion.ref, "its engine is starting")
    if waiting:
        response.status_code = 503
    return Readiness(ready=not waiting, waiting_for=waiting)


@router.get("/metrics", response_class=Response)
async def metrics(services: UseServices) -> Response:
    """Prometheus metrics of all processes."""
    return Response(await asyncio.to_thread(expose, services.registry), media_type=CONTENT_TYPE)
