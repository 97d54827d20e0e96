"""Rows of numbers from a JSON body straight into an array, without a Python object for each number.

For bodies as most are: `{"instances": [...]}` with rows of exactly the contract's shape, and perhaps parameters behind
them. All else is None here, and read, or refused with its reason, the long way.
"""

import functools
import math
import threading
from typing import Any

import numpy as np
import simdjson

from models.inputs import ImageInput, InputContract, TensorInput
from models.preprocess.tensors import Array
from service.serving.contracts import shape_of

# What numbers are made of, and space. The "e" of "instances" goes with them.
_NUMBERS = b"0123456789.eE+- \t\r\n"
_BEGIN = b'{"instances":['.translate(None, _NUMBERS)
_PEEKED_BYTES = 64
# Below this doubles hold every whole number, and it does not matter by which way one becomes a float32.
MAX_MAGNITUDE = 2.0**53
_MAX_KEPT_BYTES = 1 << 20
_kept = threading.local()


def read_numbers(body: bytes, contract: InputContract) -> tuple[Array, Any] | None:
    """Rows (n, *shape), float64, and what stands under "parameters"; None where this is no such body.

    Every number lies between -MAX_MAGNITUDE and MAX_MAGNITUDE.
    """
    begin = body[:_PEEKED_BYTES].translate(None, _NUMBERS)
    if not begin.startswith(_BEGIN + b"[") or (shape := _shape(contract, begin)) is None:
        return None
    try:
        instances, parameters = _fields(parser_for(len(body)).parse(body))
        num_rows = len(instances)
        # simdjson flattens lists, ragged ones too, so the shape is read from what is left of the body without its
        # numbers: these very brackets and commas, and as many numbers as belong there.
        if not body.translate(None, _NUMBERS).startswith(_BEGIN + _brackets(shape, num_rows) + b"]"):
            return None
        values = np.frombuffer(instances.as_buffer(of_type="d"), np.float64)
    except (ValueError, TypeError, AttributeError, RuntimeError):  # no JSON, other elements, other fields
        return None
    if not num_rows or values.size != num_rows * math.prod(shape):
        return None
    if not (np.minimum.reduce(values) > -MAX_MAGNITUDE and np.maximum.reduce(values) < MAX_MAGNITUDE):
        return None
    return values.reshape(num_rows, *shape), parameters


def _shape(contract: InputContract, begin: bytes) -> tuple[int, ...] | None:
    """Of a row, as far as it is known: grey pictures may come without their channel."""
    match contract:
        case ImageInput(channels=1) if not begin.startswith(_BEGIN + b"[[["):
            return contract.shape[1:]
        case ImageInput():
            return contract.shape
        case TensorInput(dtype="float32", variable=False):
            return shape_of(contract)
        case _:
            return None


def _fields(document: Any) -> tuple[Any, Any]:
    """The rows and the parameters. Raises ValueError where there is more, or one of them twice."""
    fields = list(document.keys())
    if fields == ["instances"]:  # asked for a field that isn't there, simdjson throws C++ exceptions, which take long
        return document["instances"], None
    if fields != ["instances", "parameters"]:
        raise ValueError("other fields")
    parameters = document["parameters"]
    match parameters:
        case simdjson.Object():
            return document["instances"], parameters.as_dict()
        case simdjson.Array():
            return document["instances"], parameters.as_list()
        case _:
            return document["instances"], parameters


def parser_for(num_bytes: int) -> simdjson.Parser:
    """One of this thread, for the parser keeps its memory; but not that of large bodies.

    What it read has to be let go of before it reads again.
    """
    if num_bytes > _MAX_KEPT_BYTES:
        return simdjson.Parser()
    if not hasattr(_kept, "parser"):
        _kept.parser = simdjson.Parser()
    parser: simdjson.Parser = _kept.parser
    return parser


@functools.lru_cache(maxsize=64)
def _brackets(shape: tuple[int, ...], num_rows: int) -> bytes:
    """What is left of the rows without their numbers: for two rows of (3,), `[,,],[,,]`."""
    row = b""
    for size in reversed(shape):
        row = b"[" + b",".join([row] * size) + b"]"
    return b",".join([row] * num_rows)
