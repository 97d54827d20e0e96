"""The application, made from its parts."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems
from service.api.deps import Services
from service.api.middleware import RequestContext
from service.api.routes import aliases, models, operations, prediction_log, predictions, versions

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Application:
    """The HTTP API as one ASGI application: `predict` for the addresses of predictions, FastAPI for all else.

    FastAPI's outermost layers are left out too: they look for telemetry and limits that we don't use, at every request.
    """

    def __init__(self, api: FastAPI, predict: ASGIApp) -> None:
        self._api = api
        self._predict = predict
        self.state = api.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (names := predictions.names_in(scope)) is not None:
            scope.update(app=self, path_params=names)
            await self._predict(scope, receive, send)
        else:
            await self._api(scope, receive, send)


def create_app(services: Services, *, lifespan: Lifespan | None = None, access_log: bool = False) -> Application:
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
    return Application(app, RequestContext(predictions.answer, log_all=access_log))
