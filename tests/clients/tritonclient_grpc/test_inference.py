"""What is asked by tensors is answered as /v1 answers it, in every form that the client has."""

import contextlib
import queue
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferResult
from tritonclient.utils import InferenceServerException

from tests.clients.asked import ASKED, BY_MODEL, OUTPUTS, Asked, check_alike, strings
from tests.clients.support import Served
from tests.clients.tritonclient_grpc.tensors import arrays, inputs, outputs, refused, tensor

# Of a callback that never comes; it comes within milliseconds.
_SECONDS = 60


@pytest.mark.parametrize("named", [True, False], ids=["outputs named", "no output named"])
@pytest.mark.parametrize("asked", ASKED, ids=[asked.model for asked in ASKED])
def test_every_kind_of_input_is_answered_as_v1_answers_it(
    client: Any, served: Served, asked: Asked, *, named: bool
) -> None:
    names = OUTPUTS[asked.model]
    result = client.infer(asked.model, inputs(asked.model), outputs=outputs(*names) if named else None)
    answer = result.get_response()
    assert (answer.model_name, answer.model_version) == (asked.model, "1")
    assert [output.name for output in answer.outputs] == names
    assert len(answer.parameters["prediction_ids"].string_param.split(",")) == len(asked.array)
    check_alike(arrays(result), served.predict(asked.model, asked.instances))


def test_outputs_come_in_the_order_in_which_they_were_asked_for(client: Any) -> None:
    result = client.infer("mood", inputs("mood"), outputs=outputs("label", "probabilities"))
    assert [output.name for output in result.get_response().outputs] == ["label", "probabilities"]
    assert result.as_numpy("logits") is None


def test_what_was_preprocessed_by_the_caller_is_answered_as_what_was_not(client: Any, served: Served) -> None:
    pixels = np.arange(784, dtype=np.float32).reshape(1, 1, 28, 28) % 256
    prepared = tensor("input", "FP32", (pixels / 255).astype(np.float32))
    check_alike(arrays(client.infer("clothes", [prepared])), served.predict("clothes", pixels.tolist()))


def test_classes_are_named_from_the_best_on(client: Any, served: Served) -> None:
    asked = BY_MODEL["fashion"]
    result = client.infer("fashion", inputs("fashion"), outputs=outputs("probabilities", classes=3))
    assert result.as_numpy("probabilities").shape == (2, 3)
    named = [text.split(":") for text in strings(result.as_numpy("probabilities"))]
    best = [one for row in served.predict("fashion", asked.instances, top_k=3) for one in row["top"]]
    assert [(int(index), label) for _, index, label in named] == [(one["index"], one["label"]) for one in best]
    assert np.allclose([float(value) for value, *_ in named], [one["probability"] for one in best], atol=1e-6)


@pytest.mark.parametrize(("version", "answers"), [("1", "1"), ("2", "2"), ("trial", "2"), ("champion", "1"), ("", "1")])
def test_a_version_is_a_number_or_an_alias(client: Any, served: Served, version: str, answers: str) -> None:
    served.move_alias("clothes", "trial", "2")
    result = client.infer("clothes", inputs("clothes"), model_version=version)
    assert result.get_response().model_version == answers


@pytest.mark.parametrize("said", ["mine", "ü-7", "x" * 256, ""])
def test_the_callers_id_comes_back(client: Any, said: str) -> None:
    assert client.infer("mood", inputs("mood"), request_id=said).get_response().id == said


@pytest.mark.parametrize(
    "named", [{"priority": 1}, {"priority": 9}, {"timeout": 20_000_000}, {"parameters": {"x": 1, "y": "z", "w": True}}]
)
def test_what_is_asked_beside_the_tensors_changes_no_answer(client: Any, named: dict[str, Any]) -> None:
    plain, with_more = client.infer("mood", inputs("mood")), client.infer("mood", inputs("mood"), **named)
    assert np.array_equal(plain.as_numpy("logits"), with_more.as_numpy("logits"))


def test_a_timeout_is_in_microseconds(client: Any) -> None:
    says = "sentiment/1 did not answer within the request's time, which ran out in "
    refused("DEADLINE_EXCEEDED", says, client.infer, "sentiment", inputs("sentiment"), timeout=1)


def test_the_clients_own_time_ends_its_call(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("sentiment", inputs("sentiment"), client_timeout=0.0005)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert client.infer("sentiment", inputs("sentiment"), client_timeout=20).as_numpy("label").shape == (2, 1)


def test_headers_of_the_callers_own_do_no_harm(client: Any) -> None:
    more = {"x-own": "1", "x-request-id": "mine", "x-routing-key": "user-7"}
    assert client.infer("mood", inputs("mood"), headers=more).as_numpy("label").shape == (2, 1)
    says = "X-Request-Id: the id is malformed"
    refused("INVALID_ARGUMENT", says, client.infer, "mood", inputs("mood"), headers={"x-request-id": "a b"})


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_travel_compressed(client: Any, algorithm: str) -> None:
    rows = np.arange(1024, dtype=np.float32).reshape(256, 4) % 100
    many = [tensor("input", "FP32", rows)]
    packed = client.infer("sensors", many, compression_algorithm=algorithm)
    assert np.array_equal(packed.as_numpy("logits"), client.infer("sensors", many).as_numpy("logits"))


def test_many_rows_travel_at_once(client: Any) -> None:
    pixels = np.linspace(0, 1, 1024 * 784, dtype=np.float32).reshape(1024, 1, 28, 28)
    assert client.infer("clothes", [tensor("input", "FP32", pixels)]).as_numpy("logits").shape == (1024, 10)


def test_a_message_that_is_too_large_is_refused(client: Any) -> None:
    pixels = np.zeros((6000, 1, 28, 28), np.float32)
    refused("RESOURCE_EXHAUSTED", "", client.infer, "clothes", [tensor("input", "FP32", pixels)])
    assert client.is_server_live()


class TestCallbacks:
    """What only the synchronous client has."""

    def test_answers_come_to_callbacks(self, served: Served) -> None:
        came: queue.Queue[tuple[InferResult, Any]] = queue.Queue()
        with InferenceServerClient(served.grpc) as client:
            for _ in range(50):
                client.async_infer("mood", inputs("mood"), lambda result, error: came.put((result, error)))
            results = [came.get(timeout=_SECONDS) for _ in range(50)]
        assert all(error is None for _, error in results)
        expected = results[0][0].as_numpy("logits")
        assert all(np.array_equal(result.as_numpy("logits"), expected) for result, _ in results)

    def test_a_call_that_is_cancelled_harms_no_other(self, served: Served) -> None:
        came: queue.Queue[tuple[Any, Any]] = queue.Queue()
        pixels = np.zeros((100, 1, 28, 28), np.float32)
        with InferenceServerClient(served.grpc) as client:
            many = [tensor("input", "FP32", pixels)]
            calls = [
                client.async_infer("clothes", many, lambda result, error: came.put((result, error))) for _ in range(10)
            ]
            for call in calls:
                call.cancel()
            for _ in range(10):
                result, error = came.get(timeout=_SECONDS)
                assert result is not None or error.status() == "StatusCode.CANCELLED"
            assert client.infer("clothes", inputs("clothes")).as_numpy("label").shape == (3, 1)

    def test_streams_are_not_supported(self, served: Served) -> None:
        came: queue.Queue[Any] = queue.Queue()
        with InferenceServerClient(served.grpc) as client:
            client.start_stream(lambda result, error: came.put(error))
            with contextlib.suppress(InferenceServerException):  # the refusal may be there before anything is sent
                client.async_stream_infer("mood", inputs("mood"))
            error = came.get(timeout=_SECONDS)
            assert error.status() == "StatusCode.UNIMPLEMENTED"
            assert error.message().startswith("the method ModelStreamInfer: not supported; expected one of ServerLive")
            client.stop_stream()
