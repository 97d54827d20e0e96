"""What becomes of requests while no engine answers: they wait, go to the next one, and end at their deadline."""

import asyncio
import dataclasses
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.errors import DeadlineExceeded, EngineLost, NotReady
from service.serving.engine_client import EngineClient
from service.wire.frames import Frame, Kind
from tests.fakes import sample
from tests.patience import PATIENCE
from tests.service.serving.asking import OTHER, REF, ask, fails, nothing_else_was_sent, ready
from tests.service.serving.fake_engine import FakeEngine

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
