import asyncio
import contextlib
import dataclasses
import gc
import logging
import time
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Deadline, Ref
from service.errors import (
    BrokenContract,
    DeadlineExceeded,
    EngineLost,
    NotLoaded,
    NotReady,
    Overloaded,
    PredictionFailed,
    QueueFull,
    ServoloopError,
)
from service.serving.engine_client import EngineClient
from service.serving.engine_status import STALE_SECONDS
from service.telemetry.instruments import HttpTelemetry
from service.wire.frames import Frame, Kind
from service.wire.inference import InferHeader, InferResult, Outputs, result_frames
from tests.fakes import ManualClock, sample
from tests.service.serving.fake_engine import PATIENCE, FakeEngine, connected

REF, OTHER = Ref("m", 1), Ref("m", 2)
ROWS = Tensors(np.array([[1.0], [2.0]], np.float32))


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(tmp_path / "engine.sock")
    yield engine
    if engine._server is not None:
        await engine.die()


@pytest.fixture
async def client(
    engine: FakeEngine, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[EngineClient]:
    caplog.set_level(logging.CRITICAL)
    async with connected(EngineClient(engine.path, HttpTelemetry(registry), max_pending_rows=4)) as client:
        yield client


def ask(
    client: EngineClient, rows: Tensors = ROWS, *, seconds: float = PATIENCE, ref: Ref = REF
) -> asyncio.Task[Outputs]:
    return asyncio.create_task(client.infer(ref, rows, Deadline.after(seconds, now=time.monotonic())))


async def fails(asked: asyncio.Task[Outputs]) -> ServoloopError:
    with pytest.raises(ServoloopError) as raised:
        await asyncio.wait_for(asked, PATIENCE)
    return raised.value


async def ready(client: EngineClient, ref: Ref = REF) -> None:
    async with asyncio.timeout(PATIENCE):
        while client.why_unready(ref) is not None:
            await asyncio.sleep(0.001)


def result(request_id: int, values: Array) -> Frame:
    (frame,) = result_frames([InferResult(request_id, Outputs(values, {}, 0.0, 0.0))])
    return frame


async def nothing_else_was_sent(engine: FakeEngine, client: EngineClient) -> None:
    """What goes out next is what is asked next."""
    asked = ask(client, Tensors(np.array([[99.0]], np.float32)))
    request = await engine.asked()
    assert request.values == [[99]]
    engine.answer(request)
    await asked


# Answers


async def test_rows_go_out_and_their_outputs_come_back(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    asked = ask(client, seconds=5)
    request = await engine.asked()
    assert request.header == InferHeader(REF)
    assert 4 < request.time_left <= 5
    assert (request.values, request.tensors.lengths) == ([[1], [2]], None)
    engine.answer(request)
    outputs = await asked
    assert outputs.values.tolist() == [[10], [20]]
    assert (outputs.failures, outputs.queue_seconds, outputs.compute_seconds) == ({}, 0.25, 0.5)


async def test_sequences_go_out_packed_with_their_lengths(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    asked = ask(client, Tensors.packed([np.array([1, 2, 3]), np.array([4])]))
    request = await engine.asked()
    assert request.tensors.lengths is not None
    assert (request.values, request.tensors.lengths.tolist()) == ([1, 2, 3, 4], [3, 1])
    engine.send(result(request.request_id, np.zeros((2, 1))))
    assert len((await asked).values) == 2


async def test_answers_find_their_requests_in_any_order(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    asked = [ask(client, Tensors(np.array([[float(value)]], np.float32))) for value in range(4)]
    for request in reversed([await engine.asked() for _ in asked]):
        engine.answer(request)
    assert [(await each).values.item() for each in asked] == [0, 10, 20, 30]


async def test_failed_rows_come_with_their_reason(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    asked = ask(client)
    engine.answer(await engine.asked(), failures={1: "not finite"})
    assert (await asked).failures == {1: "not finite"}


@pytest.mark.parametrize(
    ("facts", "error", "attributes"),
    [
        (
            {"error": "queue_full", "queued": 3, "limit": 4, "unit": "rows", "wait": 2.5},
            QueueFull,
            {"queued": 3, "limit": 4, "retry_after": 3},
        ),
        ({"error": "overloaded", "wait": 4.0}, Overloaded, {"wait": 4.0, "retry_after": 4}),
        ({"error": "deadline", "where": "the queue"}, DeadlineExceeded, {"where": "the queue"}),
        ({"error": "not_ready", "reason": "gone"}, NotLoaded, {"reason": "gone"}),
        ({"error": "internal"}, PredictionFailed, {"reason": "the engine failed"}),
        ({}, PredictionFailed, {"reason": "the engine failed"}),
    ],
)
async def test_what_an_engine_refuses_keeps_its_facts(
    engine: FakeEngine, client: EngineClient, facts: dict[str, Any], error: type[Exception], attributes: dict[str, Any]
) -> None:
    await engine.start(REF)
    asked = ask(client)
    engine.send(Frame(Kind.FAILED, (await engine.asked()).request_id, meta=facts))
    raised = await fails(asked)
    assert type(raised) is error
    assert {name: getattr(raised, name) for name in attributes} == attributes
    assert raised.ref == REF  # type: ignore[attr-defined]


async def test_an_answer_of_a_wrong_number_of_rows_breaks_the_contract(
    engine: FakeEngine, client: EngineClient
) -> None:
    await engine.start(REF)
    asked = ask(client)
    request = await engine.asked()
    engine.send(result(request.request_id, np.zeros((3, 1))))
    assert isinstance(await fails(asked), BrokenContract)


async def test_an_answer_nobody_waits_for_is_dropped(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    await ready(client)
    engine.send(result(999, np.zeros((1, 1))))
    asked = ask(client)
    engine.answer(await engine.asked())
    await asked


# Waiting for an engine


async def test_what_arrives_before_the_engine_waits_for_it(engine: FakeEngine, client: EngineClient) -> None:
    asked = ask(client)
    await asyncio.sleep(0)
    await engine.start(REF)
    engine.answer(await engine.asked())
    assert len((await asked).values) == 2


async def test_what_waits_is_sent_once_its_version_is_ready(
    engine: FakeEngine, client: EngineClient, registry: CollectorRegistry
) -> None:
    await engine.start(OTHER)
    await ready(client, OTHER)
    asked = ask(client)
    await asyncio.sleep(0)
    engine.say(OTHER)
    engine.say(OTHER, REF)
    engine.answer(await engine.asked())
    await asked
    await nothing_else_was_sent(engine, client)
    assert sample(registry, "servoloop_requests_resent_total") == 0


async def test_another_status_sends_nothing_twice(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    asked = ask(client)
    request = await engine.asked()
    for also in ((), (), (OTHER,)):
        engine.say(REF, *also)
    engine.answer(request)
    await asked
    await nothing_else_was_sent(engine, client)


async def test_a_version_that_is_never_ready_is_not_ready_at_the_deadline(client: EngineClient) -> None:
    error = await fails(ask(client, seconds=0.01))
    assert isinstance(error, NotReady)
    assert error.reason == "its engine is starting"


async def test_an_engine_that_does_not_answer_is_given_up_at_the_deadline(
    engine: FakeEngine, client: EngineClient
) -> None:
    await engine.start(REF)
    await ready(client)
    error = await fails(ask(client, seconds=0.01))
    assert isinstance(error, DeadlineExceeded)
    assert error.where == "the engine"
    request = await engine.asked()
    assert (await engine.next(Kind.CANCEL)).request_id == request.request_id


async def test_each_of_many_is_given_up_at_its_own_deadline(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    await ready(client)
    row, before = Tensors(np.array([[1.0]], np.float32)), time.monotonic()
    answered = ask(client, row, seconds=PATIENCE)
    late = {seconds: ask(client, row, seconds=seconds) for seconds in (0.4, 0.01, 0.2)}
    engine.answer(await engine.asked())
    assert (await answered).values.tolist() == [[10]]
    for seconds in sorted(late):
        assert isinstance(await fails(late[seconds]), DeadlineExceeded)
        assert time.monotonic() >= before + seconds


async def test_a_deadline_before_all_others_is_kept_to(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    await ready(client)
    patient = ask(client, seconds=10 * PATIENCE)
    await engine.asked()
    assert isinstance(await fails(ask(client, seconds=0.01)), DeadlineExceeded)
    assert not patient.done()
    patient.cancel()


async def test_after_the_last_was_given_up_the_next_is_too(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    await ready(client)
    for _ in range(2):
        assert isinstance(await fails(ask(client, seconds=0.01)), DeadlineExceeded)


@pytest.mark.parametrize("known", [True, False], ids=["known before", "heard while waiting"])
async def test_a_version_that_could_not_be_loaded_is_refused_at_once(
    engine: FakeEngine, client: EngineClient, known: bool
) -> None:
    broken = {REF: "its sha256 differs"}
    await engine.start(OTHER, failed=broken if known else None)
    await ready(client, OTHER)
    asked = ask(client)
    await asyncio.sleep(0)
    if not known:
        engine.say(OTHER, failed=broken)
    error = await fails(asked)
    assert isinstance(error, NotReady)
    assert error.reason == "it could not be loaded"


# An engine that is lost


async def test_what_a_lost_engine_held_is_sent_once_more_to_its_successor(
    engine: FakeEngine, client: EngineClient, registry: CollectorRegistry
) -> None:
    await engine.start(REF)
    asked = ask(client)
    first = await engine.asked()
    await engine.die()
    await engine.start(REF)
    again = await engine.asked()
    assert again.request_id == first.request_id
    assert again.time_left <= first.time_left
    engine.answer(again)
    assert (await asked).values.tolist() == [[10], [20]]
    assert sample(registry, "servoloop_requests_resent_total") == 1


async def test_a_request_that_loses_engine_after_engine_is_given_up(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    asked = ask(client)
    for _ in range(10):
        await engine.asked()
        await engine.die()
        await engine.start(REF)
    error = await fails(asked)
    assert isinstance(error, EngineLost)
    assert error.ref == REF
    await ready(client)
    await nothing_else_was_sent(engine, client)


async def test_a_lost_engine_is_not_ready(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    await ready(client)
    await engine.die()
    async with asyncio.timeout(PATIENCE):
        while client.why_unready(REF) is None:
            await asyncio.sleep(0.001)
    assert not client.status.ready


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Kind.RESULT),
        Frame(Kind.RESULT, arrays=[np.array([[1, 2, 0, 0]])]),
        Frame(Kind.FAILED, 1, meta={"error": "queue_full"}),
    ],
    ids=["no arrays", "no outputs", "no facts"],
)
async def test_an_engine_whose_answer_cannot_be_read_is_cut_off_like_a_lost_one(
    engine: FakeEngine, client: EngineClient, frame: Frame
) -> None:
    await engine.start(REF)
    asked = ask(client)
    engine.send(dataclasses.replace(frame, request_id=(await engine.asked()).request_id))
    engine.answer(await engine.asked())
    assert (await asked).values.tolist() == [[10], [20]]


# Giving up, and bounds


async def test_a_caller_that_leaves_cancels_its_request(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    asked = ask(client)
    request = await engine.asked()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert (await engine.next(Kind.CANCEL)).request_id == request.request_id


async def test_an_answered_request_is_not_cancelled(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    for _ in range(2):
        asked = ask(client)
        engine.answer(await engine.asked())
        await asked
    await nothing_else_was_sent(engine, client)


async def test_rows_that_wait_are_bounded(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    held = [ask(client), ask(client)]
    requests = [await engine.asked() for _ in held]
    error = await fails(ask(client))
    assert isinstance(error, QueueFull)
    assert (error.queued, error.limit) == (4, 4)
    for request in requests:
        engine.answer(request)
    await asyncio.gather(*held)


async def test_a_request_that_ended_in_any_way_makes_room(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    cancelled = ask(client)
    await engine.asked()
    cancelled.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cancelled
    await engine.next(Kind.CANCEL)
    refused = ask(client)
    engine.send(Frame(Kind.FAILED, (await engine.asked()).request_id, meta={}))
    await fails(refused)
    held = [ask(client), ask(client)]
    for _ in held:
        engine.answer(await engine.asked())
    await asyncio.gather(*held)


# What is ready


async def test_ready_is_what_the_engine_says(engine: FakeEngine, client: EngineClient) -> None:
    assert client.why_unready(REF) is not None
    await engine.start(REF)
    await ready(client)
    assert client.why_unready(OTHER) is not None
    assert set(client.status.ready) == {REF}


async def test_an_engine_that_was_not_heard_of_lately_is_not_ready(
    engine: FakeEngine, registry: CollectorRegistry
) -> None:
    await engine.start(REF)
    clock = ManualClock()
    async with connected(EngineClient(engine.path, HttpTelemetry(registry), max_pending_rows=4, clock=clock)) as client:
        await ready(client)
        clock.advance(STALE_SECONDS - 0.01)
        assert client.why_unready(REF) is None
        clock.advance(0.01)
        assert client.why_unready(REF) is not None
        engine.say(REF)
        await ready(client)


async def test_leaving_the_client_closes_its_connection(engine: FakeEngine, registry: CollectorRegistry) -> None:
    await engine.start(REF)
    async with connected(EngineClient(engine.path, HttpTelemetry(registry), max_pending_rows=4)) as client:
        await ready(client)
        (link,) = engine._links
    await asyncio.wait_for(link.lost, PATIENCE)


async def test_nothing_keeps_a_client_that_was_stopped(engine: FakeEngine, registry: CollectorRegistry) -> None:
    await engine.start(REF)
    client = EngineClient(engine.path, HttpTelemetry(registry), max_pending_rows=4)
    client.start()
    asked = ask(client, seconds=3600)
    await engine.asked()
    await client.stop()
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    left = weakref.ref(client)
    del client, asked
    await asyncio.sleep(0)
    gc.collect()
    assert left() is None
