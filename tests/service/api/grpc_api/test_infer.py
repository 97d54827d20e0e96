"""Every form in which tensors may come over gRPC, and what comes back."""

from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest

from service.domain import Ref
from service.grpc_api import inference_pb2 as pb
from tests.checkpoints import CLOTHES as LABELS
from tests.service.api.grpc_api.support import Client, output, outputs_of, parameters, request, tensor
from tests.service.api.inference import support as http
from tests.service.api.inference.support import DTYPES, bfloat16, elements
from tests.service.api.support import CountingEngine
from tests.service.api.wrong_input import picture
from tests.stores import OpenStore

ROWS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)
TEXTS = tensor("text", "BYTES", [2, 1])
RAW_TEXTS = [elements(b"a good film", b"bad")]
PIXELS = tensor("input", "FP32", [1, 1, 28, 28])
RAW_PIXELS = [np.full(784, 0.5, np.float32).tobytes()]


async def test_the_answer_says_what_answered(stub: Client, engine: CountingEngine) -> None:
    answer = await stub.infer(request("sensors", [tensor("input", "FP32", [2, 4])], [ROWS.tobytes()], id="mine"))
    assert (answer.model_name, answer.model_version, answer.id) == ("sensors", "1", "mine")
    assert [(one.name, one.datatype, one.shape) for one in answer.outputs] == [
        ("probabilities", "FP32", [2, 3]),
        ("logits", "FP32", [2, 3]),
    ]
    outputs = outputs_of(answer)
    assert outputs["logits"].tolist() == [[0, 1, 2], [1, 2, 3]]
    assert np.allclose(outputs["probabilities"], 1 / (1 + np.exp(-outputs["logits"])))
    (call,) = engine.calls
    assert call.ref == Ref("sensors", 1)


@pytest.mark.parametrize("datatype", sorted(DTYPES.keys() - {"BOOL"}))
async def test_any_type_of_number_as_bytes_becomes_what_the_network_takes(
    stub: Client, engine: CountingEngine, datatype: str
) -> None:
    raw = ROWS.astype(DTYPES[datatype]).tobytes()
    await stub.infer(request("sensors", [tensor("input", datatype, [2, 4])], [raw]))
    assert engine.calls[0].tensors.values.dtype == np.float32
    assert np.array_equal(engine.calls[0].tensors.values, ROWS)


@pytest.mark.parametrize("datatype", sorted(DTYPES.keys() - {"BOOL", "FP16"}))
async def test_any_type_of_number_as_contents_becomes_what_the_network_takes(
    stub: Client, engine: CountingEngine, datatype: str
) -> None:
    values = ROWS.astype(DTYPES[datatype]).ravel().tolist()
    await stub.infer(request("sensors", [tensor("input", datatype, [2, 4], values)]))
    assert engine.calls[0].tensors.values.dtype == np.float32
    assert np.array_equal(engine.calls[0].tensors.values, ROWS)


@pytest.mark.parametrize(
    ("datatype", "value"), [("INT8", -128), ("INT16", -(2**15)), ("UINT8", 255), ("UINT16", 65535)]
)
async def test_contents_reach_to_the_ends_of_their_type(
    stub: Client, engine: CountingEngine, datatype: str, value: int
) -> None:
    pixels = tensor("input", datatype, [1, 1, 28, 28], [value] * 784)
    await stub.infer(request("clothes", [pixels]))
    assert set(engine.calls[0].tensors.values.ravel().tolist()) == {value}


async def test_bf16_is_the_upper_half_of_a_float(stub: Client, engine: CountingEngine) -> None:
    await stub.infer(request("sensors", [tensor("input", "BF16", [2, 4])], [bfloat16(ROWS)]))
    assert np.array_equal(engine.calls[0].tensors.values, ROWS)


@pytest.mark.parametrize("padding", range(8))
async def test_bytes_may_begin_anywhere(stub: Client, engine: CountingEngine, padding: int) -> None:
    message = request("sensors", [tensor("input", "FP32", [2, 4])], [ROWS.tobytes()], id="x" * padding)
    await stub.infer(message)
    assert np.array_equal(engine.calls[0].tensors.values, ROWS)


@pytest.mark.parametrize("shape", [[2], [2, 1]])
@pytest.mark.parametrize("form", ["raw", "contents"])
async def test_a_text_is_prepared_here(stub: Client, engine: CountingEngine, shape: list[int], form: str) -> None:
    if form == "raw":
        message = request("mood", [tensor("text", "BYTES", shape)], RAW_TEXTS)
    else:
        message = request("mood", [tensor("text", "BYTES", shape, [b"a good film", b"bad"])])
    outputs = outputs_of(await stub.infer(message))
    (call,) = engine.calls
    assert call.tensors.values.tolist() == [2, 3, 5, 4]
    assert outputs["label"] == ["positive", "positive"]
    assert outputs["logits"].tolist() == [[0], [1]]


async def test_a_pictures_file_is_prepared_here(stub: Client, engine: CountingEngine) -> None:
    raw = [elements(picture(), picture(40, 50, "RGB"))]
    await stub.infer(request("clothes", [tensor("image", "BYTES", [2, 1])], raw))
    assert engine.calls[0].tensors.values.shape == (2, 1, 28, 28)


async def test_columns_may_be_sent_raw_or_prepared(stub: Client, engine: CountingEngine) -> None:
    columns = tensor("columns", "FP64", [2, 2], [90, 4, 50, 2])
    assert outputs_of(await stub.infer(request("rent", [columns])))["value"].tolist() == [[500], [600]]
    await stub.infer(request("rent", [tensor("input", "FP32", [2, 2], [1, 1, -1, -1])]))
    assert np.array_equal(engine.calls[0].tensors.values, engine.calls[1].tensors.values)


@pytest.mark.parametrize("form", ["raw", "contents"])
async def test_many_numbers_are_read_too(stub: Client, engine: CountingEngine, form: str) -> None:
    pixels = np.linspace(0, 1, 8 * 784, dtype=np.float64).reshape(8, 1, 28, 28)
    assert pixels.nbytes * 2 > 65_536, "small enough to be read on the event loop"
    if form == "raw":
        message = request("clothes", [tensor("input", "FP64", pixels.shape)], [pixels.tobytes()])
    else:
        message = request("clothes", [tensor("input", "FP64", pixels.shape, pixels.ravel().tolist())])
    await stub.infer(message)
    assert np.array_equal(engine.calls[0].tensors.values, pixels.astype(np.float32))


async def test_outputs_come_in_the_order_in_which_they_are_wanted(stub: Client) -> None:
    answer = await stub.infer(request("clothes", [PIXELS], RAW_PIXELS, outputs=[output("logits"), output("label")]))
    outputs = outputs_of(answer)
    assert list(outputs) == ["logits", "label"]
    assert outputs["logits"].tolist() == [list(range(10))]
    assert outputs["label"] == [LABELS[9]]


@pytest.mark.parametrize("is_binary", [True, False])
async def test_what_is_said_of_binary_data_changes_nothing(stub: Client, *, is_binary: bool) -> None:
    said = parameters({"binary_data_output": is_binary})
    wanted = [output("logits", binary_data=is_binary)]
    answer = await stub.infer(request("clothes", [PIXELS], RAW_PIXELS, outputs=wanted, parameters=said))
    assert outputs_of(answer)["logits"].tolist() == [list(range(10))]


async def test_classes_are_named_from_the_best_on(stub: Client) -> None:
    answer = await stub.infer(request("clothes", [PIXELS], RAW_PIXELS, outputs=[output("logits", classification=2)]))
    assert [(one.name, one.datatype, one.shape) for one in answer.outputs] == [("logits", "BYTES", [1, 2])]
    assert outputs_of(answer)["logits"] == [f"9.000000:9:{LABELS[9]}", f"8.000000:8:{LABELS[8]}"]


@pytest.mark.parametrize(("version", "ref"), [("2", 2), ("candidate", 2), ("champion", 1), ("", 1)])
async def test_versions_and_aliases_are_addressed_alike(
    stub: Client, engine: CountingEngine, version: str, ref: int
) -> None:
    answer = await stub.infer(request("clothes", [PIXELS], RAW_PIXELS, model_version=version))
    assert answer.model_version == str(ref)
    assert engine.calls[0].ref == Ref("clothes", ref)


async def test_every_row_has_a_prediction_that_can_be_found(stub: Client, store: OpenStore) -> None:
    answer = await stub.infer(request("mood", [TEXTS], RAW_TEXTS))
    ids = [UUID(text) for text in answer.parameters["prediction_ids"].string_param.split(",")]
    records = [store.predictions.get(str(one)) for one in ids]
    assert [record.outputs["label"] for record in records if record is not None] == ["positive", "positive"]


@pytest.mark.parametrize(("said", "priority"), [({"priority": 1}, 1), ({"priority": 100}, 9), ({}, 0)])
async def test_priorities_are_passed_on(
    stub: Client, engine: CountingEngine, said: dict[str, Any], priority: int
) -> None:
    await stub.infer(request("mood", [TEXTS], RAW_TEXTS, parameters=parameters(said)))
    assert engine.calls[0].priority == priority


async def test_a_parameter_may_be_of_any_type_that_holds_it(stub: Client, engine: CountingEngine) -> None:
    for said in (
        pb.InferParameter(uint64_param=3),
        pb.InferParameter(int64_param=3),
        pb.InferParameter(double_param=3),
    ):
        await stub.infer(request("mood", [TEXTS], RAW_TEXTS, parameters={"priority": said}))
    assert [call.priority for call in engine.calls] == [3, 3, 3]


@pytest.mark.parametrize(
    ("microseconds", "seconds", "earlier"),
    [(5_000_000, None, 5), (None, 5, 5), (5_000_000, 60, 5), (60_000_000, 5, 5), (None, None, 0)],
)
async def test_the_smaller_of_the_calls_time_and_the_parameter_counts(
    stub: Client, engine: CountingEngine, microseconds: int | None, seconds: float | None, earlier: float
) -> None:
    said = {} if microseconds is None else {"timeout": microseconds}
    await stub.infer(request("mood", [TEXTS], RAW_TEXTS))
    await stub.infer(request("mood", [TEXTS], RAW_TEXTS, parameters=parameters(said)), timeout=seconds)
    without, with_time = (call.deadline.at for call in engine.calls)
    assert earlier - 1 < without - with_time < earlier + 1


async def test_one_journey_answers_both_transports_alike(stub: Client, client: httpx.AsyncClient) -> None:
    over_http = http.outputs_of(
        await http.infer(client, "mood", [http.tensor("text", "BYTES", [2, 1], ["a good film", "bad"])])
    )
    over_grpc = outputs_of(await stub.infer(request("mood", [TEXTS], RAW_TEXTS)))
    assert list(over_grpc) == list(over_http)
    assert over_grpc["label"] == over_http["label"]
    assert over_grpc["probabilities"] == pytest.approx(over_http["probabilities"])
