"""Both ends of the recorder's socket: the log in an http process, and the server that commits."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from service.domain import Loading, Precision, Ref, Wish
from service.errors import (
    AliasMoved,
    BrokenContract,
    StoreUnavailable,
    UnknownModel,
    UnknownVersion,
    VersionInUse,
    VersionUnloaded,
)
from service.store.base import Filters, WishChange
from service.store.control_client import ControlClient
from service.store.feedback_client import FeedbackClient
from service.store.prediction_log import PredictionLog
from service.store.record_queue import LogPolicy
from service.wire.frames import Frame, Kind
from service.wire.link import Link
from tests.fakes import sample
from tests.patience import PATIENCE
from tests.service.store.recording import DAY, Place, until
from tests.stores import a_record, an_event


async def test_what_is_recorded_becomes_durable_and_its_lag_is_measured(place: Place) -> None:
    record = a_record(tags={"país": "España"})
    async with place.recorder(), place.log() as log:
        log.record([record])
        await until(place.written)
        assert place.gate.store.predictions.get(record.id) == record
    assert sample(place.http_registry, "servoloop_log_lag_seconds_sum") > 0
    assert sample(place.http_registry, "servoloop_log_lag_seconds_count") == 1


async def test_what_arrives_during_a_commit_is_committed_together(place: Place) -> None:
    async with place.recorder() as server, place.log() as log, place.log() as other:
        place.gate.open.clear()
        log.record([a_record()])
        await until(place.gate.reached.is_set)
        for one in (log, other):
            one.record(a_record() for _ in range(30))
        await until(lambda: sum(len(gathered.records) for gathered in server._gathered) == 60)
        place.gate.open.set()
        await until(lambda: len(place.written()) == 61)
    assert place.gate.groups == [1, 60]
    assert sample(place.registry, "servoloop_log_group_records_sum") == 61
    assert sample(place.registry, "servoloop_log_group_records_count") == 2
    assert sample(place.registry, "servoloop_log_written_records_total") == 61


async def test_a_group_that_is_worth_a_commit_waits_for_no_more(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.record_queue._GATHER_SECONDS", 3600.0)
    async with place.recorder(), place.log(LogPolicy(full_group_records=3)) as log:
        await until(lambda: log._link.is_open)
        log.record([a_record(), a_record()])
        assert log._timer is not None
        log.record([a_record()])
        await until(lambda: len(place.written()) == 3)


async def test_after_a_slow_commit_records_gather_for_less(place: Place) -> None:
    async with place.recorder(), PredictionLog(place.path, place.http_telemetry, clock=place.clock) as log:
        place.gate.open.clear()
        log.record([a_record()])
        await until(place.gate.reached.is_set)
        place.clock.advance(0.05)
        place.gate.open.set()
        await until(lambda: not len(log._queue))
        log.record([a_record()])
        assert log._timer is not None
        assert log._timer.when() <= asyncio.get_running_loop().time() + 0.021


async def test_at_its_end_it_waits_until_all_is_durable(place: Place) -> None:
    records = [a_record() for _ in range(2500)]
    async with place.recorder():
        async with place.log() as log:
            log.record(records)
        assert len(log._queue) == 0
    assert {record.id for record in records} == {
        record.id for record in place.gate.store.predictions.list(Filters(), limit=3000).records
    }


async def test_what_was_recorded_before_there_is_a_recorder_waits_for_it(place: Place) -> None:
    record = a_record()
    async with place.log() as log:
        log.record([record])
        await asyncio.sleep(0)
        async with place.recorder():
            await until(place.written)
    assert place.written() == {record.id}
    assert place.dropped("undelivered") == 0


async def test_what_is_not_acknowledged_is_sent_to_the_recorders_successor_and_written_once(place: Place) -> None:
    records = [a_record() for _ in range(3)]
    loop = asyncio.get_running_loop()
    swallowed: list[Frame] = []
    link: Link | None = None

    def mute() -> Link:
        nonlocal link
        link = Link(swallowed.append)
        return link

    async with place.log() as log:
        # The first recorder commits what it got, and dies before it says so.
        listening = await loop.create_unix_server(mute, sock=place.listener.dup())
        log.record(records)
        await until(lambda: swallowed)
        place.gate.store.predictions.append(records[:2])
        listening.close()
        assert link is not None
        link.close()
        async with place.recorder():
            await until(lambda: not len(log._queue))
    assert place.written() == {record.id for record in records}


async def test_what_does_not_fit_is_dropped_and_counted_and_costs_nobody_a_wait(place: Place) -> None:
    log = place.log(LogPolicy(max_records=3))
    log.record(a_record() for _ in range(10))
    assert place.dropped("queue_full") == 7
    log.record([a_record(outputs={"value": 1 << 80})])
    assert place.dropped("unencodable") == 1


async def test_what_nobody_took_is_counted_at_the_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.prediction_log._FLUSH_SECONDS", 0.01)
    async with place.log() as log:
        log.record([a_record(), a_record()])
    assert place.dropped("undelivered") == 2


async def test_a_record_that_the_store_refuses_keeps_no_other_out(place: Place) -> None:
    good = [a_record() for _ in range(20)]
    poison = a_record(principal="poison")
    async with place.recorder(), place.log() as log:
        log.record([*good[:13], poison, *good[13:]])
        await until(lambda: len(place.written()) == 20)
    assert place.dropped("refused") == 1
    assert place.written() == {record.id for record in good}


async def test_a_record_of_wrong_types_keeps_no_other_out(place: Place) -> None:
    good = [a_record() for _ in range(20)]
    async with place.recorder(), place.log() as log:
        log.record([*good[:13], a_record(version={}), *good[13:]])
        await until(lambda: len(place.written()) == 20 and not len(log._queue))
    assert place.dropped("refused") == 1
    assert place.written() == {record.id for record in good}


@pytest.mark.parametrize(
    "wrong",
    [3, {"id": "x"}, [], ["x"], [["x"], *a_record()[1:]], [*a_record(), "more"]],
    ids=["a number", "an object", "nothing", "too little", "no id", "too much"],
)
async def test_what_is_no_record_is_refused_and_sent_no_more(place: Place, wrong: Any) -> None:
    good, answers = a_record(), list[Frame]()
    async with place.recorder():
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: Link(answers.append), str(place.path))
        for number, records in enumerate(([wrong, [*good], wrong], [wrong])):
            link.send(Frame(Kind.RECORD, number, meta={"records": records}))
            await until(lambda number=number: len(answers) == number + 1)
        link.close()
    assert [(answer.kind, answer.request_id, answer.meta) for answer in answers] == [
        (Kind.RECORDED, 0, {"refused": 2}),
        (Kind.RECORDED, 1, {"refused": 1}),
    ]
    assert place.written() == {good.id}


async def test_a_store_that_is_away_for_a_while_loses_nothing(place: Place) -> None:
    place.gate.fail = [StoreUnavailable("the disk is full")] * 2
    record = a_record()
    async with place.recorder(), place.log() as log:
        log.record([record])
        await until(place.written)
    assert place.dropped("refused") == 0


async def test_a_store_that_is_away_does_not_keep_the_recorder_from_its_end(place: Place) -> None:
    async with place.log() as log:
        async with place.recorder() as server:
            place.gate.open.clear()
            place.gate.fail = [StoreUnavailable("the disk is full")]
            log.record([a_record()])
            await until(place.gate.reached.is_set)
            server.stop()
            place.gate.open.set()
        await until(lambda: not len(log._queue))
    assert place.dropped("refused") == 1
    assert place.written() == set()


async def test_feedback_and_what_is_old_fail_alone_whatever_the_reason(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **more: Any) -> Any:
        raise ValueError("this can't be done")

    monkeypatch.setattr(place.gate.store.predictions, "delete_older_than", fail)
    monkeypatch.setattr(place.gate.store.control, "contracts", fail)
    record = a_record()
    async with place.recorder(), place.log() as log, FeedbackClient(place.path) as client:
        with pytest.raises(BrokenContract, match="the recorder: expected an answer"):
            await client.add([an_event(prediction_id=record.id)])
        log.record([record])
        await until(place.written)


async def test_old_predictions_are_deleted_in_portions_while_new_ones_are_written(place: Place) -> None:
    now = place.clock()
    old = [a_record(made=now - 91 * DAY) for _ in range(7)]
    kept = a_record(made=now - 89 * DAY)
    place.gate.store.predictions.append([*old, kept])
    async with place.recorder(), place.log() as log:
        new = a_record(made=now)
        log.record([new])
        await until(lambda: place.written() == {kept.id, new.id})
        await until(lambda: sample(place.registry, "servoloop_log_expired_records_total") == 7)


async def test_changes_are_made_by_the_recorder_and_answered(place: Place) -> None:
    control = ControlClient(place.path)
    async with place.recorder():
        aliases = await control.crown_new_models({"fashion": {1: "a" * 64, 2: "b" * 64}})
        assert aliases == {"fashion": {"champion": 1}}
        move = await control.move_alias("fashion", "champion", 2, actor="ann", reason="→ better", expected=1)
        assert place.gate.store.control.history("fashion")[0] == move
        with pytest.raises(UnknownModel, match="there is: fashion"):
            await control.move_alias("nobody", "champion", 1, actor="ann", reason="")
        with pytest.raises(UnknownVersion, match="version of fashion named '9'; there is: 1, 2"):
            await control.move_alias("fashion", "champion", 9, actor="ann", reason="")
        with pytest.raises(AliasMoved, match="names version 2, and version 1 was expected"):
            await control.move_alias("fashion", "champion", 1, actor="ann", reason="", expected=1)
        with pytest.raises(BrokenContract, match="the recorder: expected an answer, got an error of its own"):
            await control.move_alias("fashion", "champion", 1, actor=None, reason="")  # type: ignore[arg-type]


async def test_wishes_and_deletions_are_made_by_the_recorder_and_answered(place: Place) -> None:
    control = ControlClient(place.path)
    first, second = Ref("fashion", 1), Ref("fashion", 2)
    async with place.recorder():
        await control.crown_new_models({"fashion": {1: "a" * 64, 2: "b" * 64}})
        wish = await control.change_wish(second, WishChange(Loading.PINNED, 2, Precision.BFLOAT16, reload=True))
        assert wish == Wish(Loading.PINNED, 2, Precision.BFLOAT16, generation=1)
        assert await control.change_wish(second, WishChange()) == wish
        assert place.gate.store.control.state().wishes == {second: wish}
        with pytest.raises(VersionInUse, match="the alias champion of fashion"):
            await control.change_wish(first, WishChange(Loading.UNLOADED))
        with pytest.raises(VersionInUse):
            await control.delete_version(first)
        await control.change_wish(second, WishChange(Loading.UNLOADED))
        with pytest.raises(VersionUnloaded, match="fashion/2 is unloaded"):
            await control.move_alias("fashion", "champion", 2, actor="ann", reason="")
        await control.delete_version(second)
        with pytest.raises(UnknownVersion):
            await control.delete_version(second)
        await control.delete_model("fashion", [1, 2])
        with pytest.raises(UnknownModel):
            await control.delete_model("fashion", [1, 2])
        await control.note_removed(second)
    assert place.gate.store.control.state().to_remove == {first}


async def test_a_change_that_nobody_answers_is_unavailable(place: Place, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await ControlClient(place.path, timeout=0.01).crown_new_models({})
    with pytest.raises(StoreUnavailable):
        await ControlClient(tmp_path / "nothing.sock").crown_new_models({})


async def test_a_peer_that_says_what_the_recorder_does_not_know_is_cut_off(place: Place) -> None:
    async with place.recorder():
        loop = asyncio.get_running_loop()
        for wrong in (
            Frame(Kind.INFER),
            Frame(Kind.RECORD, meta={}),
            Frame(Kind.RECORD, meta={"records": 3}),
        ):
            _, link = await loop.create_unix_connection(lambda: Link(lambda _: None), str(place.path))
            link.send(wrong)
            async with asyncio.timeout(PATIENCE):
                await link.lost


async def test_whether_a_change_may_have_been_made_is_said(place: Place, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="nothing was changed"):
        await ControlClient(tmp_path / "nothing.sock").crown_new_models({})

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def leaves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    for number, behaviour in enumerate((silent, leaves)):
        path = tmp_path / f"{number}.sock"
        async with await asyncio.start_unix_server(behaviour, path):
            with pytest.raises(StoreUnavailable, match="look before asking again"):
                await ControlClient(path, timeout=1 if behaviour is silent else PATIENCE).crown_new_models({})
