"""What is sent and what comes back, as Triton's client has it."""

from typing import Any

import pytest
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from tests.clients.asked import BY_MODEL, Array


def tensor(name: str, datatype: str, array: Array) -> InferInput:
    """An input, whose elements travel as bytes."""
    return InferInput(name, list(array.shape), datatype).set_data_from_numpy(array)


def inputs(model: str) -> list[InferInput]:
    """That model's rows of ASKED."""
    asked = BY_MODEL[model]
    return [tensor(asked.name, asked.datatype, asked.array)]


def outputs(*names: str, classes: int = 0) -> list[InferRequestedOutput]:
    """Outputs that are asked for."""
    return [InferRequestedOutput(name, class_count=classes) for name in names]


def arrays(result: InferResult) -> dict[str, Array]:
    """All outputs of an answer."""
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def refused(status: str, says: str, method: Any, *args: Any, **named: Any) -> None:
    """Check that a call ends with this status and these words."""
    with pytest.raises(InferenceServerException) as caught:
        method(*args, **named)
    assert caught.value.status() == f"StatusCode.{status}"
    assert caught.value.message().startswith(says)
