"""What people and systems say of predictions: taken in, and looked at."""

import asyncio
import contextlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from service.api.accepting import VARY
from service.api.bodies import RESPONSES
from service.api.deps import Services, UseServices
from service.api.exchange import Exchange
from service.api.incoming import IncomingRequest, body_in_chunks
from service.api.listing import SAYS as LISTING_SAYS
from service.api.listing import export, file_wanted, page
from service.api.schemas import (
    FeedbackAnswer,
    FeedbackEventFilters,
    FeedbackEventInfo,
    FeedbackEventPage,
    FeedbackResult,
    FeedbackWanted,
    inlined,
    says_problem,
)
from service.domain import Caller
from service.errors import BodyTooLarge, BodyTooSlow, InvalidInput, MalformedHeader, UnsupportedMediaType
from service.learning.intake import documents_in
from service.learning.items import EXAMPLE, FeedbackItem
from service.serving.parameters import PRINTABLE
from service.store.feedback import FeedbackFilters, Outcome, StoredEvent
from service.store.row_files import FEEDBACK

router = APIRouter(tags=["feedback"])

JSON = "application/json"
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
# One document is read as a whole, and a list of results is written so, and meanwhile nothing else is done here.
MAX_BYTES = 1 << 20

_SECONDS = 10.0
_MOST_PROBLEMS = 10_000
_IDEMPOTENCY_KEY = re.compile(PRINTABLE + r"{1,200}\Z")
_SAYS: dict[int | str, dict[str, Any]] = {
    **RESPONSES,
    409: says_problem("The idempotency key was used for something else; of several items each has its own status"),
    503: says_problem("It can't be kept just now, or whether it was is unknown: send it again under the same keys"),
}
_ITEM = inlined(FeedbackItem)
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"oneOf": [_ITEM, {"type": "array", "minItems": 1, "items": _ITEM}]}},
            LINES[0]: {"schema": {"type": "string", "description": "one item a line"}},
        },
    }
}


@router.post("/v1/feedback", openapi_extra=_BODY, responses=_SAYS)
async def give_feedback(
    wanted: Annotated[FeedbackWanted, Query()], request: Request, services: UseServices
) -> FeedbackAnswer:
    """Say what is known of predictions: one item, an array of them, or one a line.

    The answer comes once all that is accepted is durable. Of several items each has its own status, and none keeps the
    others out; of a single one that is wrong the answer says so by its own status. What is said of a prediction that
    nobody knows yet is kept, and counts once it is known. Bodies of more than 1 MiB are lines, with results=problems.
    Where lines are refused in their middle, those before may be durable; the problem says how many are.
    """
    exchange = Exchange.of(request.scope)
    caller = exchange.caller()
    key = _key(exchange)
    media_type = (exchange.header(b"content-type") or "").partition(";")[0].strip().lower()
    if media_type not in (JSON, *LINES):
        expected = f"{JSON}, or {LINES[0]} for one item a line"
        raise UnsupportedMediaType("this is not read", field="Content-Type", expected=expected)
    collected = _Collected(only_problems=wanted.results == "problems")
    if media_type == JSON:
        with IncomingRequest(exchange, MAX_BYTES, services.bodies) as incoming:
            await _from_json(incoming, services, caller, key, collected)
    else:
        # Where no list of results grows with them, as many lines as come.
        chunks = body_in_chunks(exchange, MAX_BYTES if wanted.results == "all" else None, patience=_SECONDS)
        async with contextlib.aclosing(services.feedback.intake.take_lines(chunks, caller.principal, key)) as groups:
            try:
                async for outcomes in groups:
                    collected.add(outcomes)
            except InvalidInput as error:
                raise collected.broken_off(error) from None
    return collected.answer()


async def _from_json(
    incoming: IncomingRequest, services: Services, caller: Caller, key: str | None, collected: "_Collected"
) -> None:
    try:
        async with asyncio.timeout(_SECONDS):
            body = await incoming.read(expected=EXAMPLE)
    except TimeoutError:
        raise BodyTooSlow from None
    intake = services.feedback.intake
    documents = documents_in(body)
    if len(documents) == 1:
        collected.add([await intake.take_one(documents[0], caller.principal, key)])
    else:
        collected.add(await intake.take(documents, caller.principal, key))


class _Collected:
    """What became of items, as far as the caller wants to know it."""

    def __init__(self, *, only_problems: bool) -> None:
        self._only_problems = only_problems
        self._count = 0
        self._accepted = 0
        self._omitted = 0
        self._results: list[FeedbackResult] = []

    def add(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            is_accepted = outcome.status in ("joined", "pending", "duplicate")
            self._accepted += is_accepted
            if self._only_problems and (is_accepted or len(self._results) >= _MOST_PROBLEMS):
                self._omitted += not is_accepted
            else:
                facts = outcome._asdict()
                del facts["field"]  # problems have one, results don't
                self._results.append(FeedbackResult(index=self._count, **facts))
            self._count += 1

    def broken_off(self, error: InvalidInput) -> InvalidInput:
        """The same error of a body, and how much of what came before is durable."""
        expected = error.expected
        if isinstance(error, BodyTooLarge):
            expected = f"{expected}, or results=problems"
        problem = error.problem
        if self._count:
            problem += f"; of the {self._count} items before, {self._accepted} are durable"
        return error.said_as(problem, expected)

    def answer(self) -> FeedbackAnswer:
        return FeedbackAnswer(accepted=self._accepted, results=self._results, omitted=self._omitted)


def _key(exchange: Exchange) -> str | None:
    """The Idempotency-Key of the whole request."""
    sent = exchange.header(b"idempotency-key")
    if sent is not None and not _IDEMPOTENCY_KEY.match(sent):
        raise MalformedHeader("Idempotency-Key", "the key is malformed", "1 to 200 printable characters")
    return sent


@router.get(
    "/v1/feedback",
    response_model=FeedbackEventPage,
    responses={
        **LISTING_SAYS,
        422: says_problem("A filter is malformed"),
        503: says_problem("The store can't be read just now: try again after Retry-After seconds"),
    },
)
async def list_feedback(
    wanted: Annotated[FeedbackEventFilters, Query()], request: Request, response: Response, services: UseServices
) -> FeedbackEventPage | Response:
    """What was said, the newest first. Where there is more, `next_cursor` asks for it as `cursor`.

    As lines of JSON, CSV or Parquet where `Accept` asks for one: then all of it.
    """
    filters = FeedbackFilters(
        model=wanted.model,
        prediction_id=None if wanted.prediction_id is None else str(wanted.prediction_id),
        external_id=wanted.external_id,
        kind=wanted.kind,
        source=wanted.source,
        since=wanted.since.timestamp() if wanted.since else None,
        until=wanted.until.timestamp() if wanted.until else None,
    )

    def read(limit: int, cursor: str | None) -> tuple[list[FeedbackEventInfo], str | None]:
        found = services.feedback.events.list(filters, limit=limit, cursor=cursor)
        return [_shown(one) for one in found.events], found.cursor

    if (media_type := file_wanted(request)) is not None:
        return await export("feedback", media_type, FEEDBACK, wanted, read)
    events, next_cursor = await page(wanted, read)
    response.headers.update(VARY)
    return FeedbackEventPage(events=events, next_cursor=next_cursor)


def _shown(one: StoredEvent) -> FeedbackEventInfo:
    event = one.event
    said = {"rating": "rating", "retraction": None}.get(event.kind, "label")
    if said == "label" and isinstance(event.value, int | float):
        said = "value"
    return FeedbackEventInfo(
        event_id=event.id,
        prediction_id=event.prediction_id,
        model=event.model,
        external_id=event.external_id,
        kind=event.kind,
        source=event.source,
        trust=event.trust,
        actor=event.actor,
        principal=event.principal,
        labelled_at=datetime.fromtimestamp(event.labelled_at / 1000, UTC),
        received_at=datetime.fromtimestamp(event.received_at / 1000, UTC),
        supersedes=event.supersedes,
        idempotency_key=event.idempotency_key,
        status=one.state,
        **({} if said is None else {said: event.value}),
    )
