"""Whether a value keeps its model's input contract; else an error: what was wrong, where, and what was expected.

Contracts belong to models, so nothing here depends on which version will answer.
"""

import math
from typing import Any

import numpy as np

from models.inputs import ColumnsInput, ImageInput, InputContract, TensorInput, TextInput
from models.preprocess import BrokenImage, RawRows, decode_image
from models.preprocess.tensors import Array
from service.errors import UnprocessableInput
from service.serving.allowance import Allowance

NumericInput = ImageInput | ColumnsInput | TensorInput

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def describe(contract: InputContract) -> str:
    """What an instance must be, for people."""
    match contract:
        case ImageInput():
            sizes = " x ".join(map(str, contract.shape))
            return f"{sizes} numbers from 0 to 255, or the bytes of a PNG, JPEG or WebP image"
        case TextInput():
            return f"a text of 1 to {contract.max_characters} characters"
        case ColumnsInput():
            return f"a number for each column: {', '.join(contract.names)}"
        case TensorInput():
            sizes = " x ".join("any" if size == -1 else str(size) for size in contract.shape)
            return f"{sizes} numbers ({contract.dtype})"


def shape_of(contract: NumericInput) -> tuple[int, ...]:
    """A row's shape; -1 is any length."""
    match contract:
        case ImageInput():
            return contract.shape
        case ColumnsInput():
            return (len(contract.columns),)
        case TensorInput():
            return tuple(contract.shape)


def join(rows: list[Any], contract: InputContract) -> RawRows:
    """Checked rows as preprocessing takes them."""
    return rows if isinstance(contract, TextInput) else joined(rows, contract)


def joined(rows: list[Array], contract: NumericInput) -> Array | list[Array]:
    """Checked rows of numbers, in one array unless their lengths may differ."""
    if isinstance(contract, TensorInput) and contract.variable:
        return rows
    return rows[0][None] if len(rows) == 1 else np.stack(rows)


def checked_text(text: str, field: str, contract: TextInput) -> str:
    """Raises UnprocessableInput for a text that is empty or too long."""
    if not text.strip():
        raise UnprocessableInput("the text is empty", field=field, expected=describe(contract))
    if len(text) > contract.max_characters:
        raise UnprocessableInput(f"the text has {len(text)} characters", field=field, expected=describe(contract))
    return text


def checked_picture(data: bytes, field: str, contract: ImageInput, allowance: Allowance) -> Array:
    """Pixels of an image file, counted before they are unfolded. Raises UnprocessableInput."""
    try:
        return decode_image(
            data,
            channels=contract.channels,
            height=contract.height,
            width=contract.width,
            fit=contract.fit,
            admit=lambda pixels: allowance.admit(pixels, field),
        )
    except BrokenImage as error:
        raise UnprocessableInput(str(error), field=field, expected=describe(contract)) from None


def checked_rows(rows: Array, contract: NumericInput, *, magnitude: float = math.inf) -> Array | None:
    """Rows (n, *shape) at a glance, all together: as `join` gives them.

    None where one is wrong or needs a closer look; `checked_array` says what it is. No number is known to lie farther
    from zero than `magnitude`, and none is NaN where that is finite.
    """
    if isinstance(contract, ColumnsInput) or rows.dtype.kind not in "iuf" or rows.dtype.itemsize > 8 or not rows.size:
        return None
    if isinstance(contract, ImageInput) and contract.channels == 1 and rows.ndim == 3:
        rows = rows[:, None]
    if rows.shape[1:] != shape_of(contract):  # where any length will do, -1 is never the same
        return None
    dtype = contract.dtype if isinstance(contract, TensorInput) else "float32"
    if dtype == "int64" and rows.dtype.kind == "f":
        return None
    least, most = _limits(contract)
    if magnitude <= min(-least, most):
        return rows.astype(dtype, copy=False)
    if not (least <= float(np.minimum.reduce(rows, None)) and float(np.maximum.reduce(rows, None)) <= most):
        return None  # NaN too, which is neither more nor less than anything
    return rows.astype(dtype, copy=False)


def checked_batch(
    array: Array, field: str, contract: NumericInput, max_rows: int, allowance: Allowance
) -> Array | list[Array]:
    """Rows (n, *shape), of which at least one and at most `max_rows` may be sent, as `join` gives them.

    Raises UnprocessableInput, naming the row and where in it, and what the allowance raises.
    """
    if len(array) <= max_rows and (checked := checked_rows(array, contract)) is not None:
        return checked
    if not len(array):
        raise UnprocessableInput("the array has no rows", field=field, expected="at least one row")
    if len(array) > max_rows:
        raise UnprocessableInput(f"there are {len(array)} rows", field=field, expected=f"at most {max_rows}")
    rows = []
    for index, row in enumerate(array):
        allowance.check()
        rows.append(checked_array(row, f"{field}[{index}]", contract))
    return joined(rows, contract)


def _limits(contract: ImageInput | TensorInput) -> tuple[float, float]:
    if isinstance(contract, ImageInput):
        return 0.0, 255.0
    least = -_FLOAT32_MAX if contract.minimum is None else max(contract.minimum, -_FLOAT32_MAX)
    most = _FLOAT32_MAX if contract.maximum is None else min(contract.maximum, _FLOAT32_MAX)
    return least, most


def checked_array(array: Array, field: str, contract: NumericInput) -> Array:
    """The row in the contract's shape and dtype, finite and in range. Raises UnprocessableInput."""
    expected = describe(contract)
    if array.dtype.kind not in "iuf":
        raise UnprocessableInput(f"elements are of type {array.dtype.name}", field=field, expected=expected)
    sent = array
    got = " x ".join(map(str, array.shape)) or "that of a single number"
    if isinstance(contract, ImageInput) and contract.channels == 1 and array.ndim == 2:
        array = array[None]
    shape = shape_of(contract)
    fits = array.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits or array.size == 0:
        raise UnprocessableInput(f"the shape is {got}", field=field, expected=expected)
    if isinstance(contract, TensorInput) and contract.variable and len(array) > contract.max_length:
        most = f"at most {contract.max_length} steps"
        raise UnprocessableInput(f"the sequence has {len(array)} steps", field=field, expected=most)
    _check_range(sent, field, contract)
    if isinstance(contract, TensorInput) and contract.dtype == "int64" and array.dtype.kind == "f":
        raise UnprocessableInput("elements are not whole numbers", field=field, expected=expected)
    dtype = contract.dtype if isinstance(contract, TensorInput) else "float32"
    return array.astype(dtype, copy=False)


def _check_range(array: Array, field: str, contract: NumericInput) -> None:
    low, high = _bounds(contract)
    # Comparisons with NaN are false, so this finds NaN too.
    inside: Array = np.greater_equal(array, low) & np.less_equal(array, high)
    if inside.all():
        return
    at = tuple(int(index) for index in np.argwhere(~inside)[0])
    where = f".{contract.names[at[-1]]}" if isinstance(contract, ColumnsInput) else "".join(f"[{i}]" for i in at)
    least, most = (float(np.broadcast_to(bound, array.shape)[at]) for bound in (low, high))
    expected = f"a number from {least:g} to {most:g}"
    raise UnprocessableInput(f"the value is {array[at]}", field=f"{field}{where}", expected=expected)


def _bounds(contract: NumericInput) -> tuple[Array, Array]:
    """Least and greatest value; never past float32, where a number would reach the network as infinity."""
    if not isinstance(contract, ColumnsInput):
        least, most = _limits(contract)
        return np.array(least), np.array(most)
    ranges = [(column.minimum, column.maximum) for column in contract.columns]
    low = np.array([-_FLOAT32_MAX if least is None else max(least, -_FLOAT32_MAX) for least, _ in ranges])
    high = np.array([_FLOAT32_MAX if most is None else min(most, _FLOAT32_MAX) for _, most in ranges])
    return low, high
