"""The parameters of a prediction: from a JSON object, or from a query string."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.domain import DEFAULT_PRIORITY, LOWEST_PRIORITY, PredictParameters
from service.errors import UnprocessableInput

Query = Sequence[tuple[str, str]]
"""A query string's names and values, in their order; a name may come more than once."""

PRINTABLE = r"[^\x00-\x1f\x7f]"
"""A character of keys, tags and ids. They end up in logs and tables: no control characters."""

Text = Annotated[str, Field(min_length=1, max_length=256, pattern=f"^{PRINTABLE}+$")]

_TAG_NAME = r"[^\x00-\x1f\x7f:]+"
TagName = Annotated[str, Field(min_length=1, max_length=256, pattern=f"^{_TAG_NAME}$")]
"""Without a colon, because that parts it from its value wherever a tag is asked for."""

TAG_PATTERN = f"^{_TAG_NAME}:{PRINTABLE}+$"
TagText = Annotated[str, Field(max_length=513, pattern=TAG_PATTERN)]
"""name:value."""


class Parameters(BaseModel):
    """How the answer is wanted."""

    model_config = ConfigDict(extra="forbid", strict=True)

    top_k: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="name the k best labels")
    return_probabilities: bool = Field(False, description="give every label's probability")
    timeout_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="the request's time; later it is a 504"
    )
    priority: Annotated[int, Field(ge=0, le=LOWEST_PRIORITY)] = Field(
        DEFAULT_PRIORITY, description=f"1 goes first, {LOWEST_PRIORITY} last; 0 is the same as 5"
    )
    key: Text | None = Field(None, description="routing key: the same key sees the same version")
    tags: Annotated[dict[TagName, Text], Field(max_length=32)] = Field({}, description="kept with the prediction")
    external_ids: list[Text] = Field([], description="your own ids, one for each instance")


_DEFAULTS = PredictParameters()
_EXPECTED = {
    "top_k": "a whole number from 1 to 1000",
    "return_probabilities": "true or false",
    "timeout_ms": "a positive number of milliseconds",
    "priority": f"a whole number from 0 to {LOWEST_PRIORITY}",
    "key": "1 to 256 printable characters",
    "tags": "at most 32 names, without a colon, each with a text, both of 1 to 256 printable characters",
    "external_ids": "an array of texts of 1 to 256 printable characters, one for each row",
}
_WHOLE = re.compile(r"[+-]?[0-9]{1,30}\Z")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")
_IN_QUERY = "one of top_k, return_probabilities, timeout_ms, priority, key, tags.<name>, external_id"


def from_json(value: Any) -> PredictParameters:
    """Raises UnprocessableInput, naming the field."""
    if value is None:
        return _DEFAULTS
    return _checked(value, "parameters")


def from_query(query: Query) -> PredictParameters:
    """Parameters of a raw body: `top_k=3&tags.country=DE&external_id=order-1`, an id for each row.

    Raises UnprocessableInput.
    """
    if not query:
        return _DEFAULTS
    value: dict[str, Any] = {}
    seen: set[str] = set()
    for name, text in query:
        if name in seen and name != "external_id":
            raise UnprocessableInput("this is given twice", field=f"query.{name[:100]}", expected="one value")
        seen.add(name)
        match name:
            case "top_k" | "timeout_ms" | "return_probabilities" | "priority":
                value[name] = _scalar(name, text)
            case "external_id":
                value.setdefault("external_ids", []).append(text)
            case "key":
                value[name] = text
            case _ if name.startswith("tags."):
                value.setdefault("tags", {})[name.removeprefix("tags.")] = text
            case _:
                raise UnprocessableInput("there is no such parameter", field=f"query.{name[:100]}", expected=_IN_QUERY)
    return _checked(value, "query")


def refuse_query(query: Query) -> None:
    """Raises UnprocessableInput where a JSON body comes with a query, which nobody would read."""
    for name, _ in query:
        what, expected = "beside a JSON body no query is read", 'it in "parameters" of the body'
        raise UnprocessableInput(what, field=f"query.{name[:100]}", expected=expected)


def _scalar(name: str, text: str) -> Any:
    if name == "return_probabilities":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    # Python's own readers take more: 1_0 for 10, and digits of every script.
    if _WHOLE.match(text):
        return int(text)
    return float(text) if name == "timeout_ms" and _DECIMAL.match(text) else text


def _checked(value: Any, root: str) -> PredictParameters:
    if not isinstance(value, dict):
        raise UnprocessableInput("this is no object", field=root, expected='an object like {"top_k": 3}')
    try:
        checked = Parameters.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join([root, *(str(part) for part in first["loc"] if part != "[key]")])
        if first["type"] == "extra_forbidden":
            known = f"one of {', '.join(Parameters.model_fields)}"
            raise UnprocessableInput("there is no such parameter", field=field, expected=known) from None
        raise UnprocessableInput(first["msg"], field=field, expected=_EXPECTED[str(first["loc"][0])]) from None
    return PredictParameters(
        top_k=checked.top_k,
        return_probabilities=checked.return_probabilities,
        timeout=None if checked.timeout_ms is None else checked.timeout_ms / 1000,
        key=checked.key,
        tags=checked.tags,
        external_ids=tuple(checked.external_ids),
        priority=checked.priority,
    )
