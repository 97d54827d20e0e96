"""The parameters of a prediction: from a JSON object, or from a query string."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.domain import DEFAULT_PRIORITY, LOWEST_PRIORITY, PredictParameters
from service.errors import UnprocessableInput

# Keys, tags and ids end up in logs and tables: no control characters.
_Text = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    top_k: Annotated[int, Field(ge=1, le=1000)] | None = None
    return_probabilities: bool = False
    timeout_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    priority: Annotated[int, Field(ge=0, le=LOWEST_PRIORITY)] = DEFAULT_PRIORITY
    key: _Text | None = None
    tags: Annotated[dict[_Text, _Text], Field(max_length=32)] = {}
    external_ids: list[_Text] = []


_IN_QUERY = "one of top_k, return_probabilities, timeout_ms, priority, key, tags.<name>, external_id"


def from_json(value: Any) -> PredictParameters:
    """Raises UnprocessableInput, naming the field."""
    if value is None:
        return PredictParameters()
    return _checked(value, "parameters")


def from_query(query: Mapping[str, str]) -> PredictParameters:
    """Parameters of a raw body: `top_k=3&tags.country=DE&external_id=order-1`. Raises UnprocessableInput."""
    value: dict[str, Any] = {}
    for name, text in query.items():
        match name:
            case "top_k" | "timeout_ms" | "return_probabilities" | "priority":
                value[name] = _scalar(name, text)
            case "external_id":
                value["external_ids"] = [text]
            case "key":
                value[name] = text
            case _ if name.startswith("tags."):
                value.setdefault("tags", {})[name.removeprefix("tags.")] = text
            case _:
                raise UnprocessableInput("there is no such parameter", field=f"query.{name[:100]}", expected=_IN_QUERY)
    return _checked(value, "query")


def _scalar(name: str, text: str) -> Any:
    if name == "return_probabilities":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    try:
        return float(text) if name == "timeout_ms" else int(text)
    except ValueError:
        return text


def _checked(value: Any, root: str) -> PredictParameters:
    if not isinstance(value, dict):
        raise UnprocessableInput("this is no object", field=root, expected='an object like {"top_k": 3}')
    try:
        checked = _Parameters.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join([root, *(str(part) for part in first["loc"] if part != "[key]")])
        if first["type"] == "extra_forbidden":
            known = f"one of {', '.join(_Parameters.model_fields)}"
            raise UnprocessableInput("there is no such parameter", field=field, expected=known) from None
        raise UnprocessableInput(first["msg"], field=field) from None
    return PredictParameters(
        top_k=checked.top_k,
        return_probabilities=checked.return_probabilities,
        timeout=None if checked.timeout_ms is None else checked.timeout_ms / 1000,
        key=checked.key,
        tags=checked.tags,
        external_ids=tuple(checked.external_ids),
        priority=checked.priority,
    )
