"""Every form in which rows may come, and what comes back."""

import base64
import io
import math
import time
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
from PIL import Image

from service.domain import Ref
from tests.checkpoints import CLOTHES as LABELS
from tests.service.api.support import CountingEngine, answer, checked
from tests.service.api.wrong_input import CLOTHES, CODES, MOOD, MOTION, RENT, SENSORS, THUMBNAILS, npy

PIXELS = np.arange(784).reshape(28, 28) % 256


def file_of(pixels: Any, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, form)
    return file.getvalue()


PNG = file_of(PIXELS, "PNG")


@pytest.mark.parametrize(
    "instance",
    [
        PIXELS.tolist(),
        [PIXELS.tolist()],
        {"values": PIXELS.tolist()},
        {"values": [PIXELS.tolist()]},
        {"image": base64.b64encode(PNG).decode()},
    ],
    ids=["28 x 28", "1 x 28 x 28", "values, 28 x 28", "values, 1 x 28 x 28", "a PNG in base64"],
)
async def test_every_form_of_a_picture_is_the_same_picture(
    client: httpx.AsyncClient, engine: CountingEngine, instance: Any
) -> None:
    body = await answer(client, CLOTHES, [instance])
    assert (body["model"], body["version"]) == ("clothes", "1")
    (call,) = engine.calls
    assert call.ref == Ref("clothes", 1)
    assert call.tensors.values.dtype == np.float32
    assert np.array_equal(call.tensors.values, (PIXELS[None, None] * np.float32(1 / 255)).astype(np.float32))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
async def test_a_raw_image_is_one_row(client: httpx.AsyncClient, engine: CountingEngine, form: str) -> None:
    grey = np.full((28, 28), 100)
    response = await client.post(
        CLOTHES, content=file_of(grey, form), headers={"Content-Type": f"image/{form.lower()}"}
    )
    checked(response, 1)
    assert np.allclose(engine.calls[0].tensors.values, 100 / 255, atol=2 / 255)


async def test_an_image_of_another_size_and_mode_is_brought_to_the_contracts(
    client: httpx.AsyncClient, engine: CountingEngine
) -> None:
    file = file_of(np.full((300, 200, 4), (10, 20, 30, 255)), "PNG")
    checked(await client.post(THUMBNAILS, content=file, headers={"Content-Type": "image/png"}), 1)
    assert engine.calls[0].tensors.values.shape == (1, 3, 4, 6)
    assert engine.calls[0].tensors.values[0, :, 0, 0].tolist() == [10, 20, 30]


async def test_pictures_as_numbers_and_as_files_share_a_request(
    client: httpx.AsyncClient, engine: CountingEngine
) -> None:
    await answer(client, CLOTHES, [PIXELS.tolist(), {"image": base64.b64encode(PNG).decode()}])
    first, second = engine.calls[0].tensors.values
    assert np.array_equal(first, second)


@pytest.mark.parametrize("instance", ["it was good", {"text": "it was good"}])
async def test_a_text_is_a_string_or_under_its_key(
    client: httpx.AsyncClient, engine: CountingEngine, instance: Any
) -> None:
    await answer(client, MOOD, [instance, "bad"])
    assert engine.calls[0].tensors.values.tolist() == [6, 7, 3, 4]
    assert engine.calls[0].tensors.lengths is not None
    assert engine.calls[0].tensors.lengths.tolist() == [3, 1]


@pytest.mark.parametrize(
    "content_type", ["text/plain", "text/plain; charset=utf-8", 'Text/Plain; Charset="UTF-8"; format=flowed']
)
async def test_a_raw_text_is_one_row(client: httpx.AsyncClient, engine: CountingEngine, content_type: str) -> None:
    content = "naïve, but good".encode()
    checked(await client.post(MOOD, content=content, headers={"Content-Type": content_type}), 1)
    assert engine.calls[0].tensors.values.tolist() == [1, 1, 3]


@pytest.mark.parametrize("instance", [{"columns": {"rooms": 4, "area": 90.0}}, [90, 4], {"values": [90, 4]}])
async def test_columns_come_by_name_in_any_order_or_as_values_in_theirs(
    client: httpx.AsyncClient, engine: CountingEngine, instance: Any
) -> None:
    body = await answer(client, RENT, [instance])
    assert engine.calls[0].tensors.values.tolist() == [[1, 1]]
    assert body["predictions"] == [{"value": 500.0}]


async def test_sequences_may_differ_in_length(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    await answer(client, MOTION, [[[1, 2, 3], [4, 5, 6]], {"values": [[7, 8, 9]]}])
    assert engine.calls[0].tensors.values.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert engine.calls[0].tensors.lengths is not None
    assert engine.calls[0].tensors.lengths.tolist() == [2, 1]


async def test_ids_stay_whole_numbers(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    await answer(client, CODES, [[9, 0, 3]])
    assert engine.calls[0].tensors.values.dtype == np.int64
    assert engine.calls[0].tensors.values.tolist() == [9, 0, 3]


@pytest.mark.parametrize(
    ("path", "array", "num_rows"),
    [
        (CLOTHES, PIXELS.astype(np.uint8), 1),
        (CLOTHES, PIXELS[None].astype(">f8"), 1),
        (CLOTHES, np.stack([PIXELS[None]] * 3).astype(np.float16), 3),
        (CLOTHES, np.asfortranarray(np.stack([PIXELS[None]] * 2)), 2),
        (SENSORS, np.zeros(4, np.int8), 1),
        (SENSORS, np.zeros((5, 4)), 5),
        (MOTION, np.zeros((16, 3)), 1),
        (MOTION, np.zeros((2, 7, 3)), 2),
        (CODES, np.zeros(8, np.uint64), 1),
        (RENT, np.ones((4, 2)), 4),
    ],
)
async def test_an_array_is_one_row_or_with_an_axis_more_a_batch(
    client: httpx.AsyncClient, engine: CountingEngine, path: str, array: Any, num_rows: int
) -> None:
    response = await client.post(path, content=npy(array), headers={"Content-Type": "application/x-npy"})
    checked(response, num_rows)
    sent = engine.calls[0].tensors.rows()
    assert len(sent) == num_rows
    if path == CLOTHES:
        assert all(np.allclose(row, PIXELS / 255, atol=1e-6) for row in sent)


async def test_the_label_is_named_with_its_own_probability(client: httpx.AsyncClient) -> None:
    body = await answer(client, CLOTHES, [PIXELS.tolist()] * 2)
    best = 1 / sum(math.exp(-i) for i in range(10))
    for prediction in body["predictions"]:
        assert prediction == {"label": "Ankle boot", "index": 9, "probability": pytest.approx(best)}


async def test_the_best_labels_and_all_probabilities_come_when_asked_for(client: httpx.AsyncClient) -> None:
    body = await answer(client, CLOTHES, [PIXELS.tolist()], top_k=3, return_probabilities=True)
    (prediction,) = body["predictions"]
    assert [(best["label"], best["index"]) for best in prediction["top"]] == [
        ("Ankle boot", 9),
        ("Bag", 8),
        ("Sneaker", 7),
    ]
    assert prediction["top"][0]["probability"] == prediction["probability"]
    assert list(prediction["probabilities"]) == list(LABELS)
    assert sum(prediction["probabilities"].values()) == pytest.approx(1)
    assert prediction["probabilities"]["Bag"] == prediction["top"][1]["probability"]


async def test_more_labels_than_there_are_is_all_of_them(client: httpx.AsyncClient) -> None:
    body = await answer(client, CLOTHES, [PIXELS.tolist()], top_k=1000)
    assert len(body["predictions"][0]["top"]) == 10


async def test_a_binary_answer_has_the_probability_of_the_label_it_names(client: httpx.AsyncClient) -> None:
    body = await answer(client, MOOD, ["good", "bad"], return_probabilities=True)
    undecided, positive = body["predictions"]
    assert undecided["label"] == "positive"  # from the threshold on
    assert undecided["probability"] == 0.5
    assert positive["probabilities"] == {
        "negative": pytest.approx(1 / (1 + math.e)),
        "positive": pytest.approx(positive["probability"]),
    }


async def test_several_labels_come_each_with_its_probability(client: httpx.AsyncClient) -> None:
    body = await answer(client, SENSORS, [[1, 2, 3, 4]], top_k=1)
    (prediction,) = body["predictions"]
    assert [one["label"] for one in prediction["labels"]] == ["hot", "wet", "loud"]
    assert prediction["labels"][0]["probability"] == 0.5
    assert [one["label"] for one in prediction["top"]] == ["loud"]


async def test_a_vector_comes_as_it_is(client: httpx.AsyncClient) -> None:
    body = await answer(client, MOTION, [[[1, 2, 3]]])
    assert body["predictions"] == [{"embedding": [0, 1, 2, 3, 4]}]


async def test_a_raw_body_has_its_parameters_in_the_query(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    query = {
        "top_k": "2",
        "return_probabilities": "true",
        "timeout_ms": "90000",
        "key": "user-7",
        "tags.country": "DE",
        "external_id": "order-1",
    }
    asked = time.monotonic()
    response = await client.post(MOOD, params=query, content=b"good", headers={"Content-Type": "text/plain"})
    (prediction,) = checked(response, 1)["predictions"]
    assert len(prediction["top"]) == 2
    assert prediction["probabilities"].keys() == {"negative", "positive"}
    assert asked < engine.calls[0].deadline.at - 90 < time.monotonic()


async def test_all_parameters_are_taken(client: httpx.AsyncClient) -> None:
    parameters = {
        "top_k": None,
        "timeout_ms": 1000,
        "key": "user-7",
        "tags": {"country": "DE"},
        "external_ids": ["order-1", "order-2"],
    }
    await answer(client, MOOD, ["good", "bad"], **parameters)


@pytest.mark.parametrize(
    ("timeout_ms", "header", "seconds"),
    [(None, None, 10), (None, "15500", 15.5), (7250, "15500", 7.25), (1e9, None, 120), (1e300, None, 120)],
)
async def test_the_callers_time_counts_from_arrival_the_bodys_word_first_and_never_past_the_most(
    client: httpx.AsyncClient, engine: CountingEngine, timeout_ms: float | None, header: str | None, seconds: float
) -> None:
    headers = {} if header is None else {"X-Request-Timeout-Ms": header}
    body = {"instances": ["good"], "parameters": {"timeout_ms": timeout_ms}}
    before = time.monotonic()
    checked(await client.post(MOOD, json=body, headers=headers), 1)
    assert before <= engine.calls[0].deadline.at - seconds + 1e-6
    assert engine.calls[0].deadline.at - seconds <= time.monotonic() + 1e-6


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/v1/models/clothes/predict", "1"),
        ("/v1/models/clothes/versions/1/predict", "1"),
        ("/v1/models/clothes/versions/2/predict", "2"),
        ("/v1/models/clothes/aliases/champion/predict", "1"),
        ("/v1/models/clothes/aliases/candidate/predict", "2"),
    ],
)
async def test_a_route_names_the_version_that_answers(
    client: httpx.AsyncClient, engine: CountingEngine, path: str, version: str
) -> None:
    body = await answer(client, path, [PIXELS.tolist()])
    assert body["version"] == version
    assert engine.calls[0].ref == Ref("clothes", int(version))


async def test_a_callers_request_id_is_answered(client: httpx.AsyncClient) -> None:
    response = await client.post(MOOD, json={"instances": ["good"]}, headers={"X-Request-Id": "caller/7:a"})
    assert response.headers["x-request-id"] == "caller/7:a"


async def test_a_request_without_an_id_is_given_one(client: httpx.AsyncClient) -> None:
    response = await client.post(MOOD, json={"instances": ["good"]})
    assert UUID(response.headers["x-request-id"]).version == 7
