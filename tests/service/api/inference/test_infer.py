"""Every form in which tensors may come by the Open Inference Protocol, and what comes back."""

from typing import Any
from uuid import UUID

import httpx
import numpy as np
import orjson
import pytest

from service.domain import Ref
from tests.checkpoints import CLOTHES as LABELS
from tests.service.api.inference.support import (
    DTYPES,
    LENGTH,
    bfloat16,
    binary,
    elements,
    error_of,
    infer,
    infer_path,
    outputs_of,
    tensor,
)
from tests.service.api.support import CountingEngine
from tests.service.api.wrong_input import picture
from tests.stores import OpenStore

ROWS = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float32)


async def test_numbers_as_json_reach_the_network_as_they_are(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    response = await infer(client, "sensors", [tensor("input", "FP32", [2, 4], ROWS.ravel().tolist())], id="mine")
    body = response.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("sensors", "1", "mine")
    assert response.headers["content-type"] == "application/json"
    assert LENGTH not in response.headers
    (call,) = engine.calls
    assert call.ref == Ref("sensors", 1)
    assert call.tensors.values.dtype == np.float32
    assert np.array_equal(call.tensors.values, ROWS)
    outputs = outputs_of(response)
    assert outputs["logits"].tolist() == [[0, 1, 2], [1, 2, 3]]
    assert np.allclose(outputs["probabilities"], 1 / (1 + np.exp(-outputs["logits"])))


async def test_nested_numbers_are_the_same(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    outputs_of(await infer(client, "sensors", [tensor("input", "FP32", [2, 4], ROWS.tolist())]))
    assert np.array_equal(engine.calls[0].tensors.values, ROWS)


@pytest.mark.parametrize("datatype", sorted(DTYPES.keys() - {"BOOL"}))
async def test_any_type_of_number_becomes_what_the_network_takes(
    client: httpx.AsyncClient, engine: CountingEngine, datatype: str
) -> None:
    body, headers = binary([("input", datatype, [2, 4], ROWS.astype(DTYPES[datatype]).tobytes())])
    outputs_of(await client.post(infer_path("sensors"), content=body, headers=headers))
    assert engine.calls[0].tensors.values.dtype == np.float32
    assert np.array_equal(engine.calls[0].tensors.values, ROWS)


async def test_bf16_is_the_upper_half_of_a_float(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    body, headers = binary([("input", "BF16", [2, 4], bfloat16(ROWS))])
    outputs_of(await client.post(infer_path("sensors"), content=body, headers=headers))
    assert np.array_equal(engine.calls[0].tensors.values, ROWS)


@pytest.mark.parametrize("padding", range(8))
async def test_bytes_may_begin_anywhere(client: httpx.AsyncClient, engine: CountingEngine, padding: int) -> None:
    body, headers = binary([("input", "FP32", [2, 4], ROWS.tobytes())], id="x" * padding)
    outputs_of(await client.post(infer_path("sensors"), content=body, headers=headers))
    assert np.array_equal(engine.calls[0].tensors.values, ROWS)


async def test_outputs_come_as_bytes_where_they_are_wanted_so(client: httpx.AsyncClient) -> None:
    inputs = [tensor("input", "FP32", [1, 1, 28, 28], [0.5] * 784)]
    wanted = [{"name": "logits", "parameters": {"binary_data": True}}, {"name": "label"}]
    response = await infer(client, "clothes", inputs, outputs=wanted)
    assert response.headers["content-type"] == "application/octet-stream"
    outputs = outputs_of(response)
    assert list(outputs) == ["logits", "label"]
    assert outputs["logits"].tolist() == [list(range(10))]
    assert outputs["label"] == [LABELS[9]]


@pytest.mark.parametrize("all_binary", [True, False])
async def test_what_an_output_says_counts_before_what_the_request_says(
    client: httpx.AsyncClient, *, all_binary: bool
) -> None:
    inputs = [tensor("input", "FP32", [1, 4], [1, 2, 3, 4])]
    wanted = [{"name": "logits", "parameters": {"binary_data": not all_binary}}, {"name": "probabilities"}]
    response = await infer(client, "sensors", inputs, outputs=wanted, parameters={"binary_data_output": all_binary})
    outputs_of(response)
    described = orjson.loads(response.content[: int(response.headers[LENGTH])])["outputs"]
    assert ["data" in one for one in described] == [all_binary, not all_binary]


async def test_all_outputs_may_be_wanted_as_bytes(client: httpx.AsyncClient) -> None:
    body, headers = binary(
        [("text", "BYTES", [2, 1], elements(b"a good film", b"bad"))], parameters={"binary_data_output": True}
    )
    outputs = outputs_of(await client.post(infer_path("mood"), content=body, headers=headers))
    assert list(outputs) == ["probabilities", "label", "logits"]
    assert outputs["label"] == ["positive", "positive"]
    assert np.allclose(outputs["probabilities"], [[0.5, 0.5], [1 - 0.7310586, 0.7310586]])
    assert outputs["logits"].tolist() == [[0], [1]]


@pytest.mark.parametrize("shape", [[2], [2, 1]])
async def test_a_text_is_prepared_here(client: httpx.AsyncClient, engine: CountingEngine, shape: list[int]) -> None:
    outputs_of(await infer(client, "mood", [tensor("text", "BYTES", shape, ["a good film", "bad"])]))
    (call,) = engine.calls
    assert call.tensors.values.tolist() == [2, 3, 5, 4]
    assert call.tensors.lengths is not None
    assert call.tensors.lengths.tolist() == [3, 1]


async def test_ids_are_taken_as_they_are(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    outputs_of(await infer(client, "mood", [tensor("input", "INT32", [2, 3], [[2, 3, 5], [9, 8, 7]])]))
    (call,) = engine.calls
    assert call.tensors.values.dtype == np.int64
    assert call.tensors.values.tolist() == [2, 3, 5, 9, 8, 7]
    assert call.tensors.lengths is not None
    assert call.tensors.lengths.tolist() == [3, 3]


async def test_steps_of_several_numbers_are_packed(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    steps = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    body, headers = binary([("input", "FP32", [2, 2, 3], steps.tobytes())])
    outputs = outputs_of(await client.post(infer_path("motion"), content=body, headers=headers))
    assert outputs["embedding"].shape == (2, 5)
    assert np.array_equal(engine.calls[0].tensors.values, steps.reshape(4, 3))


async def test_a_pictures_file_is_prepared_here(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    body, headers = binary([("image", "BYTES", [2, 1], elements(picture(), picture(40, 50, "RGB")))])
    outputs_of(await client.post(infer_path("clothes"), content=body, headers=headers))
    assert engine.calls[0].tensors.values.shape == (2, 1, 28, 28)


async def test_columns_may_be_sent_raw_or_prepared(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    outputs = outputs_of(await infer(client, "rent", [tensor("columns", "FP64", [2, 2], [90, 4, 50, 2])]))
    assert outputs["value"].dtype == np.float64
    assert outputs["value"].tolist() == [[500], [600]]
    outputs_of(await infer(client, "rent", [tensor("input", "FP32", [2, 2], [1, 1, -1, -1])]))
    assert np.array_equal(engine.calls[0].tensors.values, engine.calls[1].tensors.values)


async def test_a_body_with_nothing_around_it_is_one_row(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    for model, body in (("mood", b"a good film"), ("clothes", picture()), ("sensors", ROWS[0].tobytes())):
        response = await client.post(infer_path(model), content=body, headers={LENGTH: "0"})
        assert response.headers["content-type"] == "application/octet-stream"
        assert all(len(output) == 1 for output in outputs_of(response).values())
    assert engine.calls[0].tensors.values.tolist() == [2, 3, 5]
    assert np.array_equal(engine.calls[2].tensors.values, ROWS[:1])


async def test_steps_with_nothing_around_them_are_as_many_as_there_are(
    client: httpx.AsyncClient, engine: CountingEngine
) -> None:
    steps = np.arange(9, dtype=np.float32).reshape(3, 3)
    outputs_of(await client.post(infer_path("motion"), content=steps.tobytes(), headers={LENGTH: "0"}))
    assert np.array_equal(engine.calls[0].tensors.values, steps)


@pytest.mark.parametrize(("version", "ref"), [("2", 2), ("candidate", 2), ("champion", 1), (None, 1)])
async def test_versions_and_aliases_are_addressed_alike(
    client: httpx.AsyncClient, engine: CountingEngine, version: str | None, ref: int
) -> None:
    inputs = [tensor("image", "BYTES", [1], ["no picture"])]
    assert "image" in error_of(await infer(client, "clothes", inputs, version=version))
    inputs = [tensor("input", "FP32", [1, 1, 28, 28], [0.5] * 784)]
    response = await infer(client, "clothes", inputs, version=version)
    assert response.json()["model_version"] == str(ref)
    assert engine.calls[0].ref == Ref("clothes", ref)


async def test_classes_are_named_from_the_best_on(client: httpx.AsyncClient) -> None:
    inputs = [tensor("input", "FP32", [2, 1, 28, 28], [0.5] * 1568)]
    wanted = [{"name": "logits", "parameters": {"classification": 2, "binary_data": False}}]
    response = await infer(client, "clothes", inputs, outputs=wanted)
    (output,) = response.json()["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == [
        f"9.000000:9:{LABELS[9]}",
        f"8.000000:8:{LABELS[8]}",
        f"10.000000:9:{LABELS[9]}",
        f"9.000000:8:{LABELS[8]}",
    ]


async def test_no_more_classes_are_named_than_there_are(client: httpx.AsyncClient) -> None:
    inputs = [tensor("text", "BYTES", [1], ["good"])]
    wanted = [
        {"name": "probabilities", "parameters": {"classification": 9}},
        {"name": "logits", "parameters": {"classification": 9}},
    ]
    probabilities, logits = (await infer(client, "mood", inputs, outputs=wanted)).json()["outputs"]
    assert probabilities["data"] == ["0.500000:0:negative", "0.500000:1:positive"]
    assert logits["data"] == ["0.000000:0"]  # one number, which is neither label's


async def test_every_row_has_a_prediction_that_can_be_found(client: httpx.AsyncClient, store: OpenStore) -> None:
    response = await infer(client, "mood", [tensor("text", "BYTES", [2], ["good", "bad"])])
    ids = [UUID(text) for text in response.json()["parameters"]["prediction_ids"].split(",")]
    assert len(set(ids)) == 2
    records = [store.predictions.get(str(one)) for one in ids]
    assert [record.outputs["label"] for record in records if record is not None] == ["positive", "positive"]


@pytest.mark.parametrize(("said", "priority"), [({"priority": 1}, 1), ({"priority": 100}, 9), ({}, 0)])
async def test_priorities_are_passed_on(
    client: httpx.AsyncClient, engine: CountingEngine, said: dict[str, Any], priority: int
) -> None:
    outputs_of(await infer(client, "mood", [tensor("text", "BYTES", [1], ["good"])], parameters=said))
    assert engine.calls[0].priority == priority


async def test_a_timeout_is_in_microseconds(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    inputs = [tensor("text", "BYTES", [1], ["good"])]
    outputs_of(await infer(client, "mood", inputs, parameters={"timeout": 5_000_000}))
    outputs_of(await infer(client, "mood", inputs))
    with_timeout, without = (call.deadline.at for call in engine.calls)
    assert 4 < without - with_timeout < 6


async def test_a_row_that_fails_fails_its_request(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    engine.failures = {1: "the network failed on this row"}
    response = await infer(client, "mood", [tensor("text", "BYTES", [2], ["good", "bad"])])
    assert response.status_code == 500
    assert error_of(response) == "mood/1 could not compute this: row 1: the network failed on this row"


async def test_one_journey_answers_both_protocols_alike(client: httpx.AsyncClient) -> None:
    v1 = await client.post(
        "/v1/models/mood/predict", json={"instances": ["good"], "parameters": {"return_probabilities": True}}
    )
    outputs = outputs_of(await infer(client, "mood", [tensor("text", "BYTES", [1], ["good"])]))
    (prediction,) = v1.json()["predictions"]
    assert outputs["label"] == [prediction["label"]]
    assert outputs["probabilities"][0].tolist() == pytest.approx(list(prediction["probabilities"].values()))
