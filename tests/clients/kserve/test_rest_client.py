"""KServe's client for REST, which speaks the protocol as `v2`."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from tests.clients.asked import ASKED, BY_MODEL, OUTPUTS, Array, Asked, check_alike, strings
from tests.clients.support import Awaited, Served

# A picture's file is no text, so it does not travel as JSON.
FORMS = [
    pytest.param(asked, binary, id=f"{asked.model}-{'binary' if binary else 'JSON'} in")
    for asked in ASKED
    for binary in (True, False)
    if binary or asked.name != "image"
]


@pytest.fixture
def client() -> Iterator[Any]:
    with asyncio.Runner() as runner:

        async def connected() -> InferenceRESTClient:
            return InferenceRESTClient(RESTConfig(protocol="v2"))

        awaited = Awaited(runner.run(connected()), runner)
        yield awaited
        awaited.close()


def request_of(asked: Asked, *, binary: bool = True, wanted: list[RequestedOutput] | None = None) -> InferRequest:
    one = InferInput(asked.name, list(asked.array.shape), asked.datatype)
    one.set_data_from_numpy(asked.array, binary_data=binary)
    return InferRequest(asked.model, [one], request_id="mine", request_outputs=wanted)


def arrays(answer: InferResponse) -> dict[str, Array]:
    return {output.name: output.as_numpy() for output in answer.outputs}


def test_the_server_is_live_and_ready(client: Any, served: Served) -> None:
    assert client.is_server_live(served.url) is True
    assert client.is_server_ready(served.url) is True


@pytest.mark.parametrize(("model", "is_ready"), [("mood", True), ("nobody", False)])
def test_a_model_is_ready_where_it_answers(client: Any, served: Served, model: str, *, is_ready: bool) -> None:
    assert client.is_model_ready(served.url, model) is is_ready


@pytest.mark.parametrize("binary_out", [True, False], ids=["binary out", "JSON out"])
@pytest.mark.parametrize(("asked", "binary_in"), FORMS)
def test_every_kind_of_input_is_answered_as_v1_answers_it(
    client: Any, served: Served, asked: Asked, *, binary_in: bool, binary_out: bool
) -> None:
    wanted = [RequestedOutput(name, {"binary_data": binary_out}) for name in OUTPUTS[asked.model]]
    headers: dict[str, str] = {}
    answer = client.infer(
        served.url,
        request_of(asked, binary=binary_in, wanted=wanted),
        model_name=asked.model,
        response_headers=headers,
    )
    assert (answer.model_name, answer.id) == (asked.model, "mine")
    assert ("inference-header-content-length" in headers) is binary_out
    assert len(answer.parameters["prediction_ids"].split(",")) == len(asked.array)
    check_alike(arrays(answer), served.predict(asked.model, asked.instances))


def test_all_outputs_come_as_json_where_nothing_else_is_said(client: Any, served: Served) -> None:
    headers: dict[str, str] = {}
    asked = BY_MODEL["mood"]
    answer = client.infer(served.url, request_of(asked), model_name="mood", response_headers=headers)
    assert [output.name for output in answer.outputs] == OUTPUTS["mood"]
    assert headers["content-type"] == "application/json"


def test_a_request_may_be_a_plain_document(client: Any, served: Served) -> None:
    one = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": BY_MODEL["mood"].instances}
    answer = client.infer(served.url, {"inputs": [one]}, model_name="mood")
    check_alike(arrays(answer), served.predict("mood", BY_MODEL["mood"].instances))


def test_classes_are_named_from_the_best_on(client: Any, served: Served) -> None:
    asked = BY_MODEL["fashion"]
    wanted = [RequestedOutput("probabilities", {"classification": 1, "binary_data": False})]
    answer = client.infer(served.url, request_of(asked, wanted=wanted), model_name="fashion")
    named = [text.split(":")[2] for text in strings(arrays(answer)["probabilities"])]
    assert named == [prediction["label"] for prediction in served.predict("fashion", asked.instances)]


@pytest.mark.parametrize(
    ("model", "array", "status", "says"),
    [
        ("nobody", np.ones((1, 4), np.float32), 404, "there is no model named 'nobody'"),
        ("sensors", np.ones((1, 5), np.float32), 400, "inputs[0].data[0]: the shape is 5; expected 4 numbers"),
        ("sensors", np.ones((1, 4), np.bool_), 400, "inputs[0].data[0]: elements are of type bool"),
    ],
)
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_the_client_says_what_was_wrong(
    client: Any, served: Served, model: str, array: Array, status: int, says: str, *, binary: bool
) -> None:
    datatype = "BOOL" if array.dtype == np.bool_ else "FP32"
    asked = request_of(Asked(model, [], "input", datatype, array), binary=binary)
    with pytest.raises(httpx.HTTPStatusError) as caught:
        client.infer(served.url, asked, model_name=model)
    assert caught.value.response.status_code == status
    assert str(caught.value).startswith(says)
