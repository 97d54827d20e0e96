"""Jobs: asked for, given out, gone on with and ended, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError
from uuid_utils import uuid7

from service.errors import JobUnderWay, StoreUnavailable, UnknownJob
from service.store import sql_jobs
from service.store.control_client import ControlClient
from service.store.databases import Location, Part, transaction
from service.store.jobs import MOST_ATTEMPTS, Job, JobNote, NewJob, Progress, Renewal
from service.store.sql_jobs import SqlJobs
from service.store.tables import jobs as table
from tests.fakes import ManualClock
from tests.service.store.recording import Place
from tests.stores import OpenStore

SPEC = {"full": False, "replay": 0.5}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now=1000.0)


@pytest.fixture
def jobs(store: OpenStore, clock: ManualClock) -> SqlJobs:
    return SqlJobs(store.engines[0], clock)


def a_job(**fields: Any) -> NewJob:
    usual = NewJob(str(uuid7()), "fashion", "retrain", SPEC, reason="it drifts", actor="ann", principal="anonymous")
    return NewJob(**{**asdict(usual), **fields})


def lease(jobs: SqlJobs, owner: str = "loop-a", seconds: float = 10.0) -> Job | None:
    return jobs.lease(owner, seconds=seconds, kinds=["retrain"])


def log(jobs: SqlJobs, job_id: str) -> list[str]:
    return [event.what for event in jobs.events(job_id)]


# What is asked for


def test_a_job_waits_as_it_was_asked_for(jobs: SqlJobs, store: OpenStore) -> None:
    before = store.control.revision()
    wanted = a_job(reason="it drifts\x00")
    job = jobs.enqueue(wanted)
    assert job == Job(
        wanted.id, "fashion", "retrain", "queued", SPEC, "it drifts", "ann", "anonymous", created=1_000_000
    )
    assert jobs.get(job.id) == job
    assert [tuple(event) for event in jobs.events(job.id)] == [
        (job.id, 1, 1_000_000, "queued", {"actor": "ann", "reason": "it drifts"})
    ]
    assert jobs.get(a_job().id) is None
    assert store.control.revision() == before


def test_asked_for_again_under_its_id_it_is_the_same_job(jobs: SqlJobs) -> None:
    wanted = a_job()
    first = jobs.enqueue(wanted)
    assert jobs.enqueue(wanted) == first
    assert log(jobs, first.id) == ["queued"]


def test_of_a_model_and_kind_one_is_under_way(jobs: SqlJobs) -> None:
    first = jobs.enqueue(a_job())
    jobs.enqueue(a_job(model="mood"))
    for _ in range(2):
        with pytest.raises(JobUnderWay, match=f"a retrain job of fashion is under way: {first.id}") as caught:
            jobs.enqueue(a_job())
        assert caught.value.job_id == first.id
        lease(jobs)
    assert jobs.finish(first.id, "loop-a", "succeeded")
    assert jobs.enqueue(a_job()).state == "queued"


def test_more_may_be_where_that_is_asked_for(jobs: SqlJobs) -> None:
    jobs.enqueue(a_job())
    assert jobs.enqueue(a_job(), single_flight=False).state == "queued"


def test_the_database_itself_keeps_a_second_one_out(jobs: SqlJobs, store: OpenStore) -> None:
    first = jobs.enqueue(a_job())
    row = {**asdict(first), "single_flight": True}
    for state, is_taken in [("succeeded", False), ("running", True)]:
        with ExitStack() as expected:
            if is_taken:
                expected.enter_context(pytest.raises(IntegrityError))
            with transaction(store.engines[0]) as connection:
                connection.execute(insert(table).values({**row, "id": a_job().id, "state": state}))


def test_the_oldest_that_ended_make_room_and_none_that_is_under_way(
    jobs: SqlJobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_jobs, "_MOST_JOBS", 2)
    waiting, other = jobs.enqueue(a_job(), single_flight=False), jobs.enqueue(a_job(model="mood"))
    ended = [jobs.enqueue(a_job(), single_flight=False) for _ in range(3)]
    for job in (other, *ended):
        jobs.ask_cancel(job.id, "ann")
    last = jobs.enqueue(a_job(), single_flight=False)
    found, _ = jobs.list(None, limit=9)
    assert [job.id for job in found] == [last.id, ended[2].id, ended[1].id, other.id, waiting.id]
    assert (log(jobs, ended[0].id), log(jobs, ended[1].id)) == ([], ["queued", "cancelled"])


def test_jobs_are_listed_the_newest_first(jobs: SqlJobs) -> None:
    first, second, third = (jobs.enqueue(a_job(), single_flight=False) for _ in range(3))
    other = jobs.enqueue(a_job(model="mood"))
    jobs.ask_cancel(second.id, "ann")

    def ids(*arguments: Any, **more: Any) -> tuple[list[str], str | None]:
        found, cursor = jobs.list(*arguments, **{"limit": 9, **more})
        return [job.id for job in found], cursor

    assert ids(None) == ([other.id, third.id, second.id, first.id], None)
    assert ids("fashion", limit=2) == ([third.id, second.id], second.id)
    assert ids("fashion", limit=2, cursor=second.id) == ([first.id], None)
    assert ids("fashion", ["queued"]) == ([third.id, first.id], None)
    assert ids(None, ["cancelled", "running"]) == ([second.id], None)


# Who works on it


def test_the_oldest_job_is_given_out_first(jobs: SqlJobs, clock: ManualClock) -> None:
    first, second = jobs.enqueue(a_job()), jobs.enqueue(a_job(model="mood"))
    assert jobs.lease("loop-a", seconds=10, kinds=[]) is None
    clock.advance(1)
    leased = lease(jobs)
    assert leased is not None
    assert leased == jobs.get(first.id)
    assert (leased.state, leased.started, leased.owner, leased.leased_until) == (
        "running",
        1_001_000,
        "loop-a",
        1_011_000,
    )
    assert (lease(jobs), lease(jobs)) == (jobs.get(second.id), None)
    assert jobs.events(first.id, after=1)[0].details == {"owner": "loop-a", "attempt": 1}


def test_a_renewed_lease_does_not_run_out(jobs: SqlJobs, clock: ManualClock) -> None:
    job = jobs.enqueue(a_job())
    lease(jobs)
    progress = Progress("training", 3, 10, {"loss": 0.25})
    for told in (progress, None):
        clock.advance(9)
        assert jobs.renew(job.id, "loop-a", seconds=10, progress=told) == Renewal(is_held=True)
        assert lease(jobs, "loop-b") is None
    found = jobs.get(job.id)
    assert found is not None
    assert (found.progress, found.leased_until) == (progress, 1_028_000)


def test_a_job_whose_lease_ran_out_is_given_to_somebody_else(jobs: SqlJobs, clock: ManualClock) -> None:
    job = jobs.enqueue(a_job())
    lease(jobs)
    clock.advance(10)
    leased = lease(jobs, "loop-b")
    assert leased is not None
    assert (leased.id, leased.owner, leased.attempts, leased.started) == (job.id, "loop-b", 2, 1_000_000)
    assert log(jobs, job.id) == ["queued", "started", "resumed"]


def test_who_was_thought_dead_changes_nothing(jobs: SqlJobs, clock: ManualClock) -> None:
    job = jobs.enqueue(a_job())
    lease(jobs)
    clock.advance(10)
    lease(jobs, "loop-b")
    before = (jobs.get(job.id), jobs.events(job.id))
    assert jobs.renew(job.id, "loop-a", seconds=10, progress=Progress("late")) == Renewal(is_held=False)
    assert not jobs.note(job.id, "loop-a", JobNote("late", {}))
    assert not jobs.give_back(job.id, "loop-a")
    assert not jobs.finish(job.id, "loop-a", "succeeded", {"version": 2})
    assert (jobs.get(job.id), jobs.events(job.id)) == before
    assert jobs.finish(job.id, "loop-b", "failed", error="no\x00thing")
    ended = jobs.get(job.id)
    assert ended is not None
    assert (ended.state, ended.ended, ended.error, ended.result) == ("failed", 1_010_000, "nothing", None)


def test_nobody_else_having_taken_it_a_late_owner_goes_on(jobs: SqlJobs, clock: ManualClock) -> None:
    job = jobs.enqueue(a_job())
    lease(jobs)
    clock.advance(60)
    assert jobs.renew(job.id, "loop-a", seconds=10).is_held
    assert lease(jobs, "loop-b") is None
    clock.advance(60)
    assert jobs.finish(job.id, "loop-a", "succeeded")


def test_who_lost_the_answer_ends_it_again_without_a_change(jobs: SqlJobs, clock: ManualClock) -> None:
    job = jobs.enqueue(a_job())
    lease(jobs)
    result = {"version": 2}
    assert jobs.finish(job.id, "loop-a", "succeeded", result)
    before = jobs.get(job.id)
    clock.advance(1)
    assert jobs.finish(job.id, "loop-a", "succeeded", {"version": 3})
    assert not jobs.finish(job.id, "loop-a", "failed")
    assert not jobs.finish(job.id, "loop-b", "succeeded")
    assert not jobs.finish(a_job().id, "loop-a", "succeeded")
    assert jobs.get(job.id) == before
    assert log(jobs, job.id) == ["queued", "started", "succeeded"]
    assert (before.state, before.result) == ("succeeded", result) if before else False


def test_after_so_many_attempts_it_has_failed_and_the_next_one_is_given_out(jobs: SqlJobs, clock: ManualClock) -> None:
    job, later = jobs.enqueue(a_job()), jobs.enqueue(a_job(model="mood"))
    for number in range(MOST_ATTEMPTS):
        leased = lease(jobs, f"loop-{number}")
        assert leased is not None
        assert leased.id == job.id
        clock.advance(10)
    leased = lease(jobs)
    assert leased is not None
    assert leased.id == later.id
    failed = jobs.get(job.id)
    assert failed is not None
    assert (failed.state, failed.error) == (
        "failed",
        "given up after 3 attempts: each time whoever worked on it was heard of no more",
    )
    assert not jobs.finish(job.id, f"loop-{MOST_ATTEMPTS - 1}", "failed")


def test_a_job_that_is_given_back_waits_again_and_the_attempt_does_not_count(jobs: SqlJobs) -> None:
    job = jobs.enqueue(a_job())
    for number in range(MOST_ATTEMPTS + 1):
        leased = lease(jobs, f"loop-{number}")
        assert leased is not None
        assert leased.attempts == 1
        assert jobs.give_back(job.id, f"loop-{number}")
        assert not jobs.renew(job.id, f"loop-{number}", seconds=10).is_held
    assert log(jobs, job.id)[:4] == ["queued", "started", "given_back", "resumed"]
    assert jobs.get(job.id) is not None


def test_a_job_is_leased_by_one_of_several_recorders(location: Location, store: OpenStore) -> None:
    ids = {store.jobs.enqueue(a_job(model=f"model-{number}")).id for number in range(12)}
    engines = [location.writer(Part.CONTROL) for _ in range(4)]

    def take_all(number: int) -> list[str]:
        own, taken = SqlJobs(engines[number]), list[str]()
        while (job := lease(own, f"loop-{number}", seconds=600)) is not None:
            taken.append(job.id)
        return taken

    with ThreadPoolExecutor(4) as pool:
        taken = [job for one in pool.map(take_all, range(4)) for job in one]
    assert len(taken) == 12
    assert set(taken) == ids
    for engine in engines:
        engine.dispose()


def test_of_several_that_ask_at_once_one_has_its_job(location: Location, store: OpenStore) -> None:
    engines = [location.writer(Part.CONTROL) for _ in range(4)]

    def ask(number: int) -> tuple[bool, str]:
        try:
            return True, SqlJobs(engines[number % 4]).enqueue(a_job()).id
        except JobUnderWay as error:
            return False, error.job_id

    with ThreadPoolExecutor(4) as pool:
        asked = list(pool.map(ask, range(8)))
    assert sorted(is_new for is_new, _ in asked) == [False] * 7 + [True]
    assert len({job_id for _, job_id in asked}) == 1
    for engine in engines:
        engine.dispose()


# Cancelling


def test_a_job_that_waits_is_cancelled_at_once(jobs: SqlJobs) -> None:
    job = jobs.enqueue(a_job())
    cancelled = jobs.ask_cancel(job.id, "bob")
    assert (cancelled.state, cancelled.ended) == ("cancelled", 1_000_000)
    assert jobs.events(job.id)[-1].details == {"actor": "bob"}
    assert lease(jobs) is None
    with pytest.raises(UnknownJob):
        jobs.ask_cancel(a_job().id, "bob")


def test_who_works_on_it_is_told_and_ends_it(jobs: SqlJobs) -> None:
    job = jobs.enqueue(a_job())
    lease(jobs)
    for _ in range(2):
        asked = jobs.ask_cancel(job.id, "bob")
        assert (asked.state, asked.cancel_asked) == ("running", True)
    assert jobs.renew(job.id, "loop-a", seconds=10) == Renewal(is_held=True, cancel_asked=True)
    assert jobs.finish(job.id, "loop-a", "cancelled")
    ended = jobs.get(job.id)
    assert jobs.ask_cancel(job.id, "bob") == ended
    assert log(jobs, job.id) == ["queued", "started", "cancel_asked", "cancelled"]


def test_a_job_that_is_to_be_cancelled_is_given_to_nobody_else(jobs: SqlJobs, clock: ManualClock) -> None:
    job = jobs.enqueue(a_job())
    lease(jobs)
    jobs.ask_cancel(job.id, "bob")
    clock.advance(10)
    assert lease(jobs, "loop-b") is None
    assert not jobs.finish(job.id, "loop-a", "cancelled")
    assert log(jobs, job.id)[-1] == "cancelled"


def test_nobody_being_at_work_it_is_cancelled_at_once(jobs: SqlJobs, clock: ManualClock) -> None:
    job = jobs.enqueue(a_job())
    lease(jobs)
    clock.advance(10)
    assert jobs.ask_cancel(job.id, "bob").state == "cancelled"
    assert not jobs.finish(job.id, "loop-a", "succeeded")


def test_given_back_a_job_that_is_to_be_cancelled_ends(jobs: SqlJobs) -> None:
    job = jobs.enqueue(a_job())
    lease(jobs)
    jobs.ask_cancel(job.id, "bob")
    assert jobs.give_back(job.id, "loop-a")
    assert log(jobs, job.id)[-1] == "cancelled"


# Its log


def test_a_job_keeps_its_latest_lines(jobs: SqlJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_jobs, "_MOST_EVENTS", 3)
    job, other = jobs.enqueue(a_job()), jobs.enqueue(a_job(model="mood"))
    lease(jobs)
    for epoch in range(4):
        assert jobs.note(job.id, "loop-a", JobNote("epoch", {"number": epoch, "said": "\x00"}))
    kept = jobs.events(job.id)
    assert [(event.number, event.details["number"]) for event in kept] == [(4, 1), (5, 2), (6, 3)]
    assert kept[0].details["said"] == "\x00"
    assert jobs.events(job.id, after=5) == kept[-1:]
    assert log(jobs, other.id) == ["queued"]


# By way of the recorder


@pytest.fixture
def recorded(place: Place) -> ControlClient:
    return ControlClient(place.path)


async def test_jobs_are_changed_by_the_recorder_and_answered(place: Place, recorded: ControlClient) -> None:
    kept = place.gate.store.jobs
    async with place.recorder():
        assert await recorded.lease_job("loop-a", seconds=600, kinds=["retrain"]) is None
        job = await recorded.enqueue_job(a_job())
        assert kept.get(job.id) == job
        with pytest.raises(JobUnderWay) as caught:
            await recorded.enqueue_job(a_job())
        assert (caught.value.model, caught.value.work, caught.value.job_id) == ("fashion", "retrain", job.id)
        other = await recorded.enqueue_job(a_job(), single_flight=False)
        leased = await recorded.lease_job("loop-a", seconds=600, kinds=["retrain"])
        assert leased == kept.get(job.id)
        progress = Progress("training", 1, None, {"loss": 0.5})
        told = await recorded.renew_job(job.id, "loop-a", seconds=600, progress=progress)
        assert told == Renewal(is_held=True, cancel_asked=False)
        assert await recorded.renew_job(job.id, "loop-b", seconds=600) == Renewal(is_held=False)
        assert await recorded.note_job(job.id, "loop-a", JobNote("epoch", {"number": 1}))
        asked = await recorded.cancel_job(job.id, "bob")
        assert (asked.cancel_asked, asked.progress) == (True, progress)
        assert not await recorded.give_job_back(job.id, "loop-b")
        assert not await recorded.finish_job(job.id, "loop-b", "cancelled")
        assert await recorded.finish_job(job.id, "loop-a", "failed", {"epochs": 1}, "it was cancelled")
        ended = kept.get(job.id)
        assert ended is not None
        assert (ended.state, ended.result, ended.error) == ("failed", {"epochs": 1}, "it was cancelled")
        assert (await recorded.cancel_job(other.id, "bob")).state == "cancelled"
        missing = a_job().id
        with pytest.raises(UnknownJob, match=f"there is no job {missing}"):
            await recorded.cancel_job(missing, "bob")
    with pytest.raises(StoreUnavailable):
        await ControlClient(place.path.parent / "nobody").enqueue_job(a_job())
