"""Small JSON bodies, as routes that change something take them."""

import asyncio
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from service.api.deps import Services
from service.api.exchange import Exchange
from service.api.incoming import IncomingRequest
from service.api.schemas import inlined, says_problem
from service.errors import BodyTooSlow, MalformedBody, UnprocessableInput

T = TypeVar("T", bound=BaseModel)

_MAX_BYTES = 16_384
_SECONDS = 10.0

RESPONSES: dict[int | str, dict[str, Any]] = {
    400: says_problem("The body can't be read"),
    408: says_problem("The body did not arrive in time"),
    413: says_problem("The body is too large"),
    415: says_problem("The body is compressed"),
    422: says_problem("The body is not what is expected"),
}
"""What `read_as` may answer."""


def small_body(request: Request, services: Services) -> IncomingRequest:
    """The request, to be used around its handling."""
    return IncomingRequest(Exchange.of(request.scope), _MAX_BYTES, services.bodies)


async def read_as(shape: type[T], incoming: IncomingRequest, *, example: str, optional: bool = False) -> T:
    """The body; where it is optional, none stands for one that sets nothing.

    Raises MalformedBody, UnprocessableInput, BodyTooLarge, BodyTooSlow, BuffersFull or UnsupportedMediaType.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            body = await incoming.read(may_be_empty=optional, expected=example)
    except TimeoutError:
        raise BodyTooSlow from None
    try:
        return shape.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise MalformedBody(first["msg"], field="body", expected=example) from None
        field = ".".join(["body", *map(str, first["loc"])])
        raise UnprocessableInput(first["msg"], field=field, expected=example) from None


def shows_body(shape: type[BaseModel], *, optional: bool = False) -> dict[str, Any]:
    """What OpenAPI shows of a body that `read_as` reads."""
    content = {"application/json": {"schema": inlined(shape)}}
    return {"requestBody": {"required": not optional, "content": content}}
