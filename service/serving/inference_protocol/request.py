"""What an inference request says, whichever way it travelled: checked in itself, not yet against a model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from service.domain import DEFAULT_PRIORITY, LOWEST_PRIORITY, PredictParameters
from service.errors import NotSupported, UnprocessableInput
from service.serving.inference_protocol.datatypes import DATATYPES, Elements

MAX_TENSORS = 64
MAX_DIMENSIONS = 8
MAX_ID_CHARACTERS = 256


class InputTensor(NamedTuple):
    """`elements`: an array of `shape`, or, of BYTES, the flat list of its elements. `field` is where it was found."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: Elements
    field: str


class AskedOutput(NamedTuple):
    """An output that is asked for: as bytes or as JSON, and as its `classes` best classes, where that is not 0."""

    name: str
    is_binary: bool = False
    classes: int = 0


class InferRequest(NamedTuple):
    """`outputs` is None where all are wanted; those are binary where `is_binary` says so."""

    id: str | None
    parameters: PredictParameters
    inputs: Sequence[InputTensor]
    outputs: Sequence[AskedOutput] | None = None
    is_binary: bool = False


_SHARED_MEMORY = "shared_memory_region"


def parameters_of(said: Mapping[str, Any]) -> PredictParameters:
    """A request's parameters; those that are nobody's concern here are left alone, as the protocol has it.

    Raises UnprocessableInput, or NotSupported for sequences of requests, whose state nobody keeps.
    """
    if said.get("sequence_id", 0) not in (0, ""):
        raise NotSupported("sequences of requests (sequence_id)", "each request by itself")
    timeout = _whole(said, "timeout", "microseconds, 0 for none")
    priority = _whole(said, "priority", "1 for the first, larger numbers for later, 0 for the default")
    return PredictParameters(
        timeout=timeout / 1e6 if timeout else None,
        priority=min(priority, LOWEST_PRIORITY) if priority else DEFAULT_PRIORITY,
    )


def asked_output(name: str, said: Mapping[str, Any], field: str, *, is_binary: bool) -> AskedOutput:
    """An output with its parameters. Raises UnprocessableInput or NotSupported."""
    refuse_shared_memory(said)
    binary = said.get("binary_data", is_binary)
    if not isinstance(binary, bool):
        raise UnprocessableInput("this is no boolean", field=f"{field}.binary_data", expected="true or false")
    return AskedOutput(name, binary, _whole(said, "classification", "how many classes to name", field))


def refuse_shared_memory(said: Mapping[str, Any]) -> None:
    """Raises NotSupported where a tensor is said to lie in memory that client and server share."""
    if _SHARED_MEMORY in said:
        raise NotSupported(f"shared memory ({_SHARED_MEMORY})", "the tensor in the request's body")


def checked_shape(sizes: Any, field: str) -> tuple[int, ...]:
    """A tensor's shape. Raises UnprocessableInput; no size is taken at its word before its elements are counted."""
    expected = f"an array of 1 to {MAX_DIMENSIONS} whole numbers, each at least 1, the first that of the rows"
    if not isinstance(sizes, list) or not 1 <= len(sizes) <= MAX_DIMENSIONS:
        raise UnprocessableInput("this is no shape", field=field, expected=expected)
    for index, size in enumerate(sizes):
        if type(size) is not int or size < 1:
            raise UnprocessableInput(f"{size!r:.50} is no size", field=f"{field}[{index}]", expected=expected)
    return tuple(sizes)


def checked_datatype(datatype: Any, field: str) -> str:
    """Raises UnprocessableInput."""
    if datatype not in DATATYPES:
        what = f"there is no datatype {datatype!r:.50}"
        raise UnprocessableInput(what, field=field, expected=f"one of {', '.join(DATATYPES)}")
    name: str = datatype
    return name


def checked_id(value: Any) -> str | None:
    """The request's own id, which the answer repeats. Raises UnprocessableInput."""
    if value is None or (isinstance(value, str) and len(value) <= MAX_ID_CHARACTERS):
        return value
    raise UnprocessableInput("this is no id", field="id", expected=f"a text of at most {MAX_ID_CHARACTERS} characters")


def check_distinct(names: Sequence[str], what: str) -> None:
    """Raises UnprocessableInput where a tensor is named twice, or too many are."""
    if len(names) > MAX_TENSORS:
        raise UnprocessableInput(f"there are {len(names)}", field=what, expected=f"at most {MAX_TENSORS}")
    for index, name in enumerate(names):
        if name in names[:index]:
            raise UnprocessableInput(f"{name!r:.50} is named twice", field=f"{what}[{index}].name", expected="it once")


def _whole(said: Mapping[str, Any], name: str, meaning: str, field: str = "parameters") -> int:
    value = said.get(name, 0)
    # Some clients send numbers as floats, or as text.
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if type(value) is not int or value < 0:
        what = f"{value!r:.50} is no such number"
        raise UnprocessableInput(what, field=f"{field}.{name}", expected=f"a whole number: {meaning}")
    return value
