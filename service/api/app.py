"""The application, made from its parts."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from service.api import problems
from service.api.deps import Services
from service.api.middleware import RequestContext
from service.api.routes import aliases, models, operations, prediction_log, predictions, versions

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(services: Services, *, lifespan: Lifespan | None = None, access_log: bool = False) -> FastAPI:
    """The HTTP API over `services`; `lifespan` opens and closes what they need."""
    # FastAPI's own /docs has the browser fetch its scripts from a third party.
    app = FastAPIOffline(
        title="Servoloop",
        summary="Predictions from trained checkpoints, in dynamic batches.",
        version=version("servoloop"),
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    problems.install(app)
    for routes in (predictions, prediction_log, models, versions, aliases, operations):
        app.include_router(routes.router)
    app.add_middleware(RequestContext, log_all=access_log)
    return app
