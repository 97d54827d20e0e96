"""The journey of a prediction while a challenger answers a share."""

import io

import numpy as np
import orjson
import pytest
from PIL import Image

from models.preprocess import Tensors
from service.domain import Deadline, Ref, Stage
from service.errors import (
    DeadlineExceeded,
    NotReady,
    PredictionFailed,
    QueueFull,
    ServoloopError,
    UnprocessableInput,
)
from service.serving.inference_protocol import codec as inference_protocol
from service.serving.trials import place_of
from service.wire.inference import Outputs
from tests.service.serving.journey import MAX_REQUESTS, Journey, Sent
from tests.service.serving.on_trial import BODY, CHALLENGER, CHAMPION, SALT, begin, fallbacks, told, told_in


async def test_each_answer_is_of_one_version_from_preprocessing_to_the_log(journey: Journey) -> None:
    begin(journey, Stage.CANARY)
    journey.draws.next.extend([0.1, 0.9])
    answers = [await journey.predict(BODY, "clothes") for _ in range(2)]
    assert [told_in(answer) for answer in answers] == [("2", "2"), ("1", "1")]
    assert [(ref, float(tensors.values.max())) for ref, tensors, _ in journey.engines.calls] == [
        (CHALLENGER, 1.0),
        (CHAMPION, pytest.approx(10 / 255)),
    ]
    assert [(one.version, one.propensity, one.role, one.paired_with) for one in journey.log.records] == [
        (2, 0.25, "answered", None),
        (1, 0.75, "answered", None),
    ]
    assert [one.id for one in journey.log.records] == [answer["prediction_ids"][0] for answer in answers]
    digests = {one.digest for one in journey.log.records}
    assert len(digests) == 2
    assert [one.prediction_id for one in journey.log.inputs] == [one.id for one in journey.log.records]
    for ref in (CHAMPION, CHALLENGER):
        assert journey.measured("servoloop_requests_total", ref, outcome="ok") == 1
        assert journey.measured("servoloop_request_duration_seconds_count", ref) == 1


async def test_the_key_of_the_body_counts_before_that_of_the_header(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=0.5)
    mine = next(key for key in map(str, range(100)) if place_of(SALT, key) < 0.5)
    others = next(key for key in map(str, range(100)) if place_of(SALT, key) >= 0.5)
    for header, in_body, version in [(mine, None, "2"), (others, None, "1"), (others, mine, "2"), (mine, others, "1")]:
        body = BODY if in_body is None else {**BODY, "parameters": {"key": in_body}}
        assert told_in(await journey.send(Sent(body), "clothes", key=header)) == (version, version)
        assert journey.log.records[-1].key == (in_body or header)


async def test_a_key_in_the_query_of_a_raw_body_counts_too(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=0.5)
    mine = next(key for key in map(str, range(100)) if place_of(SALT, key) < 0.5)
    array = np.full((28, 28), 10, np.uint8)
    path = b"\x93NUMPY\x01\x00v\x00{'descr': '|u1', 'fortran_order': False, 'shape': (28, 28), }"
    data = path.ljust(127) + b"\n" + array.tobytes()
    answer = await journey.send(Sent(data, "application/x-npy", key=mine), "clothes")
    assert told_in(answer) == ("2", "2")


async def test_who_names_a_version_gets_it_whatever_is_on_trial(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=1.0)
    for version in ("1", "2"):
        assert told_in(await journey.send(Sent(BODY), "clothes", version=version)) == (version, version)
    assert [one.propensity for one in journey.log.records] == [1.0, 1.0]
    assert told_in(await journey.send(Sent(BODY), "clothes", alias="champion")) == ("1", "1")


@pytest.mark.parametrize(
    "error",
    [
        NotReady(CHALLENGER, "it was just unloaded"),
        QueueFull(CHALLENGER, 1, 1),
        PredictionFailed(CHALLENGER, "it is not finite"),
        DeadlineExceeded(CHALLENGER, "the queue"),
        RuntimeError("a bug"),
    ],
)
async def test_what_the_challenger_fails_of_the_champion_answers(journey: Journey, error: Exception) -> None:
    def fails(ref: Ref, tensors: Tensors) -> Outputs:
        if ref == CHALLENGER:
            raise error
        return told(ref, tensors)

    begin(journey, Stage.CANARY, share=0.6)
    journey.engines.answer = fails
    assert told_in(await journey.predict(BODY, "clothes")) == ("1", "1")
    kind = error.kind if isinstance(error, ServoloopError) else "unexpected_error"
    assert fallbacks(journey, kind) == 1
    [record] = journey.log.records
    assert (record.version, record.propensity) == (1, 1.0)
    assert journey.measured("servoloop_requests_total", CHAMPION, outcome="ok") == 1
    assert journey.measured("servoloop_requests_total", CHALLENGER, outcome="ok") == 0


async def test_what_the_challenger_alone_refuses_the_champion_answers(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=1.0)
    trial = journey.router.trial(next(iter(journey.router._trials)))
    assert trial is not None
    assert trial.target is not None

    def refuses(_: object) -> Tensors:
        raise ValueError("not this one")

    object.__setattr__(trial.target, "preprocess", refuses)
    assert told_in(await journey.predict(BODY, "clothes")) == ("1", "1")
    assert fallbacks(journey, UnprocessableInput.kind) == 1


async def test_a_row_that_fails_in_the_challenger_is_no_failure_of_the_other_protocol(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=1.0)

    def fails(ref: Ref, tensors: Tensors) -> Outputs:
        outputs = told(ref, tensors)
        return outputs._replace(failures={1: "it is not finite"}) if ref == CHALLENGER else outputs

    journey.engines.answer = fails
    answer = await journey.send(picture(2), "clothes", parse=inference_protocol.parse)
    assert answer["model_version"] == "1"
    assert fallbacks(journey, "prediction_failed") == 1


async def test_the_challenger_has_half_of_the_time_and_the_champion_the_rest(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=1.0)

    def slow(ref: Ref, tensors: Tensors) -> Outputs:
        if ref == CHALLENGER:
            journey.clock.advance(4)
            raise DeadlineExceeded(ref, "the queue")
        return told(ref, tensors)

    journey.engines.answer = slow
    await journey.send(Sent(BODY), "clothes", header=8.0)
    assert [deadline for _, _, deadline in journey.engines.calls] == [Deadline(54.0), Deadline(58.0)]


async def test_a_request_whose_time_is_over_with_the_challenger_fails_as_it_would_without(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=1.0)

    def slow(ref: Ref, tensors: Tensors) -> Outputs:
        journey.clock.advance(8)
        raise DeadlineExceeded(ref, "the queue")

    journey.engines.answer = slow
    with pytest.raises(DeadlineExceeded):
        await journey.send(Sent(BODY), "clothes", header=8.0)
    assert journey.measured("servoloop_requests_total", CHAMPION, outcome="deadline_exceeded") == 1


async def test_a_full_challenger_leaves_room_with_the_champion(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=1.0)
    for _ in range(MAX_REQUESTS):
        journey.pipeline._admission.enter(CHALLENGER)
    assert told_in(await journey.predict(BODY, "clothes")) == ("1", "1")
    assert fallbacks(journey, "queue_full") == 1


async def test_what_is_wrong_with_a_request_is_said_before_anybody_is_chosen(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=1.0)
    with pytest.raises(UnprocessableInput):
        await journey.predict({"instances": [[1, 2]]}, "clothes")
    assert (journey.engines.calls, journey.log.records) == ([], [])


def picture(rows: int = 1) -> Sent:
    """As the Open Inference Protocol's binary extension has it: bytes behind the JSON, each row behind its length."""
    file = io.BytesIO()
    Image.fromarray(np.full((28, 28), 10, np.uint8)).save(file, "PNG")
    elements = (len(file.getvalue()).to_bytes(4, "little") + file.getvalue()) * rows
    said = {"binary_data_size": len(elements)}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [rows, 1], "parameters": said}
    head = orjson.dumps({"inputs": [tensor]})
    sent = Sent(head + elements, "application/octet-stream")
    sent.json_length = str(len(head))
    return sent


def prepared() -> Sent:
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 1, 28, 28], "data": [0.5] * 784}
    return Sent({"inputs": [tensor]})


async def test_the_open_inference_protocol_is_routed_by_its_key_and_answered_by_one_version(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=0.5)
    for key in map(str, range(12)):
        version = 2 if place_of(SALT, key) < 0.5 else 1
        answer = await journey.send(picture(), "clothes", key=key, parse=inference_protocol.parse)
        [label] = [one["data"] for one in answer["outputs"] if one["name"] == "label"]
        named = journey.router.choose(next(iter(journey.router._trials))).manifest.labels[version]
        assert (answer["model_version"], label) == (str(version), [named])
        assert journey.log.records[-1].version == version


async def test_tensors_prepared_for_the_champion_stay_with_it(journey: Journey) -> None:
    begin(journey, Stage.CANARY, share=1.0)
    answer = await journey.send(prepared(), "clothes", parse=inference_protocol.parse)
    assert (answer["model_version"], fallbacks(journey, "prepared")) == ("1", 1)
    assert journey.log.records[0].propensity == 1.0
