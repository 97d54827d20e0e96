"""How good models are, by what is known of their predictions, and how far these have drifted."""

import time
from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from service.api.accepting import VARY, preferred
from service.api.deps import Services, UseServices
from service.api.evaluation_schemas import DriftFilters, DriftInfo, EvaluationFilters, EvaluationInfo
from service.api.schemas import says_problem
from service.domain import Address
from service.errors import UnknownVersion, UnprocessableInput
from service.learning.instants import written
from service.learning.picture import Form
from service.learning.questions import DriftQuestion, Question

router = APIRouter(tags=["evaluation"])

_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
_FORMS: dict[str, Form] = {"image/png": "png", "image/svg+xml": "svg"}
_MEDIA_TYPES = {form: media_type for media_type, form in _FORMS.items()}
_DRAWN_BUCKETS = 24
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_SAYS: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys(_FORMS, _BINARY)},
    404: says_problem("There is no such model, or version; of a deleted one predictions may be left to look at"),
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
    await _check_version(services, question)
    form = _form(request)
    if form is not None and not question.buckets:
        question = replace(question, buckets=_DRAWN_BUCKETS)
    return await _answer(services, question, form)


@router.get("/v1/models/{model}/drift", responses=_SAYS, response_model=DriftInfo)
async def drift(
    model: str, wanted: Annotated[DriftFilters, Query()], request: Request, services: UseServices
) -> Response:
    """How far a version's latest predictions are from those that it was measured on, and how good it seems without
    labels; as a picture where `Accept` asks for one."""
    version = None if wanted.version is None else str(wanted.version)
    ref = services.catalog().named(Address(model, version=version))
    return await _answer(services, DriftQuestion(ref.model, ref.version, wanted.rows), _form(request))


async def _check_version(services: Services, question: Question) -> None:
    """Raises UnknownVersion. A version that was deleted is known while its predictions are: they are still measured."""
    if question.version is None:
        return
    try:
        services.catalog().named(Address(question.model, version=str(question.version)))
    except UnknownVersion:
        everything = Question(question.model, version=question.version, role=None)
        if not (await services.feedback.evaluation.evaluate(everything))["predictions"]:
            raise


async def _answer(services: Services, question: Question | DriftQuestion, form: Form | None) -> Response:
    measuring = services.feedback.evaluation
    if form is not None:
        return Response(await measuring.draw(question, form), media_type=_MEDIA_TYPES[form], headers=VARY)
    return Response(orjson.dumps(await measuring.evaluate(question)), media_type="application/json", headers=VARY)


def _form(request: Request) -> Form | None:
    """The kind of picture that is asked for, if any."""
    return _FORMS.get(preferred(request.headers.getlist("accept"), ("application/json", *_FORMS)))


def _question(model: str, wanted: EvaluationFilters) -> Question:
    now = time.time()
    since = wanted.since.timestamp() if wanted.since else None
    until = wanted.until.timestamp() if wanted.until else None
    if since is not None and until is not None and until <= since:
        raise UnprocessableInput("the window is empty", field="query.until", expected="a time after since")
    if since is None:
        since = (now if until is None else until) - int(wanted.window[:-1]) * _SECONDS[wanted.window[-1]]
    if since > now:
        raise UnprocessableInput(
            f"the window begins at {written(since)}, which lies in the future",
            field="query.since" if wanted.since else "query.until",
            expected="a window that has begun",
        )
    return Question(
        model,
        version=wanted.version,
        role=None if wanted.role == "all" else wanted.role,
        since=since,
        until=until,
        slice=wanted.slice or "",
        matured=wanted.matured,
        buckets=wanted.buckets,
        by=wanted.by or "",
    )
