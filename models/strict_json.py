"""JSON from strangers: a name stands once in an object, numbers are finite, nesting ends soon."""

import json
import math
from typing import Any, NoReturn

MAX_DEPTH = 64


def loads(data: bytes) -> Any:
    """Parse UTF-8 JSON. Raises ValueError that says what is wrong; parsers may differ on everything refused here."""
    try:
        document = json.loads(data.decode(), object_pairs_hook=_object, parse_float=_number, parse_constant=_not_finite)
    except RecursionError:
        raise ValueError("no JSON: nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error.msg} (character {error.pos})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"no JSON: byte {error.start} is not UTF-8") from None
    _check_depth(document)
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"no JSON that can be relied on: {twice[:100]!r} stands twice in one object")
    return members


def _number(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _not_finite(text)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"no JSON: {text[:100]} is no number")


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError(f"no JSON that is read here: nested too deeply, past {MAX_DEPTH} levels")
