"""What an engine answers over its socket: who connects, rows, whoever leaves or breaks the contract, and beats."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.domain import BatchPolicy, Ref
from service.engine.core import Engine
from service.engine.loading import Loader
from service.engine.server import EngineServer
from service.telemetry.instruments import EngineTelemetry
from service.wire.frames import Frame, Kind
from service.wire.inference import InferHeader, InferRequest, infer_frame, results_in
from service.wire.report import Report, load_frame
from service.wire.statistics import statistics_in
from tests.fakes import FakeRunner, sample
from tests.patience import PATIENCE
from tests.service.engine.peer import (
    DEVICE,
    HISTORY,
    LABELS,
    NOTHING,
    REF,
    WANTED,
    Connect,
    Gate,
    Peer,
    loaded,
    until,
)

SAID_OF_LOAD = load_frame(1, WANTED, pardon=False).meta


async def test_whoever_connects_hears_what_is_loaded(connect: Connect) -> None:
    peer = await connect()
    assert Report.from_frame(await peer.next()) == replace(NOTHING, history=HISTORY)
    peer.load(7)
    loaded = await peer.next(Kind.LOADED)
    assert loaded.request_id == 7
    said = Report.from_frame(await peer.next())
    assert (set(said.ready), said.failed, said.history) == ({REF}, NOTHING.failed, None)
    assert 0 <= said.ready[REF] < PATIENCE
    greeting = Report.from_frame(await (await connect()).next())
    assert (set(greeting.ready), greeting.history) == ({REF}, HISTORY)


async def test_rows_are_answered_under_their_id(connect: Connect) -> None:
    peer = await loaded(connect)
    peer.infer(11, np.array([[1.0, 2.0]], np.float32))
    answer = await peer.answer()
    assert answer.request_id == 11
    assert answer.outputs.values.tolist() == [[3, 2]]
    assert answer.outputs.failures == {}


async def test_answers_of_one_batch_come_together(connect: Connect, gate: Gate) -> None:
    peer = await loaded(connect)
    gate.open.clear()
    row = np.ones((1, 1), np.float32)
    peer.infer(1, row)
    await until(lambda: gate.num_entered == 1)
    asked = [InferRequest(number, PATIENCE, Tensors(number * row)) for number in (2, 3)]
    peer.link.send(infer_frame(InferHeader(REF), asked))
    peer.infer(4, 4 * row)
    gate.open.set()
    assert (await peer.answer()).request_id == 1
    answers = results_in(await peer.next(Kind.RESULT))
    assert {answer.request_id: answer.outputs.values.tolist() for answer in answers} == {
        2: [[2, 1]],
        3: [[3, 1]],
        4: [[4, 1]],
    }


async def test_packed_sequences_are_answered_row_by_row(connect: Connect) -> None:
    peer = await loaded(connect)
    peer.infer(11, np.array([1, 2, 3], np.int64), np.array([1, 2], np.int32))
    assert (await peer.answer()).outputs.values.tolist() == [[1, 1], [5, 2]]


async def test_failed_rows_are_named(connect: Connect) -> None:
    peer = await loaded(connect)
    peer.infer(11, np.array([[1.0], [np.nan]], np.float32))
    assert (await peer.answer()).outputs.failures == {1: "the network's answer for this row is not finite"}


async def test_what_was_counted_is_told_when_it_is_asked_for(connect: Connect) -> None:
    peer = await loaded(connect)
    peer.infer(11, np.array([[1.0], [2.0]], np.float32))
    await peer.answer()
    peer.infer(12, np.array([[FakeRunner.POISON]], np.float32))
    await peer.answer()
    peer.link.send(Frame(Kind.COUNT, 13))
    frame = await peer.next(Kind.COUNTED)
    assert frame.request_id == 13
    counted = statistics_in(frame)[REF]
    assert (counted.rows, counted.executions) == (3, 2)
    assert (counted.success.count, counted.fail.count, counted.queue.count) == (1, 1, 1)
    assert counted.batches.keys() == {1, 2}
    assert counted.num_bytes == {"cpu": FakeRunner.num_bytes}


async def test_refusals_carry_their_facts(connect: Connect) -> None:
    peer = await loaded(connect)
    peer.infer(1, np.zeros((5, 1), np.float32))
    peer.infer(2, np.zeros((1, 1), np.float32), time_left=0.0)
    peer.infer(3, np.zeros((1, 1), np.float32), ref=Ref("other", 1))
    failed = {frame.request_id: frame.meta for frame in [await peer.next(Kind.FAILED) for _ in range(3)]}
    assert failed == {
        1: {"error": "queue_full", "queued": 0, "limit": 4, "unit": "rows", "wait": 0.0},
        2: {"error": "deadline", "where": "the queue"},
        3: {"error": "not_ready", "reason": "it is not loaded on this engine"},
    }


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Kind.RESULT, 1),
        Frame(Kind.INFER),
        Frame(Kind.LOAD, 1, meta={key: value for key, value in SAID_OF_LOAD.items() if key != "folder"}),
        Frame(Kind.LOAD, 1, meta={**SAID_OF_LOAD, "precision": "int8"}),
        Frame(Kind.UNLOAD, 1),
    ],
    ids=["a result", "no model", "no folder", "no precision", "no version"],
)
async def test_a_peer_that_breaks_the_contract_is_cut_off_and_others_are_served(
    connect: Connect, frame: Frame, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    peer, good = await connect(), await loaded(connect)
    peer.link.send(frame)
    await asyncio.wait_for(peer.link.lost, PATIENCE)
    good.infer(1, np.zeros((1, 1), np.float32))
    await good.next(Kind.RESULT)


async def test_the_requests_of_a_peer_that_leaves_are_cancelled(
    connect: Connect, gate: Gate, registry: CollectorRegistry
) -> None:
    stays, leaves = await loaded(connect), await connect()
    gate.open.clear()
    stays.infer(1, np.zeros((1, 1), np.float32))
    await until(lambda: gate.num_entered == 1)
    leaves.infer(1, np.zeros((3, 1), np.float32))
    await until(lambda: sample(registry, "servoloop_queue_rows", LABELS) == 3)
    leaves.link.close()
    await until(lambda: sample(registry, "servoloop_queue_rows", LABELS) == 0)
    assert sample(registry, "servoloop_dropped_rows_total", {**LABELS, "reason": "cancelled"}) == 3
    gate.open.set()
    await stays.next(Kind.RESULT)
    assert sample(registry, "servoloop_batch_rows_sum", LABELS) == 1


async def test_a_cancelled_request_is_not_answered(connect: Connect, gate: Gate) -> None:
    peer = await loaded(connect)
    gate.open.clear()
    peer.infer(1, np.zeros((1, 1), np.float32))
    peer.link.send(Frame(Kind.CANCEL, 1))
    peer.link.send(Frame(Kind.CANCEL, 99))
    peer.infer(2, np.zeros((1, 1), np.float32))
    gate.open.set()
    assert (await peer.answer()).request_id == 2


async def test_a_beat_tells_all_that_the_engine_lives(
    registry: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats: list[float] = []
    monkeypatch.setattr("service.engine.server._BEAT_SECONDS", 0.001)
    telemetry = EngineTelemetry(registry)
    engine = Engine(BatchPolicy(), telemetry)
    loader = Loader(engine, lambda _: FakeRunner(), telemetry)
    server = EngineServer(engine, loader, HISTORY, beats.append, DEVICE, telemetry)
    path = str(tmp_path / "engine.sock")
    listening = await asyncio.get_running_loop().create_unix_server(server.connection, path)
    peer = Peer()
    await asyncio.get_running_loop().create_unix_connection(lambda: peer.link, path)
    await peer.next(Kind.STATUS)
    beating = asyncio.create_task(server.beat())
    assert [(await peer.next()).kind for _ in range(3)] == [Kind.STATUS] * 3
    assert len(beats) >= 3
    assert beats == sorted(beats)
    assert sample(registry, "servoloop_device_free_bytes", {"device": "cpu"}) == 400
    beating.cancel()
    peer.link.close()
    listening.close()
