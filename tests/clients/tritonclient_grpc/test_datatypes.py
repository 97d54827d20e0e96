"""Every datatype of the protocol, as bytes and as typed contents, on models that take it and on models that don't."""

from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from tests.clients.asked import BY_MODEL, Array, check_alike, texts
from tests.clients.support import Served, picture
from tests.clients.tritonclient_grpc.tensors import arrays, refused, tensor

WHOLE = {
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
}  # fmt: skip
FLOATS = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BF16": ml_dtypes.bfloat16}
CONTENTS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
# Numbers that all of them hold.
ROWS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
IDS = np.array([[2, 3, 5], [9, 8, 0]])


def typed(served: Served, model: str, name: str, datatype: str, array: Array) -> dict[str, Array]:
    """The outputs for an input in typed contents, which the client's messages have and its methods don't."""
    contents = service_pb2.InferTensorContents(**{CONTENTS[datatype]: array.reshape(-1).tolist()})
    sent = {"name": name, "datatype": datatype, "shape": array.shape, "contents": contents}
    with grpc.insecure_channel(served.grpc) as channel:
        request = service_pb2.ModelInferRequest(model_name=model, inputs=[sent])
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request)
    dtypes = {"FP32": np.float32, "FP64": np.float64}
    raw = zip(answer.outputs, answer.raw_output_contents, strict=True)
    return {
        one.name: np.frombuffer(data, dtypes[one.datatype]).reshape(one.shape)
        for one, data in raw
        if one.datatype in dtypes
    }


@pytest.mark.parametrize("datatype", WHOLE | FLOATS)
def test_any_number_is_a_number(client: Any, served: Served, datatype: str) -> None:
    result = client.infer("sensors", [tensor("input", datatype, ROWS.astype((WHOLE | FLOATS)[datatype]))])
    check_alike(arrays(result), served.predict("sensors", ROWS.tolist()))


@pytest.mark.parametrize("datatype", [name for name in WHOLE | FLOATS if name in CONTENTS])
def test_any_number_is_one_as_contents_too(served: Served, datatype: str) -> None:
    found = typed(served, "sensors", "input", datatype, ROWS.astype((WHOLE | FLOATS)[datatype]))
    check_alike(found, served.predict("sensors", ROWS.tolist()))


@pytest.mark.parametrize("datatype", WHOLE)
def test_any_whole_number_is_an_id(client: Any, served: Served, datatype: str) -> None:
    result = client.infer("codes", [tensor("input", datatype, IDS.astype(WHOLE[datatype]))])
    check_alike(arrays(result), served.predict("codes", IDS.tolist()))


@pytest.mark.parametrize("model", ["mood", "clothes"])
def test_bytes_are_bytes_as_contents_too(client: Any, served: Served, model: str) -> None:
    asked = BY_MODEL[model]
    found = typed(served, model, asked.name, "BYTES", asked.array)
    expected = arrays(client.infer(model, [tensor(asked.name, "BYTES", asked.array)]))
    assert np.array_equal(found["probabilities"], expected["probabilities"])


@pytest.mark.parametrize("datatype", FLOATS)
def test_a_float_is_no_id(client: Any, datatype: str) -> None:
    sent = [tensor("input", datatype, IDS.astype(FLOATS[datatype]))]
    says = "raw_input_contents[0][0]: elements are not whole numbers"
    refused("INVALID_ARGUMENT", says, client.infer, "codes", sent)


@pytest.mark.parametrize(
    ("model", "name", "array"),
    [("sensors", "input", ROWS), ("codes", "input", IDS), ("rent", "columns", ROWS[:, :2])],
)
def test_a_boolean_is_no_number(client: Any, model: str, name: str, array: Array) -> None:
    says = "raw_input_contents[0][0]: elements are of type bool; expected "
    refused("INVALID_ARGUMENT", says, client.infer, model, [tensor(name, "BOOL", array > 2)])


def test_a_text_is_no_number(client: Any) -> None:
    sent = [tensor("input", "BYTES", np.array([[b"1", b"2", b"3", b"4"]], np.object_))]
    says = "raw_input_contents[0]: elements are of type BYTES; expected numbers"
    refused("INVALID_ARGUMENT", says, client.infer, "sensors", sent)


@pytest.mark.parametrize(("model", "name"), [("mood", "text"), ("clothes", "image")])
def test_a_number_is_neither_text_nor_picture(client: Any, model: str, name: str) -> None:
    sent = [tensor(name, "UINT8", np.array([[1], [2]], np.uint8))]
    says = "raw_input_contents[0]: elements are of type UINT8; expected BYTES"
    refused("INVALID_ARGUMENT", says, client.infer, model, sent)


@pytest.mark.parametrize("array", [texts(b"good", "naïve, ü".encode()), np.array([[b"good"], [b"bad"]], "S4")])
def test_texts_are_bytes_of_any_length(client: Any, served: Served, array: Array) -> None:
    instances = [row.decode() for row in array.reshape(-1).tolist()]
    check_alike(arrays(client.infer("mood", [tensor("text", "BYTES", array)])), served.predict("mood", instances))


def test_a_pictures_file_is_bytes_of_any_value(client: Any) -> None:
    # Zeros among them, which a fixed-size type would cut off at the end.
    sent = [tensor("image", "BYTES", texts(picture(200, 200) + b"\0\0", picture()))]
    assert client.infer("clothes", sent).as_numpy("logits").shape == (2, 10)
