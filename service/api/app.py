"""The application, made from its parts."""

import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import Receive, Scope, Send

from service.api import problems
from service.api.deps import Services
from service.api.exchange import Answer, Exchange
from service.api.middleware import ContextMiddleware, RequestContext
from service.api.openapi import without_validation_errors
from service.api.paths import address_in, is_inference_protocol
from service.api.routes import (
    aliases,
    evaluation,
    evaluations,
    feedback,
    inference,
    inference_metadata,
    inference_statistics,
    jobs,
    models,
    operations,
    prediction_log,
    predictions,
    repository,
    rollouts,
    versions,
)
from service.domain import Address

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Application:
    """The HTTP API as one ASGI application: `predict` for the addresses of predictions, FastAPI for all else.

    FastAPI's outermost layers are left out too: they look for telemetry and limits that we don't use, at every request.
    """

    def __init__(self, api: FastAPI, context: RequestContext) -> None:
        self._api = api
        self._context = context
        self.state = api.state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and (address := address_in(scope["path"])) is not None:
            exchange = Exchange.begin(scope, receive)
            await (await self.predict(address, exchange)).send(exchange, send)
        else:
            await self._api(scope, receive, send)

    async def predict(self, address: Address, exchange: Exchange) -> Answer:
        """The whole answer to a prediction's request, whatever becomes of it."""
        routes = inference if is_inference_protocol(exchange.path) else predictions
        answer = await self._context.around(exchange, functools.partial(routes.answer, address, self.state.services))
        assert answer is not None
        return answer


def create_app(
    services: Services, *, lifespan: Lifespan | None = None, access_log: bool = False, does_jobs: bool = False
) -> Application:
    """The HTTP API over `services`; `lifespan` opens and closes what they need.

    `does_jobs`: whether some process works on jobs. Without one, or without a store of them, nobody can ask for any.
    """
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
    v1, v2 = (
        (predictions, prediction_log, feedback, evaluation, evaluations, models, versions, aliases, rollouts),
        (inference, inference_statistics, inference_metadata, repository),
    )
    of_jobs = (jobs,) if does_jobs and services.jobs is not None else ()
    routers = [module.router for module in (*v1, *of_jobs, *v2, operations)]
    for router in routers:
        app.include_router(router)
    problems.install(app, [route for router in routers for route in router.routes])
    app.openapi = functools.partial(without_validation_errors, app.openapi)  # type: ignore[method-assign]
    context = RequestContext(log_all=access_log)
    app.add_middleware(ContextMiddleware, context=context)
    return Application(app, context)
