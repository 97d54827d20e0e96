"""Tensors in JSON straight into arrays, without a Python object for each number.

For bodies as most clients write them: numbers that are flat. All else is None here, and read the long way.
"""

from typing import Any

import numpy as np
import simdjson

from service.serving.json_numbers import parser_for

# Below this, the long way is the shorter one.
_LEAST_BYTES = 2048
# Which simdjson passes over, and orjson refuses.
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BUFFERS = {
    **dict.fromkeys(("FP32", "FP64"), ("d", np.float64)),
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), ("i", np.int64)),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32", "UINT64"), ("u", np.uint64)),
}


def read_flat(body: bytes) -> dict[str, Any] | None:
    """The JSON document of a request, in which each input's `data` is an array of 64-bit numbers."""
    if len(body) < _LEAST_BYTES or body.startswith(_BYTE_ORDER_MARK):
        return None
    try:
        found: Any = parser_for(len(body)).parse(body)
        names = _names(found)
        sent: Any = found["inputs"] if "inputs" in names else None
        # Only what is taken by its number stays an object of simdjson's; what is iterated over, becomes Python's.
        inputs = [_input(sent[index]) for index in range(len(sent))]
        document = {name: _plain(found[name]) for name in names if name != "inputs"}
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError):  # no JSON, other elements, other fields
        return None
    # simdjson flattens lists within lists, so there must be none: one of the inputs, and two in each.
    if body.count(b"[") != 1 + 2 * len(inputs) + isinstance(document.get("outputs"), list):
        return None
    return {**document, "inputs": inputs}


def _names(found: Any) -> list[str]:
    """Of an object's fields. Raises ValueError where one is there twice, of which orjson takes the last."""
    names = list(found.keys())
    if len(set(names)) != len(names):
        raise ValueError("a field twice")
    return names


def _input(found: Any) -> dict[str, Any]:
    names = _names(found)
    # Asked for a field that isn't there, simdjson throws C++ exceptions, which take long.
    if not {"datatype", "data"} <= set(names):
        raise ValueError("no flat numbers")
    of_type, dtype = _BUFFERS[found["datatype"]]
    data = np.frombuffer(found["data"].as_buffer(of_type=of_type), dtype)
    return {**{name: _plain(found[name]) for name in names if name != "data"}, "data": data}


def _plain(value: Any) -> Any:
    match value:
        case simdjson.Object():
            return value.as_dict()
        case simdjson.Array():
            return value.as_list()
        case _:
            return value
