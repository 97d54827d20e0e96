"""Errors to HTTP: each kind's status, once; as RFC 9457 problem+json, or as the Open Inference Protocol says them."""

import functools
import http
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route

from models.manifest import NAME_PATTERN
from service.api.exchange import Answer, Exchange
from service.api.paths import is_inference_protocol
from service.errors import (
    AliasMoved,
    AlreadyChampion,
    BodyTooLarge,
    BodyTooSlow,
    ClientLeft,
    DeadlineExceeded,
    FeedbackConflict,
    InvalidInput,
    JobUnderWay,
    MalformedBody,
    MalformedHeader,
    NoRollout,
    NothingToRollBack,
    NotRemovable,
    NotSupported,
    QuarantinedInput,
    RolloutUnderWay,
    ServoloopError,
    Unavailable,
    Unknown,
    UnknownJob,
    UnknownPrediction,
    UnknownReport,
    UnprocessableInput,
    UnsupportedMediaType,
    VersionInUse,
    VersionUnloaded,
)
from service.learning.instants import WINDOW_PATTERN
from service.serving.parameters import TAG_PATTERN

log = logging.getLogger(__name__)

_NO_PATH = "there is nothing at this path; /docs shows what there is"

# The nearest class in an error's line of descent counts; what is not named here is our own fault, 500.
STATUS: dict[type[ServoloopError], int] = {
    InvalidInput: 400,
    MalformedBody: 400,
    MalformedHeader: 400,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    UnprocessableInput: 422,
    QuarantinedInput: 422,
    Unknown: 404,
    UnknownPrediction: 404,
    UnknownReport: 404,
    UnknownJob: 404,
    NoRollout: 404,
    NotSupported: 501,
    AliasMoved: 409,
    FeedbackConflict: 409,
    JobUnderWay: 409,
    VersionInUse: 409,
    VersionUnloaded: 409,
    RolloutUnderWay: 409,
    AlreadyChampion: 409,
    NothingToRollBack: 409,
    NotRemovable: 409,
    Unavailable: 503,
    DeadlineExceeded: 504,
    BodyTooSlow: 408,
    ClientLeft: 499,  # read by nobody but the log; the number is the one that nginx made customary
}
_TITLES = {
    400: "Malformed request",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Body too large",
    415: "Unsupported media type",
    422: "Invalid input",
    499: "Client left",
    500: "Internal error",
    501: "Not supported",
    503: "Unavailable",
    504: "Deadline exceeded",
}
MEDIA_TYPE = b"application/problem+json"
# Of parameters in a query: what each kind of error, and each pattern, expects.
_IN_WORDS = {
    "missing": "it to be given",
    "extra_forbidden": "only the parameters that this path has",
    "uuid_parsing": "an id, as answers give it",
    "uuid_version": "an id, as answers give it",
    "int_parsing": "a whole number",
    TAG_PATTERN: "name:value",
    WINDOW_PATTERN: "30m, 24h or 7d, or such",
    NAME_PATTERN: "a name of small letters, digits, dots, lines and hyphens",
}
# The Open Inference Protocol has one status for all that is wrong with a request.
_TOLD_AS = {415: 400, 422: 400}


def status_of(error: ServoloopError) -> int:
    """The HTTP status of an error."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def install(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Make the app answer every error as a problem; `routes` are all that it has of ours."""
    app.add_exception_handler(ServoloopError, _on_error)
    app.add_exception_handler(HTTPException, functools.partial(_on_http_exception, routes))
    app.add_exception_handler(RequestValidationError, _on_validation_error)


def problem_of(error: ServoloopError, exchange: Exchange) -> Answer:
    """The answer to an error of ours."""
    status = status_of(error)
    if status == 500:
        log.error("a request failed", extra={"kind": error.kind, "detail": str(error)})
    if isinstance(error, InvalidInput):
        return _problem(exchange, status, error.kind, str(error), field=error.field, expected=error.expected)
    if isinstance(error, JobUnderWay):
        return _problem(exchange, status, error.kind, str(error), job=error.job_id)
    field = error.field if isinstance(error, Unknown) else None
    answer = _problem(exchange, status, error.kind, str(error), field=field)
    if isinstance(error, BodyTooSlow):
        return answer._replace(headers=((b"connection", b"close"),))  # what still comes of the body is not waited for
    if isinstance(error, Unavailable):
        return answer._replace(headers=((b"retry-after", b"%d" % error.retry_after),))
    return answer


def crash(exchange: Exchange) -> Answer:
    """The answer to an error that nobody foresaw. Says nothing of it: the log has it, under the same request id."""
    return _problem(exchange, 500, "internal", "the service failed on this request; its log has the reason")


def problem(
    path: str,
    request_id: str,
    status: int,
    kind: str,
    detail: str,
    *,
    title: str | None = None,
    **more: str | None,
) -> Answer:
    """What a request to this path is told: `{"error": detail}` by the Open Inference Protocol, else problem+json.

    A problem has the status's usual title unless given another; members that are None are left out.
    """
    if is_inference_protocol(path):
        return Answer(_TOLD_AS.get(status, status), b"application/json", orjson.dumps({"error": detail}))
    members: dict[str, Any] = {
        "type": f"urn:servoloop:problem:{kind.replace('_', '-')}",
        "title": title or _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "request_id": request_id,
        **more,
    }
    body = orjson.dumps({name: value for name, value in members.items() if value is not None})
    return Answer(status, MEDIA_TYPE, body)


def _problem(exchange: Exchange, status: int, kind: str, detail: str, **more: str | None) -> Answer:
    return problem(exchange.path, exchange.request_id, status, kind, detail, **more)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServoloopError)
    return _response(problem_of(error, Exchange.of(request.scope)))


async def _on_http_exception(routes: Sequence[BaseRoute], request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = _NO_PATH if error.status_code == http.HTTPStatus.NOT_FOUND else str(error.detail)
    response = _response(_problem(Exchange.of(request.scope), error.status_code, "http", detail))
    response.headers.update(error.headers or {})
    if error.status_code == http.HTTPStatus.METHOD_NOT_ALLOWED and (methods := _methods(routes, request)):
        # The error knows those of one route, and several may share a path.
        response.headers["Allow"] = ", ".join(sorted(methods))
    return response


def _methods(routes: Sequence[BaseRoute], request: Request) -> set[str]:
    """What may be asked at the request's path."""
    there = [
        route for route in routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE
    ]
    return {method for route in there for method in route.methods or ()}


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    expected = _expected(first)
    detail = f"{field}: {first['msg']}"
    kind = UnprocessableInput.kind
    return _response(_problem(Exchange.of(request.scope), 422, kind, detail, field=field, expected=expected))


def _expected(error: Mapping[str, Any]) -> str:
    """What a parameter that pydantic refused should have been."""
    pattern = error.get("ctx", {}).get("pattern", "")
    said: str = error["msg"]
    return _IN_WORDS.get(pattern) or _IN_WORDS.get(error["type"]) or said.removeprefix("Input should be ")


def _response(answer: Answer) -> Response:
    headers = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers, answer.media_type.decode())
