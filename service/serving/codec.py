"""From the body of a predict request to rows that keep the model's contract, and from predictions to the answer.

Everything wrong with a body is said here, before anything is queued.
"""

from collections.abc import Callable
from typing import NamedTuple

import orjson

from models.inputs import ImageInput, InputContract, TextInput
from models.preprocess import RawRows, Tensors
from service.domain import PredictParameters, Ref
from service.errors import MalformedBody, UnprocessableInput, UnsupportedMediaType
from service.serving import parameters
from service.serving.allowance import Allowance
from service.serving.answer import Computed, Encoded
from service.serving.contracts import (
    checked_array,
    checked_batch,
    checked_picture,
    checked_rows,
    checked_text,
    join,
    shape_of,
)
from service.serving.instances import rows_from_json
from service.serving.json_numbers import MAX_MAGNITUDE, read_numbers
from service.serving.npy import read_npy
from service.serving.parameters import Query
from service.serving.router import Target

JSON = "application/json"
NPY = "application/x-npy"
TEXT = "text/plain"
IMAGES = ("image/png", "image/jpeg", "image/webp")
_MEDIA_TYPES: dict[type, tuple[str, ...]] = {TextInput: (JSON, TEXT), ImageInput: (JSON, *IMAGES, NPY)}


class Body(NamedTuple):
    """What was sent: the bytes, and what its headers and the query string say of them."""

    data: bytes
    content_type: str | None
    query: Query
    json_length: str | None = None
    """Of the Open Inference Protocol: how many bytes of it are JSON."""


class Parsed(NamedTuple):
    """How the caller wants the answer, what gives the rows, which may take long, and what makes the answer's body.

    `rows` gives them as the contract says, or prepared; it raises MalformedBody, UnprocessableInput and what the
    allowance raises. With `are_read` it takes no time; with `hold_picture` it may unfold far more pixels than there
    are bytes. `encode` is given the version that answers: it may be another of the model than the one parsed for.
    """

    parameters: PredictParameters
    rows: Callable[[Allowance], RawRows | Tensors]
    encode: Callable[[Target, Computed], Encoded]
    are_read: bool = False
    hold_picture: bool = False


def parse(body: Body, target: Target, max_rows: int) -> Parsed:
    """Raises MalformedBody, UnsupportedMediaType or UnprocessableInput."""
    return parse_rows(body, target.manifest.input, max_rows=max_rows)


def parse_rows(body: Body, contract: InputContract, *, max_rows: int) -> Parsed:
    """A body of rows that shall keep a contract. Raises as `parse`."""
    media_type = _media_type(body.content_type, contract)
    if media_type == JSON:
        parameters.refuse_query(body.query)
        return _parse_json(body, contract, max_rows)
    wanted = parameters.from_query(body.query)

    def rows(allowance: Allowance) -> RawRows:
        if media_type == NPY:
            return _matching(wanted, _from_npy(body.data, contract, max_rows, allowance), root="query")
        return _matching(wanted, _RAW[media_type](body.data, contract, allowance), root="query")

    return Parsed(wanted, rows, _encode, hold_picture=media_type in IMAGES)


def encode(ref: Ref, computed: Computed) -> Encoded:
    """The JSON of an answer."""
    return Encoded(
        orjson.dumps(
            {
                "model": ref.model,
                "version": str(ref.version),
                "prediction_ids": computed.prediction_ids,
                "predictions": computed.predictions,
            }
        )
    )


def _encode(target: Target, computed: Computed) -> Encoded:
    return encode(target.ref, computed)


def media_types(contract: InputContract) -> tuple[str, ...]:
    """The content types in which rows of this contract may be sent."""
    return _MEDIA_TYPES.get(type(contract), (JSON, NPY))


def _media_type(content_type: str | None, contract: InputContract) -> str:
    known = media_types(contract)
    if content_type is not None and content_type in known:
        return content_type
    expected = f"one of {', '.join(known)}"
    if content_type is None:
        raise UnsupportedMediaType("there is no Content-Type", field="Content-Type", expected=expected)
    media_type, _, options = content_type.partition(";")
    media_type = media_type.strip().lower()
    if media_type not in known:
        what = f"this model does not take {media_type[:100]!r}"
        raise UnsupportedMediaType(what, field="Content-Type", expected=expected)
    charset = _charset(options)
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType(f"{charset[:100]!r} is not read", field="Content-Type", expected="charset=utf-8")
    return media_type


def _charset(options: str) -> str:
    for option in options.split(";"):
        name, _, value = option.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return ""


def _parse_json(body: Body, contract: InputContract, max_rows: int) -> Parsed:
    return _parse_numbers(body, contract, max_rows) or _parse_any_json(body, contract, max_rows)


def _parse_numbers(body: Body, contract: InputContract, max_rows: int) -> Parsed | None:
    """None where the rows are no plain numbers, or wrong."""
    if isinstance(contract, TextInput) or (numbers := read_numbers(body.data, contract)) is None:
        return None
    values, said = numbers
    checked = checked_rows(values, contract, magnitude=MAX_MAGNITUDE) if len(values) <= max_rows else None
    if checked is None:
        return None
    wanted = parameters.from_json(said)
    return Parsed(wanted, lambda _: _matching(wanted, checked, root="parameters"), _encode, are_read=True)


def _parse_any_json(body: Body, contract: InputContract, max_rows: int) -> Parsed:
    try:
        document = orjson.loads(body.data)
    except orjson.JSONDecodeError as error:
        what = f"this is no JSON: {error.msg} (character {error.pos})"
        raise MalformedBody(what, field="body", expected='{"instances": [...]}') from None
    if not isinstance(document, dict):
        raise UnprocessableInput("this is no object", field="body", expected='{"instances": [...]}')
    if unknown := document.keys() - {"instances", "parameters"}:
        expected = '{"instances": [...], "parameters": {...}}'
        raise UnprocessableInput(f"there is no field {sorted(unknown)[0]!r}", field="body", expected=expected)
    instances = document.get("instances")
    if not isinstance(instances, list) or not instances:
        raise UnprocessableInput("there are no instances", field="instances", expected="an array of at least one row")
    if len(instances) > max_rows:
        raise UnprocessableInput(f"there are {len(instances)} rows", field="instances", expected=f"at most {max_rows}")
    wanted = parameters.from_json(document.get("parameters"))
    may_hold_booleans = b"true" in body.data or b"false" in body.data
    # Escaped, "image" may be spelt in many ways.
    hold_picture = isinstance(contract, ImageInput) and (b'"image"' in body.data or b"\\u" in body.data)

    def rows(allowance: Allowance) -> RawRows:
        checked = rows_from_json(instances, contract, allowance, may_hold_booleans=may_hold_booleans)
        return _matching(wanted, checked, root="parameters")

    return Parsed(wanted, rows, _encode, hold_picture=hold_picture)


def _from_image(data: bytes, contract: InputContract, allowance: Allowance) -> RawRows:
    assert isinstance(contract, ImageInput)
    return checked_picture(data, "body", contract, allowance)[None]


def _from_text(data: bytes, contract: InputContract, _: Allowance) -> RawRows:
    assert isinstance(contract, TextInput)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise MalformedBody(f"byte {error.start} is not UTF-8", field="body", expected="text in UTF-8") from None
    return [checked_text(text, "body", contract)]


def _from_npy(data: bytes, contract: InputContract, max_rows: int, allowance: Allowance) -> RawRows:
    """One row, or a batch when it has one axis more than the contract."""
    assert not isinstance(contract, TextInput)
    array = read_npy(data)
    if array.ndim == len(shape_of(contract)) + 1:
        return checked_batch(array, "body", contract, max_rows, allowance)
    checked = checked_rows(array[None], contract)
    return join([checked_array(array, "body", contract)], contract) if checked is None else checked


_RAW: dict[str, Callable[[bytes, InputContract, Allowance], RawRows]] = {
    TEXT: _from_text,
    **dict.fromkeys(IMAGES, _from_image),
}


def _matching(wanted: PredictParameters, rows: RawRows, *, root: str) -> RawRows:
    if wanted.external_ids and len(wanted.external_ids) != len(rows):
        what = f"there are {len(wanted.external_ids)} ids for {len(rows)} rows"
        raise UnprocessableInput(what, field=f"{root}.external_ids", expected="one for each row")
    return rows
