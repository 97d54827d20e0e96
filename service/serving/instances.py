"""The forms that a JSON instance may have, by the model's input contract."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.inputs import ColumnsInput, ImageInput, InputContract, TextInput
from models.preprocess import RawRows
from models.preprocess.tensors import Array
from service.errors import UnprocessableInput
from service.serving.allowance import Allowance
from service.serving.contracts import (
    NumericInput,
    checked_array,
    checked_picture,
    checked_text,
    describe,
    join,
    shape_of,
)

_NUMBERS = frozenset({int, float})


def rows_from_json(
    instances: Sequence[Any], contract: InputContract, allowance: Allowance, *, may_hold_booleans: bool
) -> RawRows:
    """The rows of a request's `instances`. Raises UnprocessableInput, and what the allowance raises.

    numpy takes true for 1 without a word; `may_hold_booleans` has every element looked at.
    """
    rows: list[str | Array] = []
    for index, value in enumerate(instances):
        allowance.check()
        field = f"instances[{index}]"
        match contract:
            case TextInput():
                rows.append(_text(value, field, contract))
            case ImageInput() if isinstance(value, dict) and "image" in value:
                rows.append(_picture(value, field, contract, allowance))
            case ColumnsInput() if isinstance(value, dict) and "values" not in value:
                rows.append(_columns(value, field, contract))
            case _:
                rows.append(_numbers(value, field, contract, suspicious=may_hold_booleans))
    return join(rows, contract)


def _text(value: Any, field: str, contract: TextInput) -> str:
    if isinstance(value, dict):
        value, field = _only(value, "text", field, contract), f"{field}.text"
    if not isinstance(value, str):
        raise UnprocessableInput(f"this is {_kind(value)}", field=field, expected=describe(contract))
    return checked_text(value, field, contract)


def _picture(value: dict[str, Any], field: str, contract: ImageInput, allowance: Allowance) -> Array:
    encoded, field = _only(value, "image", field, contract), f"{field}.image"
    if not isinstance(encoded, str):
        raise UnprocessableInput(f"this is {_kind(encoded)}", field=field, expected="an image file in base64")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise UnprocessableInput("this is not base64", field=field, expected="an image file in base64") from None
    return checked_picture(data, field, contract, allowance)


def _columns(value: dict[str, Any], field: str, contract: ColumnsInput) -> Array:
    columns, field = _only(value, "columns", field, contract), f"{field}.columns"
    expected = describe(contract)
    if not isinstance(columns, dict):
        raise UnprocessableInput(f"this is {_kind(columns)}", field=field, expected="an object of column -> number")
    if unknown := columns.keys() - set(contract.names):
        raise UnprocessableInput(f"there is no column {sorted(unknown)[0]!r}", field=field, expected=expected)
    for name in contract.names:
        if name not in columns:
            raise UnprocessableInput(f"the column {name!r} is missing", field=field, expected=expected)
        if not _is_number(columns[name]):
            what = f"this is {_kind(columns[name])}"
            raise UnprocessableInput(what, field=f"{field}.{name}", expected="a number")
    return checked_array(np.array([float(columns[name]) for name in contract.names]), field, contract)


def _numbers(value: Any, field: str, contract: NumericInput, *, suspicious: bool) -> Array:
    if isinstance(value, dict):
        value, field = _only(value, "values", field, contract), f"{field}.values"
    try:
        array = np.array(value)
    except (ValueError, OverflowError):
        array = np.empty(0, object)
    if suspicious or array.dtype.kind not in "iuf":
        _refuse_faults(value, field, describe(contract), depth=len(shape_of(contract)))
    return checked_array(array, field, contract)


def _refuse_faults(value: Any, field: str, expected: str, *, depth: int) -> None:
    """Point at the first element that is no number, or at the first list whose length differs from its neighbours'.

    `depth` is how many lists may still be inside one another; what a caller nests deeper is not followed.
    """
    if not isinstance(value, list):
        if not _is_number(value):
            raise UnprocessableInput(f"this is {_kind(value)}", field=field, expected=expected)
        return
    if not depth:
        raise UnprocessableInput("this is nested too deeply", field=field, expected=expected)
    of_numbers = bool(value) and type(value[0]) in _NUMBERS
    if of_numbers and _NUMBERS.issuperset(map(type, value)):
        return
    for index, element in enumerate(value):
        if of_numbers and type(element) in _NUMBERS:
            continue
        _refuse_faults(element, f"{field}[{index}]", expected, depth=depth - 1)
        if _length(element) != _length(value[0]):
            what = f"this has {_size(element)} and its neighbour {field}[0] {_size(value[0])}"
            raise UnprocessableInput(what, field=f"{field}[{index}]", expected=expected)


def _only(value: dict[str, Any], key: str, field: str, contract: InputContract) -> Any:
    if value.keys() != {key}:
        keys = ", ".join(sorted(value)) or "none"
        expected = f"{key!r} alone, holding {describe(contract)}"
        raise UnprocessableInput(f"the object has the keys: {keys}", field=field, expected=expected)
    return value[key]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


def _size(value: Any) -> str:
    return f"{len(value)} elements" if isinstance(value, list) else "none: it is a number"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case str():
            return "a string"
        case list():
            return "an array"
        case dict():
            return "an object"
        case _:
            return "a number"
