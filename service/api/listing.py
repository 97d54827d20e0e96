"""What filters find, the newest first: a page of it; or all of it as a file, which is written while it is sent."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.types import Send

from service.api.accepting import VARY, preferred
from service.api.schemas import MOST_OF_A_PAGE, FeedbackEventFilters, PredictionFilters, says_problem
from service.errors import NotSupported, ServoloopError, UnprocessableInput
from service.store.row_files import Columns, Format, encoder

log = logging.getLogger(__name__)

T = TypeVar("T", bound=BaseModel)

Read = Callable[[int, str | None], tuple[list[T], str | None]]
"""Up to so many rows of those behind a cursor, and the cursor of what follows; None where nothing does."""

Wanted = PredictionFilters | FeedbackEventFilters

_JSON, _NDJSON = "application/json", "application/x-ndjson"
_CSV, _PARQUET = "text/csv", "application/vnd.apache.parquet"
_FORMATS = {_NDJSON: Format.NDJSON, _CSV: Format.CSV, _PARQUET: Format.PARQUET}
# Read together for a file. What is held grows with it, and so does how long others wait for Python's lock.
_PART_ROWS = 100

SAYS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page; or all that is found, where `Accept` asks for a file",
        "content": {
            _NDJSON: {"schema": {"type": "string", "description": "an entry of a page a line"}},
            _CSV: {"schema": {"type": "string", "description": "with a header; what is nested is JSON"}},
            _PARQUET: {"schema": {"type": "string", "format": "binary"}},
        },
    },
    501: says_problem("Nothing is installed that writes Parquet"),
}
"""What OpenAPI shows of answers, beside the page's own shape."""


def file_wanted(request: Request) -> str | None:
    """The media type of a file that its Accept prefers to a page."""
    media_type = preferred(request.headers.getlist("accept"), (_JSON, *_FORMATS))
    return media_type if media_type in _FORMATS else None


async def page(wanted: Wanted, read: Read[T]) -> tuple[list[T], str | None]:
    """A page, and the cursor of the next one. Raises UnprocessableInput where more is wanted than a page may have."""
    if wanted.limit > MOST_OF_A_PAGE:
        expected = f"at most {MOST_OF_A_PAGE}; a file may have more: Accept: {_NDJSON}, {_CSV} or {_PARQUET}"
        raise UnprocessableInput("a page has no more rows", field="query.limit", expected=expected)
    return await asyncio.to_thread(read, wanted.limit, _cursor(wanted))


async def export(name: str, media_type: str, columns: Columns, wanted: Wanted, read: Read[T]) -> Response:
    """All that is found, as a file. Raises NotSupported where nothing is installed that writes it, and as `read`."""
    form = _FORMATS[media_type]
    parts = _parts(form, columns, wanted, read)
    first = await asyncio.to_thread(next, parts)
    what = f"{name}-{wanted.model}" if wanted.model else name
    headers = {**VARY, "Content-Disposition": f'attachment; filename="{what}.{form}"'}
    return _Export(_all(first, parts), headers=headers, media_type=media_type)


def _parts(form: Format, columns: Columns, wanted: Wanted, read: Read[T]) -> Iterator[bytes]:
    """What follows from each read, made when it is asked for."""
    try:
        writing = encoder(form, columns)
    except ModuleNotFoundError:
        raise NotSupported("a Parquet file", f"{_JSON}, {_NDJSON}, {_CSV}, or servoloop[parquet]") from None
    left = wanted.limit if "limit" in wanted.model_fields_set else None
    cursor = _cursor(wanted)
    while left != 0:
        rows, cursor = read(_PART_ROWS if left is None else min(left, _PART_ROWS), cursor)
        yield writing.add([row.model_dump(mode="json") for row in rows])
        if cursor is None:
            break
        if left is not None:
            left -= len(rows)
    yield writing.finish()


async def _all(first: bytes, more: Iterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    while (part := await asyncio.to_thread(next, more, None)) is not None:
        yield part


class _Export(StreamingResponse):
    """Asks for a part once the connection took the one before, and for none once the client has left."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except ServoloopError as error:
            # A body without its end makes the server cut the connection: what came is not taken for the whole.
            log.error("a file broke off within", extra={"reason": str(error)})


def _cursor(wanted: Wanted) -> str | None:
    return str(wanted.cursor) if wanted.cursor else None
