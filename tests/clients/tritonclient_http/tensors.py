"""What is sent and what comes back, as Triton's client has it."""

from tritonclient.http import InferInput, InferRequestedOutput, InferResult

from tests.clients.asked import BY_MODEL, Array


def tensor(name: str, datatype: str, array: Array, *, binary: bool = True) -> InferInput:
    """An input."""
    return InferInput(name, list(array.shape), datatype).set_data_from_numpy(array, binary_data=binary)


def inputs(model: str, *, binary: bool = True) -> list[InferInput]:
    """That model's rows of ASKED."""
    asked = BY_MODEL[model]
    return [tensor(asked.name, asked.datatype, asked.array, binary=binary)]


def outputs(*names: str, binary: bool = True, classes: int = 0) -> list[InferRequestedOutput]:
    """Outputs that are asked for."""
    return [InferRequestedOutput(name, binary_data=binary, class_count=classes) for name in names]


def arrays(result: InferResult) -> dict[str, Array]:
    """All outputs of an answer."""
    return {output["name"]: result.as_numpy(output["name"]) for output in result.get_response()["outputs"]}
