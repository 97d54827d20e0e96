"""Whatever is sent, the service has an answer of its own: right or wrong, but never that it failed."""

import asyncio
from types import SimpleNamespace
from typing import Any

from grpc import StatusCode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api.deps import Services
from service.errors import ServoloopError
from service.grpc_api import inference_pb2 as pb
from service.grpc_api.calls import Call
from service.grpc_api.methods import methods_of
from service.grpc_api.statuses import failure_of
from tests.service.api.grpc_api.support import CONTENTS, request, tensor
from tests.service.api.inference.support import elements
from tests.service.api.support import CountingEngine

MANY = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
# It asked for less time than it takes to be read; or for what other protocols have.
REFUSALS = {StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.UNIMPLEMENTED, StatusCode.DEADLINE_EXCEEDED}
MODELS = st.sampled_from(["clothes", "codes", "mood", "motion", "rent", "sensors", "thumbnails"])
NAMES = st.sampled_from(["input", "text", "image", "columns", "logits", "label", "value"]) | st.text(max_size=3)
WHOLE = {name: st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for name, bits in (("int", 32), ("int64", 64))}
WHOLE |= {name: st.integers(0, 2**bits - 1) for name, bits in (("uint", 32), ("uint64", 64))}
ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "bool_contents": st.booleans(),
    **{f"{name}_contents": st.integers(0, 9) | numbers for name, numbers in WHOLE.items()},
    "fp32_contents": st.floats(width=32),
    "fp64_contents": st.floats(),
    "bytes_contents": st.binary(max_size=8) | st.just(b"good"),
}
PARAMETERS = st.dictionaries(
    st.sampled_from(
        ["binary_data", "classification", "priority", "sequence_id", "shared_memory_region", "timeout", "x"]
    ),
    st.builds(pb.InferParameter, int64_param=st.integers(-5, 40) | st.integers(-(2**63), 2**63 - 1))
    | st.builds(pb.InferParameter, bool_param=st.booleans())
    | st.builds(pb.InferParameter, string_param=st.text(max_size=4))
    | st.builds(pb.InferParameter, double_param=st.floats())
    | st.just(pb.InferParameter()),
    max_size=2,
)
INPUTS = st.builds(
    pb.ModelInferRequest.InferInputTensor,
    name=NAMES,
    datatype=st.sampled_from([*CONTENTS, "FP16", "BF16"]) | st.text(max_size=3),
    shape=st.lists(st.integers(-1, 4) | st.integers(-(2**63), 2**63 - 1), max_size=5),
    parameters=PARAMETERS,
    contents=st.none()
    | st.builds(
        pb.InferTensorContents,
        **{name: st.just([]) | st.lists(values, max_size=8) for name, values in ELEMENTS.items()},
    ),
)
OUTPUTS = st.builds(pb.ModelInferRequest.InferRequestedOutputTensor, name=NAMES, parameters=PARAMETERS)
REQUESTS = st.builds(
    pb.ModelInferRequest,
    model_name=MODELS,
    model_version=st.sampled_from(["", "", "1", "champion"]) | st.text(max_size=3),
    id=st.text(max_size=3),
    parameters=PARAMETERS,
    inputs=st.lists(INPUTS, max_size=2),
    outputs=st.lists(OUTPUTS, max_size=2),
    raw_input_contents=st.just([]) | st.lists(st.binary(max_size=40), max_size=2),
)
GOOD = request("mood", [tensor("text", "BYTES", [2, 1])], [elements(b"good", b"bad")]).SerializeToString()


def check(data: bytes, services: Services, engine: CountingEngine) -> None:
    context: Any = SimpleNamespace(time_remaining=lambda: None, invocation_metadata=tuple)

    async def ask() -> bytes:
        return await methods_of(services)["ModelInfer"](data, Call("ModelInfer", context))

    engine.calls.clear()
    try:
        answer = pb.ModelInferResponse.FromString(asyncio.run(ask()))
    except ServoloopError as refused:
        code = failure_of(refused).code
    else:
        assert len(engine.calls) == 1
        assert len(answer.outputs) == len(answer.raw_output_contents)
        return
    assert code in REFUSALS


@given(message=REQUESTS)
@MANY
def test_any_message(services: Services, engine: CountingEngine, message: pb.ModelInferRequest) -> None:
    check(message.SerializeToString(), services, engine)


@given(data=st.data())
@MANY
def test_any_bytes_in_a_message(services: Services, engine: CountingEngine, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD)))
    upto = data.draw(st.integers(at, len(GOOD)))
    check(GOOD[:at] + data.draw(st.binary(max_size=12)) + GOOD[upto:], services, engine)


@given(data=st.binary(max_size=64))
@MANY
def test_any_bytes(services: Services, engine: CountingEngine, data: bytes) -> None:
    check(data, services, engine)
