"""What an engine answers over its socket to whoever loads a version, loads it again, or unloads it."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.domain import Precision, Ref
from service.wire.frames import Kind
from service.wire.inference import results_in
from service.wire.report import ReplicaReport, Report
from tests.fakes import FakeRunner, sample
from tests.patience import PATIENCE
from tests.service.engine.peer import (
    GONE,
    HISTORY,
    KEPT,
    LABELS,
    NOTHING,
    REF,
    Connect,
    Gate,
    Peer,
    loaded,
    until,
)

OUTCOMES = ("ok", "reloaded", "failed")


async def ready(peer: Peer, *refs: Ref) -> Report:
    """The next report in which exactly these versions take requests."""
    while set((report := await peer.report()).ready) != set(refs):
        pass
    return report


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("broken", "its sha256 differs"),
        ("crash", "loading failed"),
        ("large", "the device's memory does not suffice for it"),
    ],
)
async def test_every_load_is_answered_also_one_that_fails(
    connect: Connect, folder: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    peer = await connect()
    peer.load(3, folder)
    failed = await peer.next(Kind.FAILED)
    assert (failed.request_id, failed.meta) == (3, {"reason": reason})
    assert await peer.report() == replace(NOTHING, failed={REF: reason, GONE: "it was taken out"})
    peer.load(4, "good")
    await peer.next(Kind.LOADED)
    said = await peer.report()
    assert (set(said.ready), said.failed) == ({REF}, NOTHING.failed)


async def test_what_lies_on_the_device_is_told_with_its_size_and_how_long_nobody_asked(connect: Connect) -> None:
    peer = await connect()
    peer.load(1, generation=4, precision=Precision.BFLOAT16)
    replica = ReplicaReport(FakeRunner.num_bytes, 4, Precision.BFLOAT16, None, FakeRunner.execution)
    assert (await ready(peer, REF)).replicas == {REF: replica}, "nobody has asked it yet"
    peer.infer(2, np.ones((1, 1), np.float32))
    await peer.next(Kind.RESULT)
    peer.load(3, generation=5)
    await peer.next(Kind.LOADED)
    idle = (await ready(peer, REF)).replicas[REF].idle
    assert idle is not None
    assert 0 <= idle < PATIENCE


async def test_what_is_loaded_already_is_answered_at_once_and_another_generation_takes_its_place(
    connect: Connect, registry: CollectorRegistry
) -> None:
    peer = await loaded(connect)
    peer.load(2, "broken")  # it is not looked at
    assert (await peer.next(Kind.LOADED)).request_id == 2
    peer.load(3, generation=1)
    assert (await peer.next(Kind.LOADED)).request_id == 3
    assert (await peer.report()).replicas[REF].generation == 1
    outcomes = {name: sample(registry, "servoloop_loads_total", {**LABELS, "outcome": name}) for name in OUTCOMES}
    assert outcomes == {"ok": 1, "reloaded": 1, "failed": 0}


async def test_a_reload_that_fails_is_told_and_what_was_loaded_answers(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    peer = await loaded(connect)
    peer.load(2, "broken", generation=1)
    failed = await peer.next(Kind.FAILED)
    assert (failed.request_id, failed.meta) == (2, {"reason": "its sha256 differs"})
    said = await peer.report()
    assert (set(said.ready), said.failed) == ({REF}, NOTHING.failed)
    assert said.replicas[REF].generation == 0
    peer.infer(3, np.ones((1, 1), np.float32))
    await peer.next(Kind.RESULT)
    peer.load(4, generation=1)
    assert (await peer.next(Kind.LOADED)).request_id == 4
    assert (await peer.report()).replicas[REF].generation == 1


async def test_an_unload_answers_what_waits_and_refuses_what_comes(connect: Connect, gate: Gate) -> None:
    peer = await loaded(connect)
    gate.open.clear()
    row = np.ones((1, 1), np.float32)
    peer.infer(11, row)
    await until(lambda: gate.num_entered == 1)
    peer.infer(12, row)
    peer.unload(2)
    said = await ready(peer)
    assert (said.unloading, set(said.replicas)) == ({REF}, {REF})
    peer.infer(13, row)
    refused = await peer.next(Kind.FAILED)
    assert (refused.request_id, refused.meta) == (13, {"error": "not_ready", "reason": "it is being unloaded"})
    gate.open.set()
    answered = [await peer.next() for _ in range(3)]
    assert [frame.kind for frame in answered] == [Kind.RESULT, Kind.RESULT, Kind.UNLOADED]
    assert [answer.request_id for frame in answered[:2] for answer in results_in(frame)] == [11, 12]
    assert answered[-1].request_id == 2
    assert Report.from_frame(await peer.next()) == NOTHING
    peer.infer(14, row)
    assert (await peer.next(Kind.FAILED)).meta["reason"] == "it is not loaded on this engine"


async def test_what_is_not_loaded_is_unloaded_at_once(connect: Connect) -> None:
    peer = await connect()
    peer.unload(2)
    assert (await peer.next(Kind.UNLOADED)).request_id == 2


async def test_the_failure_of_a_version_is_forgotten_when_it_is_unloaded(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    peer = await connect()
    peer.load(1, "broken")
    await peer.next(Kind.FAILED)
    peer.unload(2)
    await peer.next(Kind.UNLOADED)
    assert await peer.report() == NOTHING


async def test_a_version_taken_out_is_loaded_only_with_a_pardon_which_all_hear_of(connect: Connect) -> None:
    peer, other = await connect(), await connect()
    for each in (peer, other):
        await each.next(Kind.STATUS)
    peer.load(1, ref=GONE)
    assert (await peer.next()).meta == {"reason": "it was taken out"}
    for each in (peer, other):
        # At once, not with the next beat: until then whoever asked takes it for loading.
        assert Report.from_frame(await each.next()) == NOTHING
    peer.load(2, ref=GONE, pardon=True)
    pardoned = replace(HISTORY, quarantined={b"k" * 16: KEPT}, withdrawn={})
    for each in (peer, other):
        said = await each.report()
        assert (said.history, said.failed) == (pardoned, {})
    await peer.next(Kind.LOADED)
    await ready(other, GONE)
    greeting = Report.from_frame(await (await connect()).next())
    assert greeting.history == pardoned
