"""The client raises, and says what was wrong, or what is not supported."""

from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferInput

from tests.clients.asked import texts
from tests.clients.tritonclient_grpc.tensors import inputs, outputs, refused, tensor

ROW = np.ones((1, 4), np.float32)
RAW = "raw_input_contents[0]"


@pytest.mark.parametrize(
    ("model", "sent", "says"),
    [
        ("sensors", [tensor("input", "FP32", np.ones((1, 5), np.float32))], f"{RAW}[0]: the shape is 5"),
        ("sensors", [tensor("input", "FP32", np.ones(4, np.float32))], f"{RAW}: the shape is [4]"),
        ("sensors", [tensor("x", "FP32", ROW)], "inputs[0].name: there is no input 'x'; expected input (FP32 [-1, 4])"),
        ("sensors", [tensor("input", "FP32", ROW), tensor("x", "FP32", ROW)], "inputs[1].name: there is no input 'x'"),
        ("sensors", [tensor("input", "FP32", ROW * np.nan)], f"{RAW}[0][0]: the value is nan"),
        ("sensors", [tensor("input", "FP32", ROW * 101)], f"{RAW}[0][0]: the value is 101.0"),
        ("sensors", [tensor("input", "FP32", np.empty((0, 4), np.float32))], "inputs[0].shape[0]: 0 is no size"),
        ("sensors", [InferInput("input", [1, 4], "FP32")], "inputs[0]: there is no data"),
        ("sensors", [], "inputs: there are no inputs"),
        ("mood", [tensor("text", "BYTES", texts(b""))], f"{RAW}[0]: the text is empty"),
        ("mood", [tensor("text", "BYTES", texts(b"\xff\xfe"))], f"{RAW}[0]: byte 0 is not UTF-8"),
        ("mood", [tensor("text", "BYTES", texts(b"good")), *inputs("mood")], "inputs[1].name: 'text' is named twice"),
        ("clothes", [tensor("image", "BYTES", texts(b"\xff\xfe"))], f"{RAW}[0]: the bytes are no image"),
        ("codes", [tensor("input", "INT64", np.array([[10]]))], f"{RAW}[0][0]: the value is 10"),
        ("motion", [tensor("input", "FP32", np.ones((1, 17, 3), np.float32))], f"{RAW}[0]: the sequence has 17"),
    ],
)
def test_inputs_that_are_wrong(client: Any, model: str, sent: list[InferInput], says: str) -> None:
    refused("INVALID_ARGUMENT", says, client.infer, model, sent)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (outputs("y"), "outputs[0].name: there is no output 'y'; expected one of probabilities, label, logits"),
        (outputs("label", "label"), "outputs[1].name: 'label' is named twice"),
        (outputs("label", classes=2), "outputs[0].parameters.classification: label holds no numbers"),
    ],
)
def test_outputs_that_are_wrong(client: Any, wanted: list[Any], says: str) -> None:
    refused("INVALID_ARGUMENT", says, client.infer, "mood", inputs("mood"), outputs=wanted)


@pytest.mark.parametrize(
    ("model", "version", "says"),
    [("nobody", "", "there is no model named 'nobody'"), ("mood", "7", "there is no version of mood named '7'")],
)
def test_what_isnt_there(client: Any, model: str, version: str, says: str) -> None:
    refused("NOT_FOUND", says, client.infer, model, inputs("mood"), model_version=version)


def test_an_id_that_is_too_long(client: Any) -> None:
    refused("INVALID_ARGUMENT", "id: this is no id", client.infer, "mood", inputs("mood"), request_id="x" * 257)


@pytest.mark.parametrize("sequence", [7, "seven"])
def test_sequences_of_requests(client: Any, sequence: int | str) -> None:
    named = {"sequence_id": sequence, "sequence_start": True, "sequence_end": True}
    says = "sequences of requests (sequence_id): not supported"
    refused("UNIMPLEMENTED", says, client.infer, "mood", inputs("mood"), **named)


def test_tensors_in_shared_memory(client: Any) -> None:
    there = InferInput("text", [1, 1], "BYTES").set_shared_memory("region", 64)
    says = "shared memory (shared_memory_region): not supported; expected the tensor in the request's body"
    refused("UNIMPLEMENTED", says, client.infer, "mood", [there])
    (wanted,) = outputs("label")
    wanted.set_shared_memory("region", 64)
    refused("UNIMPLEMENTED", says, client.infer, "mood", inputs("mood"), outputs=[wanted])


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("get_trace_settings", ()),
        ("update_trace_settings", ("mood", {"trace_level": ["OFF"]})),
        ("get_log_settings", ()),
        ("update_log_settings", ({"log_info": False},)),
        ("get_system_shared_memory_status", ()),
        ("register_system_shared_memory", ("region", "/region", 64)),
        ("unregister_system_shared_memory", ("region",)),
        ("get_cuda_shared_memory_status", ()),
        ("register_cuda_shared_memory", ("region", b"aGFuZGxl", 0, 64)),
        ("unregister_cuda_shared_memory", ("region",)),
    ],
)
def test_extensions_that_are_not_ours(client: Any, method: str, args: tuple[Any, ...]) -> None:
    refused("UNIMPLEMENTED", "the method ", getattr(client, method), *args)
