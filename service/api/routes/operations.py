"""Health and metrics."""

import asyncio

from fastapi import APIRouter, Response

from service.api.deps import UseServices
from service.api.schemas import Health, Readiness
from service.api.standing import lost_champions, reason_of, standing_of
from service.domain import CHAMPION
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
    if services.draining.begun:
        response.status_code = 503
        return Readiness(ready=False, waiting_for={"service": "it was told to stop"}, broken={})
    engines = services.engines
    memory = services.readiness
    answering, waiting, broken = 0, {}, {}
    for model in services.catalog().models.values():
        champion = model.champion
        if champion is None:
            broken[model.name] = "its champion's checkpoint is missing or broken"
        elif (reason := engines.why_unready(champion.ref)) is None or engines.is_on_demand(champion.ref):
            answering += 1
            memory.answered.add(model.name)
        elif champion.ref in engines.failed:
            broken[model.name] = engines.failed[champion.ref]
        elif (standing := standing_of(services, champion.ref)).state.is_hopeless:
            broken[model.name] = reason_of(standing) or reason
        else:
            waiting[model.name] = reason
    for ref, reason in services.catalog().withheld.items():
        if services.catalog().other_aliases.get(ref.model, {}).get(CHAMPION) == ref.version:
            broken[ref.model] = reason
    needed = waiting.keys() & memory.answered if memory.was_ready else waiting.keys()
    is_ready = not needed and (answering > 0 or not broken)
    memory.was_ready |= is_ready
    for ref, reason in lost_champions(services).items():
        broken.setdefault(ref.model, reason)
    if not is_ready:
        response.status_code = 503
    return Readiness(ready=is_ready, waiting_for=waiting, broken=broken)


@router.get("/metrics", response_class=Response)
async def metrics(services: UseServices) -> Response:
    """Prometheus metrics of all processes."""
    text = await asyncio.to_thread(expose, services.registry, services.state.deleted)
    return Response(text, media_type=CONTENT_TYPE)
