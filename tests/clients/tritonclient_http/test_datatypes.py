"""Every datatype of the protocol, on models that take it and on models that don't."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.clients.asked import Array, check_alike, texts
from tests.clients.support import Served, picture
from tests.clients.tritonclient_http.tensors import arrays, tensor

WHOLE = {
    "UINT8": np.uint8, "UINT16": np.uint16, "UINT32": np.uint32, "UINT64": np.uint64,
    "INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64,
}  # fmt: skip
FLOATS = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64, "BF16": ml_dtypes.bfloat16}
# JSON has no numbers of these, says the protocol.
BINARY_ONLY = {"FP16", "BF16"}
# Numbers that all of them hold.
ROWS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]])
IDS = np.array([[2, 3, 5], [9, 8, 0]])


def refusal(client: Any, model: str, name: str, datatype: str, array: Array, *, binary: bool = True) -> str:
    """What the client is told of an input that is not taken."""
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [tensor(name, datatype, array, binary=binary)])
    assert caught.value.status() == "400"
    message: str = caught.value.message()
    return message


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("datatype", [name for name in WHOLE | FLOATS if name not in BINARY_ONLY])
def test_any_number_is_a_number(client: Any, served: Served, datatype: str, *, binary: bool) -> None:
    array = ROWS.astype((WHOLE | FLOATS)[datatype])
    result = client.infer("sensors", [tensor("input", datatype, array, binary=binary)])
    check_alike(arrays(result), served.predict("sensors", ROWS.tolist()))


@pytest.mark.parametrize("datatype", sorted(BINARY_ONLY))
def test_small_floats_travel_as_bytes(client: Any, served: Served, datatype: str) -> None:
    result = client.infer("sensors", [tensor("input", datatype, ROWS.astype(FLOATS[datatype]))])
    check_alike(arrays(result), served.predict("sensors", ROWS.tolist()))


def test_fp16_does_not_travel_as_json(client: Any) -> None:
    said = refusal(client, "sensors", "input", "FP16", ROWS.astype(np.float16), binary=False)
    assert said.startswith("inputs[0].data: FP16 does not travel as JSON; expected binary data")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize("datatype", WHOLE)
def test_any_whole_number_is_an_id(client: Any, served: Served, datatype: str, *, binary: bool) -> None:
    result = client.infer("codes", [tensor("input", datatype, IDS.astype(WHOLE[datatype]), binary=binary)])
    check_alike(arrays(result), served.predict("codes", IDS.tolist()))


@pytest.mark.parametrize("datatype", FLOATS)
def test_a_float_is_no_id(client: Any, datatype: str) -> None:
    said = refusal(client, "codes", "input", datatype, IDS.astype(FLOATS[datatype]))
    assert said.startswith("inputs[0].data[0]: elements are not whole numbers")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
@pytest.mark.parametrize(
    ("model", "name", "array"),
    [("sensors", "input", ROWS), ("codes", "input", IDS), ("rent", "columns", ROWS[:, :2])],
)
def test_a_boolean_is_no_number(client: Any, model: str, name: str, array: Array, *, binary: bool) -> None:
    said = refusal(client, model, name, "BOOL", array > 2, binary=binary)
    assert said.startswith("inputs[0].data[0]: elements are of type bool; expected ")


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_a_text_is_no_number(client: Any, *, binary: bool) -> None:
    said = refusal(client, "sensors", "input", "BYTES", np.array([[b"1", b"2", b"3", b"4"]], np.object_), binary=binary)
    assert said == "inputs[0].data: elements are of type BYTES; expected numbers"


@pytest.mark.parametrize(("model", "name"), [("mood", "text"), ("clothes", "image")])
def test_a_number_is_neither_text_nor_picture(client: Any, model: str, name: str) -> None:
    said = refusal(client, model, name, "UINT8", np.array([[1], [2]], np.uint8))
    assert said == "inputs[0].data: elements are of type UINT8; expected BYTES"


@pytest.mark.parametrize("array", [texts(b"good", "naïve, ü".encode()), np.array([[b"good"], [b"bad"]], "S4")])
def test_texts_are_bytes_of_any_length(client: Any, served: Served, array: Array) -> None:
    instances = [row.decode() for row in array.reshape(-1).tolist()]
    check_alike(arrays(client.infer("mood", [tensor("text", "BYTES", array)])), served.predict("mood", instances))


def test_a_pictures_file_is_bytes_of_any_value(client: Any, served: Served) -> None:
    # Zeros among them, which a fixed-size type would cut off at the end.
    file = picture(200, 200) + b"\0\0"
    result = client.infer("clothes", [tensor("image", "BYTES", texts(file, picture()))])
    assert result.as_numpy("logits").shape == (2, 10)


@pytest.mark.parametrize("model", ["clothes", "mood"])
def test_bytes_that_are_neither_text_nor_picture(client: Any, model: str) -> None:
    name, said = {"clothes": ("image", "the bytes are no image"), "mood": ("text", "byte 0 is not UTF-8")}[model]
    assert said in refusal(client, model, name, "BYTES", texts(b"\xff\xfe"))
