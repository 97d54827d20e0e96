"""Whether the whole service is ready."""

from service.api.deps import Services
from service.api.schemas import Readiness
from service.api.standing import lost_champions, reason_of, standing_of
from service.domain import CHAMPION


def readiness_of(services: Services) -> Readiness:
    """As /readyz says it; remembers who has answered."""
    if services.draining.begun:
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
    return Readiness(ready=is_ready, waiting_for=waiting, broken=broken)
