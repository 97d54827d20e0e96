"""What a client asks of its engine and hears of it, while there is one."""

import asyncio
import contextlib
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.errors import BrokenContract, DeadlineExceeded, NotLoaded, Overloaded, PredictionFailed, QueueFull
from service.serving.engine_client import EngineClient
from service.serving.engine_status import STALE_SECONDS
from service.telemetry.instruments import HttpTelemetry
from service.wire.frames import Frame, Kind
from service.wire.inference import InferHeader, InferResult, Outputs, result_frames
from service.wire.statistics import Statistics, counted_frame
from tests.fakes import ManualClock
from tests.patience import PATIENCE
from tests.service.serving.asking import OTHER, REF, ask, fails, nothing_else_was_sent, ready
from tests.service.serving.fake_engine import FakeEngine, connected


def result(request_id: int, values: Array) -> Frame:
    (frame,) = result_frames([InferResult(request_id, Outputs(values, {}, 0.0, 0.0))])
    return frame


# Answers


async def test_rows_go_out_and_their_outputs_come_back(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    asked = ask(client, seconds=60)
    request = await engine.asked()
    assert request.header == InferHeader(REF)
    assert 50 < request.time_left <= 60
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


# What it counted


async def test_what_the_engine_counted_is_asked_for(engine: FakeEngine, client: EngineClient) -> None:
    await engine.start(REF)
    await ready(client)
    asked = asyncio.create_task(client.statistics())
    frame = await engine.next(Kind.COUNT)
    engine.send(counted_frame(frame.request_id + 1, {}))  # of another asker, or too late
    engine.send(counted_frame(frame.request_id, {REF: Statistics(rows=3)}))
    assert await asked == {REF: Statistics(rows=3)}


async def test_an_engine_that_dies_has_counted_nothing(engine: FakeEngine, client: EngineClient) -> None:
    assert await client.statistics() == {}
    await engine.start(REF)
    await ready(client)
    asked = asyncio.create_task(client.statistics())
    await engine.next(Kind.COUNT)
    await engine.die()
    assert await asked == {}
