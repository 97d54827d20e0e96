"""What an instance may be, and how it goes over the wire."""

import base64
import json
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, Protocol


class ArrayLike(Protocol):
    """A numpy array, a torch tensor, or what else can name its numbers."""

    def tolist(self) -> Any: ...


Instance = str | Path | bytes | ArrayLike | Sequence[Any] | Mapping[str, Any]
"""One row: a text; an image file's path or bytes; numbers; or column -> number."""


_WRAPPED = frozenset({"columns", "image", "text", "values"})


def form(instance: Any) -> Any:
    """The instance as the service takes it, but for arrays, which `to_json` unfolds. Raises OSError."""
    match instance:
        case str():
            return instance
        case Path():
            return _image(instance.read_bytes())
        case bytes() | bytearray() | memoryview():
            return _image(instance)
        case Mapping():
            is_wrapped = len(instance) == 1 and instance.keys() <= _WRAPPED
            if is_wrapped and not isinstance(next(iter(instance.values())), Real):
                return dict(instance)
            return {"columns": dict(instance)}
        case _:
            return instance


def _image(data: bytes | bytearray | memoryview) -> dict[str, str]:
    return {"image": base64.b64encode(data).decode()}


def to_json(body: Any) -> bytes:
    """Raises TypeError or ValueError for what can't be sent."""
    try:
        return json.dumps(body, default=_unfold, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise ValueError("an instance holds NaN or an infinite number, which no model takes") from error


def _unfold(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(
        f"an instance can't be or hold a {type(value).__name__}; expected a text, the Path or the bytes of an image, "
        "numbers, an array, or a mapping of column to number"
    )
