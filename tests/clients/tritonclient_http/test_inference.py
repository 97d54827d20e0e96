"""What is asked by tensors is answered as /v1 answers it, in every form that the client has."""

import asyncio
import gzip
import zlib
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.http import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.clients.asked import ASKED, BY_MODEL, OUTPUTS, Asked, check_alike, strings
from tests.clients.support import Served
from tests.clients.tritonclient_http.tensors import arrays, inputs, outputs, tensor

# A picture's file is no text, so it does not travel as JSON.
FORMS = [
    pytest.param(asked, binary, id=f"{asked.model}-{'binary' if binary else 'JSON'} in")
    for asked in ASKED
    for binary in (True, False)
    if binary or asked.name != "image"
]
LENGTH = "Inference-Header-Content-Length"


@pytest.mark.parametrize("binary_out", [True, False], ids=["binary out", "JSON out"])
@pytest.mark.parametrize(("asked", "binary_in"), FORMS)
def test_every_kind_of_input_is_answered_as_v1_answers_it(
    client: Any, served: Served, asked: Asked, *, binary_in: bool, binary_out: bool
) -> None:
    names = OUTPUTS[asked.model]
    result = client.infer(
        asked.model, inputs(asked.model, binary=binary_in), outputs=outputs(*names, binary=binary_out)
    )
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"]) == (asked.model, "1")
    assert [output["name"] for output in answer["outputs"]] == names
    assert ["data" in output for output in answer["outputs"]] == [not binary_out] * len(names)
    assert len(answer["parameters"]["prediction_ids"].split(",")) == len(asked.array)
    check_alike(arrays(result), served.predict(asked.model, asked.instances))


@pytest.mark.parametrize("model", OUTPUTS)
def test_all_outputs_come_as_bytes_where_none_is_named(client: Any, model: str) -> None:
    answer = client.infer(model, inputs(model)).get_response()
    assert [output["name"] for output in answer["outputs"]] == OUTPUTS[model]
    assert all("binary_data_size" in output["parameters"] for output in answer["outputs"])


def test_outputs_come_in_the_order_in_which_they_were_asked_for(client: Any) -> None:
    wanted = [*outputs("label", binary=False), *outputs("probabilities")]
    result = client.infer("mood", inputs("mood"), outputs=wanted)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["label", "probabilities"]
    assert result.as_numpy("logits") is None


def test_what_was_preprocessed_by_the_caller_is_answered_as_what_was_not(client: Any, served: Served) -> None:
    pixels = np.arange(784, dtype=np.float32).reshape(1, 1, 28, 28) % 256
    prepared = tensor("input", "FP32", (pixels / 255).astype(np.float32))
    check_alike(arrays(client.infer("clothes", [prepared])), served.predict("clothes", pixels.tolist()))
    # As tests/checkpoints.py numbers the words.
    ids = tensor("input", "INT64", np.array([[2, 3, 5]], np.int64))
    check_alike(arrays(client.infer("mood", [ids])), served.predict("mood", ["a good film"]))


def test_classes_are_named_from_the_best_on(client: Any, served: Served) -> None:
    asked = BY_MODEL["fashion"]
    result = client.infer("fashion", inputs("fashion"), outputs=outputs("probabilities", classes=3))
    assert result.as_numpy("probabilities").shape == (2, 3)
    named = [text.split(":") for text in strings(result.as_numpy("probabilities"))]
    best = [one for row in served.predict("fashion", asked.instances, top_k=3) for one in row["top"]]
    assert [(int(index), label) for _, index, label in named] == [(one["index"], one["label"]) for one in best]
    assert np.allclose([float(value) for value, *_ in named], [one["probability"] for one in best], atol=1e-6)


def test_classes_may_be_wanted_as_json(client: Any) -> None:
    wanted = outputs("probabilities", classes=1, binary=False)
    result = client.infer("mood", inputs("mood"), outputs=wanted)
    assert result.get_output("probabilities")["shape"] == [2, 1]
    best = np.array([text.split(":")[2] for text in strings(result.as_numpy("probabilities"))])
    assert set(best) <= {"negative", "positive"}


@pytest.mark.parametrize(("version", "answers"), [("1", "1"), ("2", "2"), ("trial", "2"), ("champion", "1"), ("", "1")])
def test_a_version_is_a_number_or_an_alias(client: Any, served: Served, version: str, answers: str) -> None:
    served.move_alias("clothes", "trial", "2")
    result = client.infer("clothes", inputs("clothes"), model_version=version)
    assert result.get_response()["model_version"] == answers
    reply = served.request(
        "POST",
        f"/v1/models/clothes/versions/{answers}/predict",
        {"instances": BY_MODEL["clothes"].instances, "parameters": {"return_probabilities": True}},
    )
    check_alike(arrays(result), reply.json()["predictions"])


@pytest.mark.parametrize("said", ["mine", "ü-7", "x" * 256])
def test_the_callers_id_comes_back(client: Any, said: str) -> None:
    assert client.infer("mood", inputs("mood"), request_id=said).get_response()["id"] == said


def test_there_is_no_id_where_none_was_sent(client: Any) -> None:
    assert "id" not in client.infer("mood", inputs("mood")).get_response()


@pytest.mark.parametrize("named", [{"priority": 1}, {"priority": 9}, {"timeout": 20_000_000}, {"parameters": {"x": 1}}])
def test_what_is_asked_beside_the_tensors_changes_no_answer(client: Any, named: dict[str, Any]) -> None:
    plain, with_more = client.infer("mood", inputs("mood")), client.infer("mood", inputs("mood"), **named)
    assert np.array_equal(plain.as_numpy("logits"), with_more.as_numpy("logits"))


def test_a_timeout_is_in_microseconds(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("sentiment", inputs("sentiment"), timeout=1)
    assert caught.value.status() == "504"


@pytest.mark.parametrize("answered", [None, "gzip", "deflate"])
@pytest.mark.parametrize("asked", [None, "gzip", "deflate"])
def test_bodies_travel_compressed(client: Any, asked: str | None, answered: str | None) -> None:
    rows = np.arange(1024, dtype=np.float32).reshape(256, 4) % 100
    many = [tensor("input", "FP32", rows)]
    result = client.infer("sensors", many, request_compression_algorithm=asked, response_compression_algorithm=answered)
    assert np.array_equal(result.as_numpy("logits"), client.infer("sensors", many).as_numpy("logits"))


@pytest.mark.parametrize(("encoding", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_bodies_are_made_and_read_by_the_client_alone(client: Any, served: Served, encoding: str, unpack: Any) -> None:
    rows = np.arange(1024, dtype=np.float32).reshape(256, 4) % 100
    body, length = client.generate_request_body([tensor("input", "FP32", rows)], request_id="mine")
    headers = {LENGTH: str(length), "Accept-Encoding": encoding}
    reply = served.request("POST", "/v2/models/sensors/infer", body, headers)
    assert reply.status == 200
    assert reply.headers["Content-Encoding"] == encoding
    assert len(unpack(reply.body)) > len(reply.body)
    said = int(reply.headers[LENGTH])
    result = client.parse_response_body(reply.body, header_length=said, content_encoding=encoding)
    assert result.get_response()["id"] == "mine"
    assert result.as_numpy("probabilities").shape == (256, 3)


def test_a_body_without_bytes_has_no_length_beside_it(client: Any, served: Served) -> None:
    body, length = client.generate_request_body(
        inputs("mood", binary=False), outputs=outputs(*OUTPUTS["mood"], binary=False)
    )
    assert length is None
    reply = served.request("POST", "/v2/models/mood/infer", body)
    assert LENGTH not in reply.headers
    check_alike(arrays(client.parse_response_body(reply.body)), served.predict("mood", BY_MODEL["mood"].instances))


def test_many_requests_are_under_way_at_once(served: Served) -> None:
    with InferenceServerClient(served.address, concurrency=8) as client:
        pending = [client.async_infer(asked.model, inputs(asked.model), request_id=asked.model) for asked in ASKED * 3]
        for one in pending:
            result = one.get_result()
            model = result.get_response()["id"]
            check_alike(arrays(result), served.predict(model, BY_MODEL[model].instances))


def test_the_error_of_one_under_way_is_its_own(served: Served) -> None:
    with InferenceServerClient(served.address, concurrency=2) as client:
        wrong = client.async_infer("nobody", inputs("mood"))
        right = client.async_infer("mood", inputs("mood"))
        with pytest.raises(InferenceServerException, match="there is no model named 'nobody'"):
            wrong.get_result()
        assert right.get_result().get_response()["model_name"] == "mood"


async def _gathered(address: str) -> list[Any]:
    async with tritonclient.http.aio.InferenceServerClient(address) as client:
        asked = [client.infer(asked.model, inputs(asked.model), request_id=asked.model) for asked in ASKED * 3]
        return await asyncio.gather(*asked)


def test_many_requests_are_awaited_at_once(served: Served) -> None:
    for result in asyncio.run(_gathered(served.address)):
        model = result.get_response()["id"]
        check_alike(arrays(result), served.predict(model, BY_MODEL[model].instances))
