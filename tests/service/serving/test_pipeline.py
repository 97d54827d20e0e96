import asyncio
import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest
from PIL import Image
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.domain import Ref
from service.errors import (
    BodyTooLarge,
    BodyTooSlow,
    DeadlineExceeded,
    InvalidInput,
    PredictionFailed,
    QueueFull,
    UnknownModel,
    UnprocessableInput,
)
from service.wire.inference import Outputs
from tests.service.serving.journey import MAX_REQUESTS, RENT, Journey, Sent, Threads

FLATS = [[50, 2], [70, 3], [90, 4]]


@pytest.fixture
def journey(root: Path, registry: CollectorRegistry, threads: Threads) -> Journey:
    return Journey(root, registry, threads)


# The journey


async def test_rows_are_prepared_computed_and_answered(journey: Journey) -> None:
    answer = await journey.predict({"instances": FLATS})
    assert (answer["model"], answer["version"]) == ("rent", "1")
    assert answer["predictions"] == [{"value": 600}] * 3
    ((ref, tensors, _),) = journey.engines.calls
    assert ref == RENT
    assert tensors.values.tolist() == [[-1, -1], [0, 0], [1, 1]]


async def test_each_prediction_has_an_id_of_its_own(journey: Journey) -> None:
    answers = [await journey.predict({"instances": FLATS}) for _ in range(2)]
    ids = [prediction_id for answer in answers for prediction_id in answer["prediction_ids"]]
    assert len(set(ids)) == 6
    assert {prediction_id[14] for prediction_id in ids} == {"7"}  # UUIDv7


async def test_parameters_shape_the_answer(journey: Journey) -> None:
    answer = await journey.predict({"instances": ["a good film"], "parameters": {"top_k": 2}}, "mood")
    (prediction,) = answer["predictions"]
    assert [item["label"] for item in prediction["top"]] == ["positive", "negative"]


async def test_texts_travel_as_ids_with_their_lengths(journey: Journey) -> None:
    await journey.predict({"instances": ["a good film", "bad"]}, "mood")
    tensors = journey.engines.calls[0][1]
    assert tensors.values.tolist() == [2, 3, 5, 4]
    assert tensors.lengths is not None
    assert tensors.lengths.tolist() == [3, 1]


async def test_wrong_input_never_reaches_the_engine(journey: Journey) -> None:
    for document in ({"instances": [[1]]}, {"instances": []}, [], {"instances": [[1, 2]], "parameters": {"top_k": 0}}):
        with pytest.raises(InvalidInput):
            await journey.predict(document)
    assert journey.engines.calls == []


async def test_the_body_of_an_unknown_model_is_not_even_read(journey: Journey) -> None:
    sent = Sent({"instances": FLATS})
    with pytest.raises(UnknownModel):
        await journey.send(sent, "shoes")
    assert sent.times_read == 0


async def test_where_too_much_is_under_way_the_body_is_not_even_read(journey: Journey) -> None:
    sent = [Sent({"instances": FLATS}) for _ in range(MAX_REQUESTS + 3)]
    # The engine takes a turn of the event loop to answer, in which all of them begin.
    answers = await asyncio.gather(*(journey.send(one) for one in sent), return_exceptions=True)
    refused = [isinstance(answer, QueueFull) for answer in answers]
    assert refused == [False] * MAX_REQUESTS + [True] * 3
    assert [one.times_read for one in sent] == [1] * MAX_REQUESTS + [0] * 3
    await journey.predict({"instances": FLATS})


async def test_more_rows_than_the_limit_are_refused(journey: Journey) -> None:
    with pytest.raises(UnprocessableInput, match="there are 5 rows; expected at most 4"):
        await journey.predict({"instances": [[50, 2]] * 5})


# Time


@pytest.mark.parametrize(
    ("in_body", "in_header", "seconds"),
    [
        (None, None, 10.0),
        (None, 5.0, 5.0),
        (2000, None, 2.0),
        (2000, 5.0, 2.0),
        (7000, 5.0, 7.0),
        (3_600_000, None, 60.0),
        (None, 3600.0, 60.0),
    ],
)
async def test_the_body_decides_before_the_header_and_the_header_before_the_default(
    journey: Journey, in_body: int | None, in_header: float | None, seconds: float
) -> None:
    parameters = {} if in_body is None else {"timeout_ms": in_body}
    await journey.predict({"instances": FLATS, "parameters": parameters}, header=in_header)
    assert journey.engines.calls[0][2].at == 50.0 + seconds


async def test_time_counts_from_the_requests_arrival(journey: Journey) -> None:
    class Slow(Sent):
        async def read(self) -> bytes:
            journey.clock.advance(4.0)
            return await super().read()

    await journey.send(Slow({"instances": FLATS}))
    assert journey.engines.calls[0][2].at == 60.0
    assert journey.measured("servoloop_request_duration_seconds_sum") == 4.0


async def test_rows_are_not_decoded_once_the_time_is_up(journey: Journey) -> None:
    class TooSlow(Sent):
        async def read(self) -> bytes:
            journey.clock.advance(10.0)
            return await super().read()

    with pytest.raises(DeadlineExceeded) as raised:
        await journey.send(TooSlow({"instances": [[1]]}))
    assert raised.value.where == "parsing"
    assert journey.engines.calls == []
    assert journey.measured("servoloop_requests_total", outcome="deadline_exceeded") == 1


async def test_rows_are_not_decoded_once_the_time_that_the_body_names_is_up(journey: Journey) -> None:
    class Slow(Sent):
        async def read(self) -> bytes:
            journey.clock.advance(1.0)
            return await super().read()

    with pytest.raises(DeadlineExceeded) as raised:
        await journey.send(Slow({"instances": FLATS, "parameters": {"timeout_ms": 500}}))
    assert raised.value.where == "decoding"
    assert journey.engines.calls == []


async def test_a_body_that_does_not_arrive_within_the_requests_time_is_not_waited_for(journey: Journey) -> None:
    class Stalled(Sent):
        async def read(self) -> bytes:
            never: asyncio.Future[bytes] = asyncio.Future()
            return await never

    with pytest.raises(BodyTooSlow):
        await journey.send(Stalled(b""), header=0.001)
    assert journey.measured("servoloop_requests_total", outcome="body_too_slow") == 1


# Failures


def failing(failures: dict[int, str]) -> Callable[[Ref, Tensors], Outputs]:
    def answer(ref: Ref, tensors: Tensors) -> Outputs:
        return Outputs(np.ones((len(tensors), 1), np.float32), failures, 0.0, 0.0)

    return answer


async def test_a_row_that_failed_alone_is_told_in_its_place(journey: Journey) -> None:
    journey.engines.answer = failing({1: "not finite"})
    answer = await journey.predict({"instances": FLATS})
    assert answer["predictions"] == [
        {"value": 600},
        {"error": {"type": "prediction_failed", "detail": "not finite"}},
        {"value": 600},
    ]
    assert len(answer["prediction_ids"]) == 3
    assert journey.measured("servoloop_rows_total", outcome="ok") == 2
    assert journey.measured("servoloop_rows_total", outcome="failed") == 1
    assert journey.measured("servoloop_requests_total", outcome="ok") == 1


async def test_a_quarantined_row_is_told_as_such(journey: Journey) -> None:
    def answer(ref: Ref, tensors: Tensors) -> Outputs:
        ones = np.ones((len(tensors), 1), np.float32)
        return Outputs(ones, {0: "not finite", 2: "quarantined"}, 0.0, 0.0, quarantined=frozenset({2}))

    journey.engines.answer = answer
    predictions = (await journey.predict({"instances": FLATS}))["predictions"]
    kinds = [prediction.get("error", {}).get("type") for prediction in predictions]
    assert kinds == ["prediction_failed", None, "quarantined_input"]


async def test_a_request_goes_out_with_its_priority(journey: Journey) -> None:
    await journey.predict({"instances": FLATS, "parameters": {"priority": 1}})
    await journey.predict({"instances": FLATS})
    assert journey.engines.priorities == [1, 0]


async def test_a_failed_rows_numbers_are_never_looked_at(journey: Journey) -> None:
    def answer(ref: Ref, tensors: Tensors) -> Outputs:
        return Outputs(np.array([[np.nan], [1], [1]], np.float32), {0: "not finite"}, 0.0, 0.0)

    journey.engines.answer = answer
    predictions = (await journey.predict({"instances": FLATS}))["predictions"]
    assert [set(prediction) for prediction in predictions] == [{"error"}, {"value"}, {"value"}]


async def test_where_all_rows_failed_there_is_no_answer(journey: Journey) -> None:
    def nothing(ref: Ref, tensors: Tensors) -> Outputs:
        return Outputs(np.zeros((3, 0), np.float32), dict.fromkeys(range(3), "the network failed"), 0.0, 0.0)

    journey.engines.answer = nothing
    with pytest.raises(PredictionFailed) as raised:
        await journey.predict({"instances": FLATS})
    assert (raised.value.ref, raised.value.reason) == (RENT, "the network failed")
    assert journey.measured("servoloop_rows_total", outcome="failed") == 3
    assert journey.measured("servoloop_requests_total", outcome="prediction_failed") == 1


async def test_what_preprocessing_refuses_is_the_callers_to_mend(
    root: Path, registry: CollectorRegistry, threads: Threads
) -> None:
    folder = root / "mood" / "1" / "manifest.json"
    manifest = orjson.loads(folder.read_bytes())
    manifest["preprocess"].append({"step": "pad", "length": 8})
    folder.write_bytes(orjson.dumps(manifest))
    journey = Journey(root, registry, threads)
    with pytest.raises(UnprocessableInput) as raised:
        await journey.predict({"instances": ["a good film " * 3]}, "mood")
    assert raised.value.field == "instances"
    assert raised.value.problem.startswith("preprocessing refused it: pad to 8 can't hold a sequence of 9")
    assert journey.engines.calls == []


# What is measured


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (QueueFull(RENT, 1, 1), "queue_full"),
        (DeadlineExceeded(RENT, "the queue"), "deadline_exceeded"),
        (RuntimeError("a mistake of ours"), "unexpected_error"),
    ],
)
async def test_a_request_counts_under_what_became_of_it(journey: Journey, error: Exception, outcome: str) -> None:
    def refuse(ref: Ref, tensors: Tensors) -> Outputs:
        raise error

    journey.engines.answer = refuse
    with pytest.raises(type(error)):
        await journey.predict({"instances": FLATS})
    assert journey.measured("servoloop_requests_total", outcome=outcome) == 1
    assert journey.measured("servoloop_requests_total", outcome="ok") == 0
    assert journey.measured("servoloop_request_duration_seconds_count") == 1


async def test_refused_input_counts_as_such(journey: Journey) -> None:
    class TooLarge(Sent):
        async def read(self) -> bytes:
            raise BodyTooLarge(10)

    with pytest.raises(BodyTooLarge):
        await journey.send(TooLarge(b""))
    with pytest.raises(InvalidInput):
        await journey.predict({"instances": [[1]]})
    assert journey.measured("servoloop_requests_total", outcome="body_too_large") == 1
    assert journey.measured("servoloop_requests_total", outcome="unprocessable_input") == 1


async def test_every_stage_of_an_answered_request_is_measured(journey: Journey) -> None:
    await journey.predict({"instances": FLATS})
    assert [journey.stage(s) for s in ("parse", "preprocess", "queue", "compute", "encode")] == [1] * 5
    assert (journey.stage("queue", "sum"), journey.stage("compute", "sum")) == (0.25, 0.5)
    assert journey.measured("servoloop_rows_total", outcome="ok") == 3


# Off the event loop


async def test_small_bodies_are_prepared_where_they_arrive(journey: Journey, threads: Threads) -> None:
    await journey.predict({"instances": FLATS})
    await journey.predict({"instances": ["a good film"]}, "mood")
    assert threads.num_handed_over == 0


async def test_a_picture_is_decoded_in_a_thread_however_small_its_file(journey: Journey, threads: Threads) -> None:
    stream = io.BytesIO()
    Image.new("L", (28, 28)).save(stream, "PNG")
    await journey.send(Sent(stream.getvalue(), "image/png"), "clothes")
    encoded = base64.b64encode(stream.getvalue()).decode()
    await journey.predict({"instances": [{"image": encoded}]}, "clothes")
    assert threads.num_handed_over == 2


async def test_a_large_body_is_parsed_and_prepared_in_threads(journey: Journey, threads: Threads) -> None:
    await journey.send(Sent(orjson.dumps({"instances": FLATS}) + b" " * 70_000))
    assert threads.num_handed_over == 3


async def test_inputs_are_kept_as_they_came_beside_their_records(journey: Journey) -> None:
    await journey.predict({"instances": [[50, 2], [60, 3]]})
    await journey.predict({"instances": ["good"]}, "mood")
    assert [one.prediction_id for one in journey.log.inputs] == [one.id for one in journey.log.records]
    first, second, text = journey.log.inputs
    assert [np.load(io.BytesIO(one.data)).tolist() for one in (first, second)] == [[50, 2], [60, 3]]
    assert (text.form, text.data, text.model) == ("text", b"good", "mood")
