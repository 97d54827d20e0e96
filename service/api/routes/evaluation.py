"""How good models are, by what is known of their predictions."""

import time
from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from service.api.deps import UseServices
from service.api.schemas import EvaluationFilters, EvaluationInfo, says_problem
from service.errors import UnprocessableInput
from service.learning.picture import Form
from service.learning.questions import Question

router = APIRouter(tags=["evaluation"])

_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
_MEDIA_TYPES: dict[Form, str] = {"png": "image/png", "svg": "image/svg+xml"}
_VARY = {"Vary": "Accept"}
_DRAWN_BUCKETS = 24
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_SAYS: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys(_MEDIA_TYPES.values(), _BINARY)},
    404: says_problem("There is no such model"),
    422: says_problem("A filter is malformed"),
    501: says_problem("Nothing is installed that draws pictures"),
    503: says_problem("The store, or the process that measures, does not answer just now"),
}


@router.get("/v1/models/{model}/evaluation", responses=_SAYS, response_model=EvaluationInfo)
async def evaluation(
    model: str, wanted: Annotated[EvaluationFilters, Query()], request: Request, services: UseServices
) -> Response:
    """How good a model is, with what certainty, and by how much feedback; as a picture where `Accept` asks for one."""
    question = _question(services.catalog().model(model).name, wanted)
    measuring = services.feedback.evaluation
    form = _picture(request.headers.get("accept", ""))
    if form is not None:
        drawn = replace(question, buckets=question.buckets or _DRAWN_BUCKETS)
        return Response(await measuring.draw(drawn, form), media_type=_MEDIA_TYPES[form], headers=_VARY)
    return Response(orjson.dumps(await measuring.evaluate(question)), media_type="application/json", headers=_VARY)


def _picture(accept: str) -> Form | None:
    """The kind of picture that comes first in what is accepted, unless JSON comes before it."""
    for part in accept.lower().split(","):
        media_type = part.partition(";")[0].strip()
        if media_type == "application/json":
            return None
        for form, known in _MEDIA_TYPES.items():
            if media_type == known:
                return form
    return None


def _question(model: str, wanted: EvaluationFilters) -> Question:
    since = wanted.since.timestamp() if wanted.since else None
    until = wanted.until.timestamp() if wanted.until else None
    if since is not None and until is not None and until <= since:
        raise UnprocessableInput("the window is empty", field="query.until", expected="a time after since")
    if since is None:
        since = (time.time() if until is None else until) - int(wanted.window[:-1]) * _SECONDS[wanted.window[-1]]
    return Question(
        model,
        version=wanted.version,
        role=None if wanted.role == "all" else wanted.role,
        since=since,
        until=until,
        slice=wanted.slice,
        matured=wanted.matured,
        buckets=wanted.buckets,
    )
