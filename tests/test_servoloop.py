"""The client, against a transport that answers as the service does."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch

import servoloop
from servoloop import AsyncClient, Backend, Client

IDS = ["0199a0c2-0000-7000-8000-000000000001", "0199a0c2-0000-7000-8000-000000000002"]
MODEL = {
    "name": "fashion",
    "task": "multiclass",
    "input": {"kind": "image", "channels": 1, "height": 28, "width": 28, "fit": "stretch"},
    "content_types": ["application/json", "image/png"],
    "labels": ["Bag", "Ankle boot"],
    "target": None,
    "aliases": {"champion": "1"},
    "ready": True,
    "versions": [
        {
            "version": "1",
            "state": "loaded",
            "ready": True,
            "reason": None,
            "description": "",
            "architecture": "cnn",
            "digest": "00",
            "metrics": {"accuracy": {"value": 0.92, "low": 0.915, "high": 0.925, "n": 10000, "reason": None}},
            "pinned": False,
            "replicas": 1,
            "precision": "float32",
            "engines": ["engine-0"],
            "resident_bytes": 4096,
            "backend": {
                "name": "openvino",
                "precision": "bfloat16",
                "threads": 1,
                "reason": "it was measured",
                "pending": False,
                "added_later": True,
            },
            "added_later": True,
        }
    ],
    "added_later": True,
}


def answer(*predictions: dict[str, Any]) -> httpx.Response:
    ids = IDS[: len(predictions)]
    return httpx.Response(
        200, json={"model": "fashion", "version": "3", "prediction_ids": ids, "predictions": list(predictions)}
    )


def problem(status: int, kind: str, headers: dict[str, str] | None = None, **members: Any) -> httpx.Response:
    body = {"type": f"urn:servoloop:problem:{kind}", "title": "", "status": status, "request_id": "r-1", **members}
    return httpx.Response(status, json=body, headers=headers)


class Service:
    """Gives prepared answers one after the other, the last one for ever, and remembers what it was asked."""

    def __init__(self, *outcomes: httpx.Response | Exception) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[httpx.Request] = []
        self.paused: list[float] = []
        self.now = 100.0

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def sleep(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def client(self, **options: Any) -> Client:
        transport = httpx.MockTransport(self.handle)
        return Client(transport=transport, sleep=self.sleep, clock=lambda: self.now, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        transport = httpx.MockTransport(self.handle)
        return AsyncClient(transport=transport, sleep=self.sleep_async, clock=lambda: self.now, **options)

    @property
    def body(self) -> Any:
        return json.loads(self.requests[-1].content)


def sent(instance: Any) -> Any:
    """What goes over the wire for an instance."""
    service = Service(answer({"value": 1.0}))
    with service.client() as client:
        client.predict("m", instance)
    [form] = service.body["instances"]
    return form


def test_an_answer_becomes_a_prediction() -> None:
    row = {
        "label": "Ankle boot",
        "index": 9,
        "probability": 0.98,
        "top": [{"label": "Ankle boot", "index": 9, "probability": 0.98}],
        "probabilities": {"Bag": 0.02, "Ankle boot": 0.98},
        "added_later": 1,
    }
    service = Service(answer(row))
    with service.client() as client:
        prediction = client.predict("fashion", "x")
    assert prediction == servoloop.Prediction(
        prediction_id=IDS[0],
        model="fashion",
        version="3",
        label="Ankle boot",
        index=9,
        probability=0.98,
        top=(servoloop.Scored("Ankle boot", 0.98, 9),),
        probabilities={"Bag": 0.02, "Ankle boot": 0.98},
    )


@pytest.mark.parametrize(
    ("row", "attribute", "value"),
    [
        ({"value": 66000.0}, "value", 66000.0),
        ({"embedding": [1.0, 2.0]}, "embedding", (1.0, 2.0)),
        ({"labels": [{"label": "a", "probability": 0.7}]}, "labels", (servoloop.Scored("a", 0.7),)),
        ({"error": {"type": "t", "detail": "d"}}, "error", servoloop.RowError("t", "d")),
    ],
)
def test_each_task_has_its_attribute(row: dict[str, Any], attribute: str, value: Any) -> None:
    with Service(answer(row)).client() as client:
        assert getattr(client.predict("m", "x"), attribute) == value


def test_several_rows_come_back_in_their_order() -> None:
    service = Service(answer({"value": 1.0}, {"value": 2.0}))
    with service.client() as client:
        predictions = client.predict_many("m", [[1], [2]], external_ids=["a", "b"])
    assert [row.value for row in predictions] == [1.0, 2.0]
    assert [row.prediction_id for row in predictions] == IDS
    assert (len(predictions), predictions[1].value, predictions.version) == (2, 2.0, "3")
    assert service.body["parameters"] == {"external_ids": ["a", "b"]}


def test_every_option_has_its_place() -> None:
    service = Service(answer({"value": 1.0}))
    with service.client() as client:
        client.predict(
            "m",
            "x",
            version=3,
            top_k=2,
            return_probabilities=True,
            timeout_ms=50,
            key="user-7",
            tags={"country": "DE"},
            external_id="order-1",
            request_id="r-7",
        )
    [request] = service.requests
    assert (request.method, request.url.path) == ("POST", "/v1/models/m/versions/3/predict")
    assert request.headers["X-Request-Id"] == "r-7"
    assert service.body["parameters"] == {
        "top_k": 2,
        "return_probabilities": True,
        "timeout_ms": 50,
        "key": "user-7",
        "tags": {"country": "DE"},
        "external_ids": ["order-1"],
    }


def test_a_model_or_alias_is_one_part_of_the_path_whatever_it_holds() -> None:
    service = Service(answer({"value": 1.0}))
    with service.client() as client:
        client.predict("a/b", "x", alias="../c")
    assert service.requests[0].url.raw_path == b"/v1/models/a%2Fb/aliases/..%2Fc/predict"


def test_a_version_and_an_alias_exclude_each_other() -> None:
    with Service(answer()).client() as client, pytest.raises(ValueError, match="not both"):
        client.predict("m", "x", version=1, alias="champion")


@pytest.mark.parametrize(
    ("instance", "form"),
    [
        ("a text", "a text"),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (np.array([[1.5, 2]], np.float32), [[1.5, 2.0]]),
        ([np.array([1, 2]), np.float32(0.5)], [[1, 2], 0.5]),
        (torch.ones(2, requires_grad=True), [1.0, 1.0]),
        ({"lotsize": 5850}, {"columns": {"lotsize": 5850}}),
        ({"lotsize": np.int64(5850)}, {"columns": {"lotsize": 5850}}),
        ({"values": 3.0}, {"columns": {"values": 3.0}}),
        ({"values": np.zeros(2)}, {"values": [0.0, 0.0]}),
        ({"columns": {"a": 1}}, {"columns": {"a": 1}}),
        ({"text": "a text"}, {"text": "a text"}),
        (b"bytes of a picture", {"image": base64.b64encode(b"bytes of a picture").decode()}),
    ],
)
def test_what_an_instance_may_be(instance: Any, form: Any) -> None:
    assert sent(instance) == form


def test_a_path_is_an_image_file(tmp_path: Path) -> None:
    path = tmp_path / "boot.png"
    path.write_bytes(b"\x89PNG")
    assert sent(path) == {"image": base64.b64encode(b"\x89PNG").decode()}


@pytest.mark.parametrize(
    ("instance", "error", "message"),
    [
        (object(), TypeError, "can't be or hold a object"),
        ([1, {2}], TypeError, "can't be or hold a set"),
        (np.array([np.nan]), ValueError, "NaN"),
    ],
)
def test_what_no_model_takes_is_refused_before_anything_is_sent(
    instance: Any, error: type[Exception], message: str
) -> None:
    service = Service(answer())
    with service.client() as client, pytest.raises(error, match=message):
        client.predict("m", instance)
    assert service.requests == []


@pytest.mark.parametrize("one", ["a text", b"png", {"lotsize": 1}])
def test_one_instance_is_not_taken_for_several(one: Any) -> None:
    with Service(answer()).client() as client, pytest.raises(TypeError, match="several instances"):
        client.predict_many("m", one)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, servoloop.InvalidInput),
        (404, servoloop.NotFound),
        (413, servoloop.InvalidInput),
        (415, servoloop.InvalidInput),
        (422, servoloop.InvalidInput),
        (500, servoloop.ApiError),
        (503, servoloop.Unavailable),
        (504, servoloop.DeadlineExceeded),
    ],
)
def test_a_problem_becomes_the_error_of_its_status(status: int, error: type[servoloop.ApiError]) -> None:
    service = Service(problem(status, "some-kind", detail="what was wrong", field="instances[0]", expected="a number"))
    with service.client(retries=0) as client, pytest.raises(servoloop.ApiError) as raised:
        client.predict("m", "x")
    fault = raised.value
    assert type(fault) is error
    assert (fault.status, fault.problem_type) == (status, "urn:servoloop:problem:some-kind")
    assert (fault.detail, fault.field, fault.expected) == ("what was wrong", "instances[0]", "a number")
    assert (fault.request_id, str(fault)) == ("r-1", f"what was wrong (status {status})")


def test_a_gateway_that_answers_for_the_service_is_quoted() -> None:
    response = httpx.Response(502, text="<h1>Bad Gateway</h1>")
    with Service(response).client() as client, pytest.raises(servoloop.ApiError, match="Bad Gateway") as raised:
        client.predict("m", "x")
    assert raised.value.problem_type is None


@pytest.mark.parametrize("response", [httpx.Response(200, text="hello"), httpx.Response(200, json={"model": "m"})])
def test_another_service_is_recognised(response: httpx.Response) -> None:
    with Service(response).client() as client, pytest.raises(servoloop.ApiError, match="as a Servoloop service"):
        client.predict("m", "x")


def test_a_refused_connection_is_tried_again_after_growing_pauses() -> None:
    refused = httpx.ConnectError("refused")
    service = Service(refused, refused, answer({"value": 1.0}))
    with service.client() as client:
        assert client.predict("m", "x").value == 1.0
    assert service.paused == [0.1, 0.2]


def test_a_connection_refused_each_time_is_an_error() -> None:
    service = Service(httpx.ConnectError("refused"))
    with service.client(retries=1) as client, pytest.raises(servoloop.ConnectionFailed, match="refused"):
        client.predict("m", "x")
    assert len(service.requests) == 2


def test_retry_after_is_heeded() -> None:
    service = Service(
        problem(503, "queue-full", {"Retry-After": "2"}, detail="full"),
        problem(503, "queue-full", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, detail="full"),
        answer({"value": 1.0}),
    )
    with service.client() as client:
        client.predict("m", "x")
    assert service.paused == [2.0, 0.2]


def test_no_pause_reaches_past_the_timeout() -> None:
    service = Service(problem(503, "queue-full", {"Retry-After": "7"}, detail="full"))
    with service.client(timeout=10.0) as client, pytest.raises(servoloop.Unavailable) as raised:
        client.predict("m", "x")
    assert service.paused == [7.0]
    assert raised.value.retry_after == 7.0


def test_each_attempt_has_the_time_that_is_left() -> None:
    service = Service(problem(503, "queue-full", {"Retry-After": "4"}, detail="full"), answer({"value": 1.0}))
    with service.client(timeout=10.0) as client:
        client.predict("m", "x")
    assert [request.extensions["timeout"]["read"] for request in service.requests] == [10.0, 6.0]
    assert [request.headers["X-Request-Timeout-Ms"] for request in service.requests] == ["9500.000", "5700.000"]


@pytest.mark.parametrize(
    "outcome", [httpx.ReadTimeout("late"), httpx.ReadError("reset"), problem(500, "internal", detail="failed")]
)
def test_what_may_have_been_computed_is_not_sent_again(outcome: httpx.Response | Exception) -> None:
    service = Service(outcome)
    with service.client() as client, pytest.raises(servoloop.ServoloopError):
        client.predict("m", "x")
    assert len(service.requests) == 1


def test_models_are_read_with_their_versions() -> None:
    broken = {"model": "b", "version": "1", "reason": "weights.safetensors is missing"}
    service = Service(httpx.Response(200, json={"models": [MODEL], "broken": [broken]}))
    with service.client() as client:
        models = client.models()
    assert [model.name for model in models] == ["fashion"]
    assert models[0].versions[0].metrics["accuracy"]["value"] == 0.92
    assert models.broken == (servoloop.Broken("b", "1", "weights.safetensors is missing"),)


def test_one_model_is_read() -> None:
    service = Service(httpx.Response(200, json=MODEL))
    with service.client() as client:
        assert client.model("fashion").aliases == {"champion": "1"}
    assert service.requests[0].url.path == "/v1/models/fashion"


@pytest.mark.parametrize(
    ("outcome", "ready"),
    [
        (httpx.Response(200, json={"ready": True, "waiting_for": {}}), True),
        (httpx.Response(503, json={"ready": False, "waiting_for": {"fashion": "its engine is starting"}}), False),
        (httpx.ConnectError("refused"), False),
    ],
)
def test_readiness_is_asked_once(outcome: httpx.Response | Exception, *, ready: bool) -> None:
    service = Service(outcome)
    with service.client() as client:
        assert client.ready() is ready
    assert (len(service.requests), service.paused) == (1, [])


MOVE = {
    "model": "fashion",
    "alias": "champion",
    "version": "2",
    "previous": None,
    "actor": "anonymous",
    "reason": "better",
    "time": "2026-01-31T08:00:00Z",
    "revision": 7,
    "added_later": True,
}


def test_an_alias_is_moved() -> None:
    service = Service(httpx.Response(200, json=MOVE))
    with service.client() as client:
        move = client.move_alias("fashion", "champion", 2, reason="better", expected=1)
    assert (move.version, move.previous, move.revision) == ("2", None, 7)
    [request] = service.requests
    assert (request.method, request.url.path) == ("PUT", "/v1/models/fashion/aliases/champion")
    assert json.loads(request.content) == {"version": "2", "reason": "better", "expected": "1"}


def test_an_alias_that_is_not_where_it_was_expected_is_a_conflict() -> None:
    service = Service(problem(409, "alias-moved", detail="it names 2"))
    with service.client() as client, pytest.raises(servoloop.Conflict, match="it names 2"):
        client.move_alias("fashion", "champion", 2, expected=1)


async def test_an_alias_is_moved_asynchronously() -> None:
    service = Service(httpx.Response(200, json=MOVE))
    async with AsyncClient(transport=httpx.MockTransport(service.handle)) as client:
        assert (await client.move_alias("fashion", "champion", 2)).revision == 7


VERSION: dict[str, Any] = MODEL["versions"][0]  # type: ignore[index]
DELETED = {"model": "fashion", "versions": ["1", "2"], "unloaded": False}


def test_one_version_is_read() -> None:
    service = Service(httpx.Response(200, json=VERSION))
    with service.client() as client:
        version = client.version("fashion", 1)
    assert (version.state, version.pinned, version.engines, version.resident_bytes) == (
        "loaded",
        False,
        ["engine-0"],
        4096,
    )
    assert version.backend == Backend("openvino", "bfloat16", 1, "it was measured", pending=False)
    assert (service.requests[0].method, service.requests[0].url.path) == ("GET", "/v1/models/fashion/versions/1")


def test_a_version_that_is_not_loaded_has_no_backend() -> None:
    service = Service(httpx.Response(200, json={**VERSION, "state": "on_demand", "backend": None}))
    with service.client() as client:
        assert client.version("fashion", 1).backend is None


@pytest.mark.parametrize(("status", "done"), [(200, True), (202, False)])
def test_a_load_says_whether_it_is_done(status: int, *, done: bool) -> None:
    service = Service(httpx.Response(status, json=VERSION))
    with service.client() as client:
        change = client.load("fashion", 1, pinned=False, precision="bfloat16", wait=2.5)
    assert (change.done, change.version.version) == (done, "1")
    assert (service.requests[0].method, service.requests[0].url.path) == ("POST", "/v1/models/fashion/versions/1/load")
    assert service.body == {"pinned": False, "precision": "bfloat16", "wait_ms": 2500}


@pytest.mark.parametrize("verb", ["unload", "reload"])
def test_a_version_is_unloaded_and_loaded_anew(verb: str) -> None:
    service = Service(httpx.Response(200, json=VERSION))
    with service.client() as client:
        assert getattr(client, verb)("fashion", 1).done
    assert service.requests[0].url.path == f"/v1/models/fashion/versions/1/{verb}"
    assert service.body == {"wait_ms": 30_000}


def test_the_service_has_the_time_that_is_waited_besides_the_clients() -> None:
    service = Service(httpx.Response(200, json=VERSION))
    with service.client(timeout=10.0) as client:
        client.load("fashion", 1, wait=90.0)
    assert service.requests[0].headers["X-Request-Timeout-Ms"] == "95000.000"


def test_what_cant_be_loaded_is_not_tried_again() -> None:
    service = Service(problem(503, "not-ready", {"Retry-After": "1"}, detail="it needs 9 GB"))
    with service.client() as client, pytest.raises(servoloop.Unavailable, match="it needs 9 GB"):
        client.load("fashion", 1)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda client: client.delete_version("fashion", 1, wait=0),
        lambda client: client.delete_model("fashion", wait=0),
        lambda client: client.move_alias("fashion", "champion", 2),
    ],
)
def test_what_may_have_been_changed_is_not_changed_again(change: Callable[[servoloop.Client], object]) -> None:
    service = Service(problem(503, "store-unavailable", {"Retry-After": "1"}, detail="look before asking again"))
    with service.client() as client, pytest.raises(servoloop.Unavailable, match="look before"):
        change(client)
    assert len(service.requests) == 1


def test_versions_and_models_are_deleted() -> None:
    service = Service(httpx.Response(202, json=DELETED))
    with service.client() as client:
        assert client.delete_version("fashion", 2, wait=0.5) == servoloop.Deleted("fashion", ("1", "2"), unloaded=False)
        client.delete_model("fashion", wait=0)
    assert [(request.method, request.url.raw_path) for request in service.requests] == [
        ("DELETE", b"/v1/models/fashion/versions/2?wait_ms=500"),
        ("DELETE", b"/v1/models/fashion?wait_ms=0"),
    ]


@pytest.mark.parametrize("wait", [-1.0, float("nan"), float("inf")])
def test_a_wait_that_is_none_is_refused_before_anything_is_sent(wait: float) -> None:
    service = Service(httpx.Response(200, json=VERSION))
    with service.client() as client:
        with pytest.raises(ValueError, match="wait must be"):
            client.load("fashion", 1, wait=wait)
        with pytest.raises(ValueError, match="wait must be"):
            client.delete_model("fashion", wait=wait)
    assert service.requests == []


async def test_versions_are_changed_asynchronously() -> None:
    service = Service(httpx.Response(200, json=VERSION))
    async with service.async_client() as client:
        assert (await client.version("fashion", 1)).version == "1"
        assert (await client.load("fashion", 1, replicas=2)).done
        assert service.body == {"replicas": 2, "wait_ms": 30_000}
        assert (await client.unload("fashion", 1)).done
        assert (await client.reload("fashion", 1)).done
        service.outcomes = [httpx.Response(200, json=DELETED)]
        assert (await client.delete_version("fashion", 1)).versions == ("1", "2")
        assert (await client.delete_model("fashion")).model == "fashion"


def test_every_public_name_is_there() -> None:
    assert all(hasattr(servoloop, name) for name in servoloop.__all__)


async def test_the_asynchronous_client_has_the_same_verbs() -> None:
    unavailable = problem(503, "queue-full", {"Retry-After": "2"}, detail="full")
    service = Service(unavailable, answer({"value": 1.0}))
    async with service.async_client() as client:
        assert (await client.predict("m", {"lotsize": 5850}, external_id="order-1")).value == 1.0
        assert service.body["instances"] == [{"columns": {"lotsize": 5850}}]
        assert service.paused == [2.0]
        assert (await client.predict_many("m", ["x"]))[0].value == 1.0
        service.outcomes = [httpx.Response(200, json=MODEL)]
        assert (await client.model("fashion")).name == "fashion"
        service.outcomes = [httpx.Response(200, json={"models": [MODEL], "broken": []})]
        assert len(await client.models()) == 1
        service.outcomes = [httpx.ConnectError("refused")]
        assert await client.ready() is False
        with pytest.raises(servoloop.ConnectionFailed):
            await client.models()


@pytest.mark.parametrize("faulty", [{"timeout": 0}, {"retries": -1}])
def test_settings_that_mean_nothing_are_refused(faulty: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Client(**faulty)


@pytest.mark.parametrize(("url", "mounted"), [("http://127.0.0.1:8000", False), ("http://models.example", True)])
def test_this_machine_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch, url: str, *, mounted: bool) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    with Client(url) as client:
        assert bool(client._http._mounts) is mounted


def test_the_sync_and_async_clients_take_the_same_arguments() -> None:
    def arguments(verb: Callable[..., Any]) -> Any:
        return verb.__annotations__.keys()

    verbs = {name for name in vars(Client) if not name.startswith("_")} - {"close"}
    assert verbs == {name for name in vars(AsyncClient) if not name.startswith("_")} - {"aclose"}
    for name in (*verbs, "__init__"):
        assert arguments(getattr(Client, name)) == arguments(getattr(AsyncClient, name))


def test_a_folder_of_its_name_is_not_taken_for_the_package(tmp_path: Path) -> None:
    (tmp_path / "servoloop").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "from servoloop import Client; print(Client.__name__)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Client\n", "")
