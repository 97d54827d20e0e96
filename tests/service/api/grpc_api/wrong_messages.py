"""Everything that may be wrong with an inference request over gRPC, one case a line."""

# A table reads best with one case a line.
# ruff: noqa: E501

import struct
from dataclasses import dataclass

import grpc

from service.grpc_api import inference_pb2 as pb
from tests.service.api.grpc_api.support import output, parameters, request, tensor
from tests.service.api.inference.support import elements

BAD, UNSUPPORTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED
F4 = struct.pack("<4f", 1, 2, 3, 4)
RAW = tensor("input", "FP32", [1, 4])
GOOD = tensor("input", "FP32", [1, 4], [1, 2, 3, 4])
TEXT = tensor("text", "BYTES", [1], [b"good"])
BOTH = pb.InferTensorContents(fp32_contents=[1, 2, 3, 4], fp64_contents=[1, 2, 3, 4])


@dataclass(frozen=True)
class Wrong:
    """A request, and what its error says."""

    name: str
    message: pb.ModelInferRequest
    says: str
    code: grpc.StatusCode = BAD


def raw(
    data: bytes, datatype: str = "FP32", shape: tuple[int, ...] = (1, 4), name: str = "input", model: str = "sensors"
) -> pb.ModelInferRequest:
    """A request with one tensor as bytes, which says of it what it likes."""
    return request(model, [tensor(name, datatype, shape)], [data])


def one(
    datatype: str, shape: tuple[int, ...], values: list[object], name: str = "input", model: str = "sensors"
) -> pb.ModelInferRequest:
    """A request with one tensor as contents."""
    return request(model, [tensor(name, datatype, shape, values)])


def with_contents(datatype: str, contents: pb.InferTensorContents) -> pb.ModelInferRequest:
    return request(
        "sensors",
        [pb.ModelInferRequest.InferInputTensor(name="input", datatype=datatype, shape=[1, 4], contents=contents)],
    )


# fmt: off

LIES = [
    Wrong("fewer bytes than the shape", raw(F4[:12]), "raw_input_contents[0]: 12 bytes were sent for shape [1, 4] of FP32; expected 16 bytes"),
    Wrong("more bytes than the shape", raw(F4 + F4), "raw_input_contents[0]: 32 bytes were sent for shape [1, 4] of FP32; expected 16 bytes"),
    Wrong("bytes of nothing", raw(b""), "raw_input_contents[0]: 0 bytes were sent for shape [1, 4] of FP32; expected 16 bytes"),
    Wrong("bytes of another type", raw(F4, "FP64"), "raw_input_contents[0]: 16 bytes were sent for shape [1, 4] of FP64; expected 32 bytes"),
    Wrong("a shape past all memory", raw(F4, shape=(10**18, 4)), "raw_input_contents[0]: 16 bytes were sent for shape [1000000000000000000, 4] of FP32; expected 16000000000000000000 bytes"),
    Wrong("a shape past all numbers", raw(F4, shape=(2**62,) * 8), "raw_input_contents[0]: 16 bytes were sent for shape ["),
    Wrong("contents of a shape past all memory", one("FP32", (10**18, 4), [1, 2, 3, 4]), "inputs[0].contents: there are 4 elements; expected 4000000000000000000 elements of FP32"),
    Wrong("texts past all memory", raw(elements(b"good"), "BYTES", (10**18,), "text", "mood"), "raw_input_contents[0]: 8 bytes were sent for shape [1000000000000000000] of BYTES; expected 1000000000000000000 elements, each behind 4 bytes with its length"),
    Wrong("contents of texts past all memory", one("BYTES", (10**18,), [b"good"], "text", "mood"), "inputs[0].contents: there are 1 elements; expected 1000000000000000000 elements of BYTES"),
    Wrong("a text whose length lies", raw(struct.pack("<I", 5) + b"good", "BYTES", (1,), "text", "mood"), "raw_input_contents[0]: element 0 says that it has 5 bytes, and 4 are left; expected a length that is no larger than what follows"),
    Wrong("a text whose length is past all memory", raw(b"\xff\xff\xff\xffgood", "BYTES", (1,), "text", "mood"), "raw_input_contents[0]: element 0 says that it has 4294967295 bytes, and 4 are left"),
    Wrong("more texts than the shape", raw(elements(b"good", b"bad!"), "BYTES", (1,), "text", "mood"), "raw_input_contents[0]: 8 bytes are left over; expected 1 elements and nothing behind them"),
    Wrong("fewer texts than the shape", raw(elements(b"goodgood"), "BYTES", (2,), "text", "mood"), "raw_input_contents[0]: element 1 is missing; expected 2 elements"),
]

FORMS = [
    Wrong("nothing", pb.ModelInferRequest(model_name="sensors"), "inputs: there are no inputs; expected at least one tensor"),
    Wrong("no data", request("sensors", [RAW]), "inputs[0]: there is no data; expected contents, or raw_input_contents of the request"),
    Wrong("both contents and bytes", request("sensors", [GOOD], [F4]), "inputs[0]: both contents and raw_input_contents are there; expected contents, or raw_input_contents of the request"),
    Wrong("bytes of more inputs than there are", request("sensors", [RAW], [F4, F4]), "raw_input_contents: there are 2; expected one for each of the 1 inputs, or none"),
    Wrong("bytes of fewer inputs than there are", request("mood", [TEXT, tensor("input", "INT64", [1, 1])], [F4]), "raw_input_contents: there are 1; expected one for each of the 2 inputs, or none"),
    Wrong("an input twice", request("sensors", [GOOD, GOOD]), "inputs[1].name: 'input' is named twice; expected it once"),
    Wrong("very many inputs", request("sensors", [tensor(str(i), "FP32", [1, 4], [1, 2, 3, 4]) for i in range(65)]), "inputs: there are 65; expected at most 64"),
    Wrong("an input without a name", one("FP32", (1, 4), [1, 2, 3, 4], name=""), "inputs[0].name: there is no input ''; expected input (FP32 [-1, 4])"),
    Wrong("an input that nobody knows", one("FP32", (1, 4), [1, 2, 3, 4], name="x"), "inputs[0].name: there is no input 'x'; expected input (FP32 [-1, 4])"),
    Wrong("both alternatives", request("mood", [TEXT, tensor("input", "INT64", [1, 1], [2])]), "inputs: there are two inputs; expected exactly one: input (INT64 [-1, -1]) or text (BYTES [-1, 1])"),
    Wrong("an output that nobody knows", request("sensors", [GOOD], outputs=[output("y")]), "outputs[0].name: there is no output 'y'; expected one of probabilities, logits"),
    Wrong("an output twice", request("sensors", [GOOD], outputs=[output("logits")] * 2), "outputs[1].name: 'logits' is named twice; expected it once"),
    Wrong("classes of texts", request("mood", [TEXT], outputs=[output("label", classification=1)]), "outputs[0].parameters.classification: label holds no numbers; expected an output of numbers"),
    Wrong("a negative number of classes", request("sensors", [GOOD], outputs=[output("logits", classification=-1)]), "outputs[0].parameters.classification: -1 is no such number; expected a whole number: how many classes to name"),
    Wrong("an endless id", request("sensors", [GOOD], id="x" * 257), "id: this is no id; expected a text of at most 256 characters"),
    Wrong("a negative timeout", request("sensors", [GOOD], parameters=parameters({"timeout": -1})), "parameters.timeout: -1 is no such number; expected a whole number: microseconds, 0 for none"),
    Wrong("a priority that is a text", request("sensors", [GOOD], parameters=parameters({"priority": "high"})), "parameters.priority: 'high' is no such number; expected a whole number: 1 for the first"),
    Wrong("a priority that is a boolean", request("sensors", [GOOD], parameters=parameters({"priority": True})), "parameters.priority: True is no such number"),
    Wrong("a parameter without a value", request("sensors", [GOOD], parameters={"priority": pb.InferParameter()}), "parameters.priority: None is no such number"),
    Wrong("a sequence", request("sensors", [GOOD], parameters=parameters({"sequence_id": 7})), "sequences of requests (sequence_id): not supported; expected each request by itself", UNSUPPORTED),
    Wrong("shared memory in", request("sensors", [tensor("input", "FP32", [1, 4], parameters=parameters({"shared_memory_region": "r"}))]), "shared memory (shared_memory_region): not supported; expected the tensor in the request's body", UNSUPPORTED),
    Wrong("shared memory out", request("sensors", [GOOD], outputs=[output("logits", shared_memory_region="r")]), "shared memory (shared_memory_region): not supported", UNSUPPORTED),
]

TENSORS = [
    Wrong("no datatype", raw(F4, ""), "inputs[0].datatype: there is no datatype ''; expected one of BOOL, UINT8"),
    Wrong("a datatype of another kind", raw(F4, "TYPE_FP32"), "inputs[0].datatype: there is no datatype 'TYPE_FP32'; expected one of BOOL, UINT8"),
    Wrong("no shape", raw(F4, shape=()), "inputs[0].shape: this is no shape; expected an array of 1 to 8 whole numbers"),
    Wrong("a shape of many sizes", raw(F4, shape=(1,) * 9), "inputs[0].shape: this is no shape; expected an array of 1 to 8 whole numbers"),
    Wrong("a size of -1", raw(F4, shape=(-1, 4)), "inputs[0].shape[0]: -1 is no size; expected an array of 1 to 8 whole numbers"),
    Wrong("a size of 0", raw(b"", shape=(0, 4)), "inputs[0].shape[0]: 0 is no size; expected an array of 1 to 8 whole numbers"),
    Wrong("too few numbers", one("FP32", (1, 4), [1, 2, 3]), "inputs[0].contents: there are 3 elements; expected 4 elements of FP32"),
    Wrong("contents of another type", with_contents("FP32", pb.InferTensorContents(fp64_contents=[1, 2, 3, 4])), "inputs[0].contents: fp64_contents is filled; expected fp32_contents for FP32"),
    Wrong("contents of two types", with_contents("FP32", BOTH), "inputs[0].contents: fp64_contents is filled; expected fp32_contents for FP32"),
    Wrong("FP16 as contents", with_contents("FP16", pb.InferTensorContents(fp32_contents=[1, 2, 3, 4])), "inputs[0].contents: FP16 does not travel as contents; expected raw_input_contents, or another type than FP16"),
    Wrong("BF16 as contents", with_contents("BF16", pb.InferTensorContents(fp32_contents=[1, 2, 3, 4])), "inputs[0].contents: BF16 does not travel as contents; expected raw_input_contents, or another type than BF16"),
    Wrong("a number that its type can't hold", one("UINT8", (1, 4), [1, 2, 3, 256]), "inputs[0].contents: a number is out of UINT8's range; expected 4 elements of UINT8"),
    Wrong("a number below its type", one("INT8", (1, 4), [1, 2, 3, -129]), "inputs[0].contents: a number is out of INT8's range; expected 4 elements of INT8"),
    Wrong("a boolean that is 2", raw(b"\0\1\2\0", "BOOL"), "raw_input_contents[0]: a byte is neither 0 nor 1; expected a byte of 0 or 1 for each BOOL"),
    Wrong("booleans for numbers", one("BOOL", (1, 4), [True, False, True, True]), "inputs[0].contents[0]: elements are of type bool; expected 4 numbers (float32)"),
    Wrong("texts for numbers", one("BYTES", (1, 4), [b"a", b"b", b"c", b"d"]), "inputs[0].contents: elements are of type BYTES; expected numbers"),
    Wrong("numbers for texts", one("FP32", (1,), [1], "text", "mood"), "inputs[0].contents: elements are of type FP32; expected BYTES"),
    Wrong("NaN", raw(struct.pack("<4f", 1, 2, float("nan"), 4)), "raw_input_contents[0][0][2]: the value is nan; expected a number from -100 to 100"),
    Wrong("infinity as contents", one("FP32", (1, 4), [1, 2, 3, float("inf")]), "inputs[0].contents[0][3]: the value is inf; expected a number from -100 to 100"),
    Wrong("a text that is no UTF-8", one("BYTES", (1,), [b"\xff"], "text", "mood"), "inputs[0].contents[0]: byte 0 is not UTF-8; expected text in UTF-8"),
    Wrong("no picture", one("BYTES", (1,), [b"good"], "image", "clothes"), "inputs[0].contents[0]: the bytes are no image of a known format, expected one o"),
    Wrong("too many rows", one("FP32", (9, 4), [1] * 36), "inputs[0].contents: there are 9 rows; expected at most 8"),
    Wrong("another shape", one("FP32", (1, 5), [1, 2, 3, 4, 5]), "inputs[0].contents[0]: the shape is 5; expected 4 numbers (float32)"),
    Wrong("an id that the network has no vector for", one("INT64", (1, 2), [2, 10], model="mood"), "inputs[0].contents[0][1]: the value is 10; expected a number from 0 to 9"),
    Wrong("a model that isn't there", request("nobody", [GOOD]), "there is no model named 'nobody'; there is: ", grpc.StatusCode.NOT_FOUND),
    Wrong("no model", request("", [GOOD]), "there is no model named ''; there is: ", grpc.StatusCode.NOT_FOUND),
    Wrong("a version that isn't there", request("clothes", [GOOD], model_version="7"), "there is no version of clothes named '7'", grpc.StatusCode.NOT_FOUND),
    Wrong("an alias that isn't there", request("clothes", [GOOD], model_version="nobody"), "there is no alias of clothes named 'nobody'", grpc.StatusCode.NOT_FOUND),
]

# fmt: on

WRONG = [*LIES, *FORMS, *TENSORS]
