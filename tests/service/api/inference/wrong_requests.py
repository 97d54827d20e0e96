"""Everything that may be wrong with an inference request, one case a line."""

# A table reads best with one case a line.
# ruff: noqa: E501

import struct
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.service.api.inference.support import LENGTH, binary, elements, tensor

F4 = struct.pack("<4f", 1, 2, 3, 4)
GOOD = tensor("input", "FP32", [1, 4], [1, 2, 3, 4])
TEXT = tensor("text", "BYTES", [1], ["good"])


@dataclass(frozen=True)
class Wrong:
    """A request, and what its error says."""

    name: str
    body: Any
    """Bytes as they are, anything else as JSON."""
    says: str
    model: str = "sensors"
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)


def one(datatype: str, shape: Any, data: Any, name: str = "input", **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data, **more}]}


def sized(
    size: Any, data: bytes, datatype: str = "FP32", shape: Any = (1, 4), name: str = "input"
) -> tuple[bytes, dict[str, str]]:
    """A binary request that says of its tensor what it likes."""
    document = {
        "inputs": [{"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}]
    }
    text = orjson.dumps(document)
    return text + data, {LENGTH: str(len(text))}


def lying(name: str, request: tuple[bytes, dict[str, str]], says: str, model: str = "sensors") -> Wrong:
    body, headers = request
    return Wrong(name, body, says, model, headers=headers)


OVERLAPPING = binary([("input", "FP32", [1, 4], F4)])[0]

# fmt: off

LIES = [
    lying("fewer bytes than announced", sized(16, F4[:12]), "inputs[0].parameters.binary_data_size: 16 bytes are announced; expected at most the 12 that are left behind the JSON"),
    lying("more bytes than announced", sized(16, F4 + b"x"), "body: 1 bytes follow that belong to no input; expected as many as binary_data_size of all inputs say"),
    lying("a size that is no multiple", sized(15, F4[:15]), "inputs[0].data: 15 bytes were sent for shape [1, 4] of FP32; expected 16 bytes"),
    lying("a negative size", sized(-16, F4), "inputs[0].parameters.binary_data_size: -16 bytes are announced; expected at most the 16 that are left behind the JSON"),
    lying("a size past all memory", sized(10**18, F4), "inputs[0].parameters.binary_data_size: 1000000000000000000 bytes are announced; expected at most the 16 that are left behind the JSON"),
    lying("a size that is a text", sized("16", F4), "inputs[0].parameters.binary_data_size: '16' bytes are announced; expected at most the 16 that are left behind the JSON"),
    lying("a size that is true", sized(True, F4), "inputs[0].parameters.binary_data_size: True bytes are announced; expected at most the 16 that are left behind the JSON"),
    lying("a size that is a fraction", sized(16.0, F4), "inputs[0].parameters.binary_data_size: 16.0 bytes are announced; expected at most the 16 that are left behind the JSON"),
    lying("a shape past all memory", sized(16, F4, shape=[10**18, 4]), "inputs[0].data: 16 bytes were sent for shape [1000000000000000000, 4] of FP32; expected 16000000000000000000 bytes"),
    lying("a shape whose size wraps around", sized(16, F4, shape=[2**62, 4, 1]), "inputs[0].data: 16 bytes were sent for shape [4611686018427387904, 4, 1] of FP32; expected 73786976294838206464 bytes"),
    lying("no bytes at all", sized(0, b""), "inputs[0].data: 0 bytes were sent for shape [1, 4] of FP32; expected 16 bytes"),
    lying("another type's bytes", sized(16, F4, "FP64"), "inputs[0].data: 16 bytes were sent for shape [1, 4] of FP64; expected 32 bytes"),
    lying("a half float's bytes", sized(16, F4, "BF16"), "inputs[0].data: 16 bytes were sent for shape [1, 4] of BF16; expected 8 bytes"),
    lying("a boolean that is 2", sized(4, b"\0\1\2\0", "BOOL"), "inputs[0].data: a byte is neither 0 nor 1; expected a byte of 0 or 1 for each BOOL"),
    lying("booleans for numbers", sized(4, b"\0\1\1\0", "BOOL"), "inputs[0].data[0]: elements are of type bool; expected 4 numbers (float32)"),
    lying("NaN", sized(16, struct.pack("<4f", 1, 2, float("nan"), 4)), "inputs[0].data[0][2]: the value is nan; expected a number from -100 to 100"),
    lying("a text whose length lies", sized(8, struct.pack("<I", 5) + b"good", "BYTES", [1], "text"), "inputs[0].data: element 0 says that it has 5 bytes, and 4 are left; expected a length that is no larger than what follows", "mood"),
    lying("a text whose length is past all memory", sized(8, b"\xff\xff\xff\xffgood", "BYTES", [1], "text"), "inputs[0].data: element 0 says that it has 4294967295 bytes, and 4 are left; expected a length that is no larger than what follows", "mood"),
    lying("more texts than announced", sized(16, elements(b"good", b"bad!"), "BYTES", [1], "text"), "inputs[0].data: 8 bytes are left over; expected 1 elements and nothing behind them", "mood"),
    lying("fewer texts than announced", sized(12, elements(b"goodgood"), "BYTES", [2], "text"), "inputs[0].data: element 1 is missing; expected 2 elements", "mood"),
    lying("texts past all memory", sized(8, elements(b"good"), "BYTES", [10**18], "text"), "inputs[0].data: 8 bytes were sent for shape [1000000000000000000] of BYTES; expected 1000000000000000000 elements, each behind 4 bytes with its length", "mood"),
    lying("a text that is no UTF-8", sized(5, elements(b"\xff"), "BYTES", [1], "text"), "inputs[0].data[0]: byte 0 is not UTF-8; expected text in UTF-8", "mood"),
    lying("no picture", sized(8, elements(b"good"), "BYTES", [1], "image"), "inputs[0].data[0]: the bytes are no image of a known format, expected one o", "clothes"),
    Wrong("a header that is larger than the body", OVERLAPPING, f"{LENGTH}: the body has {len(OVERLAPPING)} bytes, and 100000 of JSON are announced; expected at most {len(OVERLAPPING)}", headers={LENGTH: "100000"}),
    Wrong("a header that reaches into the tensor", OVERLAPPING, "body: this is no JSON: ", headers={LENGTH: str(len(OVERLAPPING) - 1)}),
    Wrong("a header that is too small", OVERLAPPING, "body: this is no JSON: ", headers={LENGTH: "10"}),
    Wrong("a negative header", OVERLAPPING, f"{LENGTH}: '-1' is no number of bytes; expected a whole number", headers={LENGTH: "-1"}),
    Wrong("a header that is no number", OVERLAPPING, f"{LENGTH}: 'many' is no number of bytes; expected a whole number", headers={LENGTH: "many"}),
    Wrong("a header with endless digits", OVERLAPPING, f"{LENGTH}: '99999999999999999999' is no number of bytes; expected a whole number", headers={LENGTH: "9" * 20}),
    Wrong("no header", OVERLAPPING, "body: this is no JSON: "),
    Wrong("a bare row of a wrong size", F4[:12], "body: 12 bytes were sent for shape [1, 4] of FP32; expected 16 bytes", headers={LENGTH: "0"}),
    Wrong("bare steps that don't come out even", F4, "body: 16 bytes were sent for shape [1, 1, 3] of FP32; expected 12 bytes", "motion", headers={LENGTH: "0"}),
    Wrong("a bare body that is no picture", F4, "body[0]: the bytes are no image of a known format, expected one o", "clothes", headers={LENGTH: "0"}),
]

FORMS = [
    Wrong("nothing", b"", "body: the body is empty; expected the rows to predict"),
    Wrong("no JSON", b"{", "body: this is no JSON: "),
    Wrong("an array", [], "body: this is no object; expected "),
    Wrong("no inputs", {"outputs": []}, "inputs: there are no inputs; expected an array of at least one tensor"),
    Wrong("inputs that are no array", {"inputs": {"name": "input"}}, "inputs: there are no inputs; expected an array of at least one tensor"),
    Wrong("an input that is a number", {"inputs": [5]}, 'inputs[0]: this is no tensor; expected an object with a "name"'),
    Wrong("an input without a name", {"inputs": [{"data": [1]}]}, 'inputs[0]: this is no tensor; expected an object with a "name"'),
    Wrong("an input twice", {"inputs": [GOOD, GOOD]}, "inputs[1].name: 'input' is named twice; expected it once"),
    Wrong("very many inputs", {"inputs": [{**GOOD, "name": str(i)} for i in range(65)]}, "inputs: there are 65; expected at most 64"),
    Wrong("an input that nobody knows", one("FP32", [1, 4], [1, 2, 3, 4], name="x"), "inputs[0].name: there is no input 'x'; expected input (FP32 [-1, 4])"),
    Wrong("both alternatives", {"inputs": [TEXT, tensor("input", "INT64", [1, 1], [2])]}, "inputs: there are two inputs; expected exactly one: input (INT64 [-1, -1]) or text (BYTES [-1, 1])", "mood"),
    Wrong("an output that nobody knows", {"inputs": [GOOD], "outputs": [{"name": "y"}]}, "outputs[0].name: there is no output 'y'; expected one of probabilities, logits"),
    Wrong("an output twice", {"inputs": [GOOD], "outputs": [{"name": "logits"}, {"name": "logits"}]}, "outputs[1].name: 'logits' is named twice; expected it once"),
    Wrong("an output that is no object", {"inputs": [GOOD], "outputs": ["logits"]}, 'outputs[0]: this is no tensor; expected an object with a "name"'),
    Wrong("outputs that are no array", {"inputs": [GOOD], "outputs": 7}, "outputs: there are no outputs; expected an array of at least one tensor"),
    Wrong("binary_data that is no boolean", {"inputs": [GOOD], "outputs": [{"name": "logits", "parameters": {"binary_data": 1}}]}, "outputs[0].parameters.binary_data: this is no boolean; expected true or false"),
    Wrong("binary_data_output that is no boolean", {"inputs": [GOOD], "parameters": {"binary_data_output": "yes"}}, "parameters.binary_data_output: this is no boolean; expected true or false"),
    Wrong("classes of texts", {"inputs": [TEXT], "outputs": [{"name": "label", "parameters": {"classification": 1}}]}, "outputs[0].parameters.classification: label holds no numbers; expected an output of numbers", "mood"),
    Wrong("a negative number of classes", {"inputs": [GOOD], "outputs": [{"name": "logits", "parameters": {"classification": -1}}]}, "outputs[0].parameters.classification: -1 is no such number; expected a whole number: how many classes to name"),
    Wrong("an id that is a number", {"id": 7, "inputs": [GOOD]}, "id: this is no id; expected a text of at most 256 characters"),
    Wrong("an endless id", {"id": "x" * 257, "inputs": [GOOD]}, "id: this is no id; expected a text of at most 256 characters"),
    Wrong("parameters that are no object", {"inputs": [GOOD], "parameters": []}, "parameters: this is no object; expected an object of parameters by name"),
    Wrong("a negative timeout", {"inputs": [GOOD], "parameters": {"timeout": -1}}, "parameters.timeout: -1 is no such number; expected a whole number: microseconds, 0 for none"),
    Wrong("a priority that is a text", {"inputs": [GOOD], "parameters": {"priority": "high"}}, "parameters.priority: 'high' is no such number; expected a whole number: 1 for the first"),
    Wrong("a sequence", {"inputs": [GOOD], "parameters": {"sequence_id": 7, "sequence_start": True}}, "sequences of requests (sequence_id): not supported; expected each request by itself", status=501),
    Wrong("shared memory in", {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 16}}]}, "shared memory (shared_memory_region): not supported; expected the tensor in the request's body", status=501),
    Wrong("shared memory out", {"inputs": [GOOD], "outputs": [{"name": "logits", "parameters": {"shared_memory_region": "r"}}]}, "shared memory (shared_memory_region): not supported", status=501),
]

TENSORS = [
    Wrong("no datatype", {"inputs": [{"name": "input", "shape": [1, 4], "data": [1, 2, 3, 4]}]}, "inputs[0].datatype: there is no datatype None; expected one of BOOL, UINT8"),
    Wrong("a datatype of another kind", one("float32", [1, 4], [1, 2, 3, 4]), "inputs[0].datatype: there is no datatype 'float32'; expected one of BOOL, UINT8"),
    Wrong("a datatype that is an array", one(["FP32"], [1, 4], [1, 2, 3, 4]), "inputs[0].datatype: there is no datatype ['FP32']; expected one of BOOL"),
    Wrong("no shape", {"inputs": [{"name": "input", "datatype": "FP32", "data": [1, 2, 3, 4]}]}, "inputs[0].shape: this is no shape; expected an array of 1 to 8 whole numbers"),
    Wrong("a shape of nothing", one("FP32", [], [1]), "inputs[0].shape: this is no shape; expected an array of 1 to 8 whole numbers"),
    Wrong("a shape of many sizes", one("FP32", [1] * 9, [1]), "inputs[0].shape: this is no shape; expected an array of 1 to 8 whole numbers"),
    Wrong("a size of -1", one("FP32", [-1, 4], [1, 2, 3, 4]), "inputs[0].shape[0]: -1 is no size; expected an array of 1 to 8 whole numbers"),
    Wrong("a size of 0", one("FP32", [0, 4], []), "inputs[0].shape[0]: 0 is no size; expected an array of 1 to 8 whole numbers"),
    Wrong("a size that is a fraction", one("FP32", [1.0, 4], [1, 2, 3, 4]), "inputs[0].shape[0]: 1.0 is no size; expected"),
    Wrong("a size that is true", one("FP32", [True, 4], [1, 2, 3, 4]), "inputs[0].shape[0]: True is no size; expected"),
    Wrong("neither data nor bytes", {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4]}]}, "inputs[0]: there is no data; expected data, or binary_data_size under parameters and bytes behind the JSON"),
    Wrong("both data and bytes", one("FP32", [1, 4], [1, 2, 3, 4], parameters={"binary_data_size": 16}), "inputs[0]: both data and bytes are there; expected data, or binary_data_size"),
    Wrong("bytes without a header", {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": 16}}]}, "inputs[0].parameters.binary_data_size: 16 bytes are announced; expected at most the 0 that are left behind the JSON"),
    Wrong("too few numbers", one("FP32", [1, 4], [1, 2, 3]), "inputs[0].data: there are 3 elements; expected 4 elements of FP32, flat or nested as shape [1, 4] says"),
    Wrong("numbers nested otherwise", one("FP32", [2, 2], [[1, 2, 3], [4]]), "inputs[0].data: it is not nested as the shape says; expected 4 elements of FP32"),
    Wrong("numbers nested too deep", one("FP32", [1, 4], [[[1, 2, 3, 4]]]), "inputs[0].data: it is not nested as the shape says; expected 4 elements of FP32"),
    Wrong("numbers nested in part", one("FP32", [2, 4], [[1, 2, 3, 4], 5, 6, 7, 8]), "inputs[0].data: it is not nested as the shape says; expected 8 elements of FP32"),
    Wrong("data that is a number", one("FP32", [1, 4], 7), "inputs[0].data: this is no array; expected 4 elements of FP32"),
    Wrong("a shape past all memory as JSON", one("FP32", [10**18, 4], [1, 2, 3, 4]), "inputs[0].data: there are 4 elements; expected 4000000000000000000 elements of FP32"),
    Wrong("a boolean among numbers", one("FP32", [1, 4], [1, 2, 3, True]), "inputs[0].data: an element is a boolean; expected 4 elements of FP32"),
    Wrong("a text among numbers", one("FP32", [1, 4], [1, 2, 3, "4" * 1000]), "inputs[0].data: an element is a text; expected 4 elements of FP32"),
    Wrong("null among numbers", one("FP32", [1, 4], [1, 2, 3, None]), "inputs[0].data: an element is null; expected 4 elements of FP32"),
    Wrong("a fraction among whole numbers", one("INT64", [1, 4], [1, 2, 3, 4.5], "input"), "inputs[0].data: an element is a fraction; expected 4 elements of INT64"),
    Wrong("a number that its type can't hold", one("UINT8", [1, 4], [1, 2, 3, 256]), "inputs[0].data: a number is out of UINT8's range; expected 4 elements of UINT8"),
    Wrong("a negative number of a type without", one("UINT64", [1, 4], [1, 2, 3, -1]), "inputs[0].data: a number is out of UINT64's range; expected 4 elements of UINT64"),
    Wrong("FP16 as JSON", one("FP16", [1, 4], [1, 2, 3, 4]), "inputs[0].data: FP16 does not travel as JSON; expected binary data, or another type than FP16"),
    Wrong("BF16 as JSON", one("BF16", [1, 4], [1, 2, 3, 4]), "inputs[0].data: BF16 does not travel as JSON; expected binary data, or another type than BF16"),
    Wrong("a number among texts", one("BYTES", [2], ["good", 7], "text"), "inputs[0].data: an element is no string; expected 2 strings, flat or nested as shape [2] says", "mood"),
    Wrong("texts for numbers", one("BYTES", [1, 4], ["a", "b", "c", "d"]), "inputs[0].data: elements are of type BYTES; expected numbers"),
    Wrong("numbers for texts", one("FP32", [1], [1], "text"), "inputs[0].data: elements are of type FP32; expected BYTES", "mood"),
]

ROWS = [
    Wrong("a row without its dimension of rows", one("FP32", [4], [1, 2, 3, 4]), "inputs[0].data: the shape is [4]; expected one dimension for the rows, and those of a row behind it"),
    Wrong("another shape", one("FP32", [1, 5], [1, 2, 3, 4, 5]), "inputs[0].data[0]: the shape is 5; expected 4 numbers (float32)"),
    Wrong("too many rows", one("FP32", [9, 4], [1] * 36), "inputs[0].data: there are 9 rows; expected at most 8"),
    Wrong("too many texts", one("BYTES", [9], ["good"] * 9, "text"), "inputs[0].data: there are 9 rows; expected at most 8", "mood"),
    Wrong("several texts a row", one("BYTES", [1, 2], ["good", "bad"], "text"), "inputs[0].data: the shape is [1, 2]; expected [rows] or [rows, 1]: one element for each row", "mood"),
    Wrong("an empty text", one("BYTES", [2], ["good", " "], "text"), "inputs[0].data[1]: the text is empty; expected a text of 1 to 200 characters", "mood"),
    Wrong("a long text", one("BYTES", [1], ["x" * 201], "text"), "inputs[0].data[0]: the text has 201 characters; expected a text of 1 to 200 characters", "mood"),
    Wrong("a number out of the model's range", one("FP32", [2, 4], [1, 2, 3, 4, 5, 6, 7, 101]), "inputs[0].data[1][3]: the value is 101.0; expected a number from -100 to 100"),
    Wrong("a number past float32", one("FP64", [1, 1, 28, 28], [1e39] + [0] * 783), "inputs[0].data[0][0][0][0]: the value is 1e+39; expected a number from -3.40282e+38 to 3.40282e+38", "clothes"),
    Wrong("an id that the network has no vector for", one("INT64", [1, 2], [2, 10]), "inputs[0].data[0][1]: the value is 10; expected a number from 0 to 9", "mood"),
    Wrong("a negative id", one("INT64", [1, 2], [2, -1]), "inputs[0].data[0][1]: the value is -1; expected a number from 0 to 9", "mood"),
    Wrong("ids that are fractions", one("FP32", [1, 2], [2, 3]), "inputs[0].data[0]: elements are not whole numbers; expected any numbers (int64)", "mood"),
    Wrong("more ids than the version takes", one("INT64", [1, 65], [2] * 65), "inputs[0].data[0]: the sequence has 65 steps; expected at most 64 steps", "mood"),
    Wrong("a column out of its range", one("FP64", [1, 2], [90, 21], "columns"), "inputs[0].data[0].rooms: the value is 21.0; expected a number from 1 to 20", "rent"),
    Wrong("a model that isn't there", {"inputs": [GOOD]}, "there is no model named 'nobody'; there is: ", "nobody", 404),
]

# fmt: on

WRONG = [*LIES, *FORMS, *TENSORS, *ROWS]
