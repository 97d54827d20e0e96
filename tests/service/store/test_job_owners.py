"""Several owners that work, die, come back late and end late, in any order: every job ends once, by who holds it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from uuid_utils import uuid7

from service.errors import JobUnderWay
from service.store.databases import transaction
from service.store.jobs import MOST_ATTEMPTS, Ending, Job, JobEvent, JobNote, NewJob
from service.store.sql_jobs import SqlJobs
from service.store.tables import job_events
from service.store.tables import jobs as table
from tests.fakes import ManualClock
from tests.stores import OpenStore

SECONDS = 10.0
MODELS = ("fashion", "mood")
OWNERS = ("loop-a", "loop-b", "loop-c")
ENDINGS: tuple[Ending, ...] = ("succeeded", "failed", "cancelled")


@dataclass
class Held:
    """What must be true of a job: who may change it, and until when nobody else gets it."""

    model: str
    owner: str | None = None
    until: float = 0.0
    attempts: int = 0
    cancel_asked: bool = False
    ended_as: str | None = None
    """Its state, once it has ended."""
    ended_by: str | None = None

    def is_held_by(self, owner: str) -> bool:
        return self.ended_as is None and self.owner == owner

    def is_free(self, now: float) -> bool:
        return self.ended_as is None and (self.owner is None or self.until <= now)

    def end(self, state: str, owner: str | None = None) -> None:
        self.ended_as, self.ended_by = state, owner


@dataclass
class World:
    """A store, and what it must say. Each step asks it for something, and checks the answer."""

    jobs: SqlJobs
    clock: ManualClock
    held: dict[str, Held] = field(default_factory=dict)

    def enqueue(self, model: str) -> None:
        under_way = [job for job, held in self.held.items() if held.model == model and held.ended_as is None]
        wanted = NewJob(str(uuid7()), model, "retrain", {}, "", "ann", "anonymous")
        if not under_way:
            self.jobs.enqueue(wanted)
            self.held[wanted.id] = Held(model)
            return
        with pytest.raises(JobUnderWay) as caught:
            self.jobs.enqueue(wanted)
        assert [caught.value.job_id] == under_way

    def lease(self, owner: str) -> None:
        expected = None
        for job, held in self.held.items():
            if not held.is_free(self.clock()):
                continue
            if held.cancel_asked:
                held.end("cancelled")
            elif held.attempts == MOST_ATTEMPTS:
                held.end("failed")
            else:
                expected = job
                held.owner, held.until, held.attempts = owner, self.clock() + SECONDS, held.attempts + 1
                break
        leased = self.jobs.lease(owner, seconds=SECONDS, kinds=["retrain"])
        assert (None if leased is None else leased.id) == expected

    def renew(self, owner: str, job: str) -> None:
        held = self.held[job]
        told = self.jobs.renew(job, owner, seconds=SECONDS)
        assert told.is_held == held.is_held_by(owner)
        if told.is_held:
            assert told.cancel_asked == held.cancel_asked
            held.until = self.clock() + SECONDS

    def note(self, owner: str, job: str) -> None:
        assert self.jobs.note(job, owner, JobNote("epoch", {})) == self.held[job].is_held_by(owner)

    def give_back(self, owner: str, job: str) -> None:
        held = self.held[job]
        assert self.jobs.give_back(job, owner) == held.is_held_by(owner)
        if held.is_held_by(owner):
            held.owner, held.attempts = None, held.attempts - 1
            if held.cancel_asked:
                held.end("cancelled", owner)

    def finish(self, owner: str, job: str, state: Ending) -> None:
        held = self.held[job]
        before = self.seen(job)
        is_done = self.jobs.finish(job, owner, state)
        if held.is_held_by(owner):
            assert is_done
            held.end(state, owner)
        else:
            assert is_done == ((held.ended_as, held.ended_by) == (state, owner))
            assert self.seen(job) == before

    def cancel(self, job: str) -> None:
        held = self.held[job]
        before = self.seen(job)
        self.jobs.ask_cancel(job, "bob")
        if held.ended_as is not None:
            assert self.seen(job) == before
        elif held.is_free(self.clock()):
            held.end("cancelled")
        else:
            held.cancel_asked = True

    def seen(self, job: str) -> tuple[Job, list[JobEvent]]:
        found = self.jobs.get(job)
        assert found is not None
        return found, list(self.jobs.events(job))

    def check(self) -> None:
        for job, held in self.held.items():
            found, events = self.seen(job)
            ends = [event.what for event in events if event.what in ENDINGS]
            assert ends == ([] if held.ended_as is None else [held.ended_as])
            assert found.has_ended == (held.ended_as is not None)
            assert events[-1].what == found.state or not found.has_ended

    def settle(self) -> None:
        """Let one owner that lives end all that is left."""
        while any(held.ended_as is None for held in self.held.values()):
            self.clock.advance(SECONDS)
            self.lease("loop-last")
            for job, held in self.held.items():
                if held.is_held_by("loop-last"):
                    self.finish("loop-last", job, "succeeded")


Step = Callable[[World], None]


def on_a_job(act: Callable[[World, str], None]) -> st.SearchStrategy[Step]:
    """A step about one of the latest jobs that there are by then."""

    def step(number: int) -> Step:
        def take(world: World) -> None:
            if world.held:
                latest = list(world.held)[-2:]
                act(world, latest[number % len(latest)])

        return take

    return st.integers(0, 1).map(step)


def steps() -> st.SearchStrategy[Step]:
    """What owners do comes often, so that several meet at a job, and some jobs are given out too often."""
    enqueued = st.sampled_from(MODELS).map(lambda model: lambda world: world.enqueue(model))
    passed = st.sampled_from([1.0, SECONDS]).map(lambda seconds: lambda world: world.clock.advance(seconds))
    owners = st.sampled_from(OWNERS)
    leased = owners.map(lambda owner: lambda world: world.lease(owner))
    renewed = owners.flatmap(lambda owner: on_a_job(lambda world, job: world.renew(owner, job)))
    noted = owners.flatmap(lambda owner: on_a_job(lambda world, job: world.note(owner, job)))
    back = owners.flatmap(lambda owner: on_a_job(lambda world, job: world.give_back(owner, job)))
    finished = st.tuples(owners, st.sampled_from(ENDINGS)).flatmap(
        lambda ending: on_a_job(lambda world, job: world.finish(ending[0], job, ending[1]))
    )
    cancelled = on_a_job(lambda world, job: world.cancel(job))
    return st.one_of(enqueued, passed, passed, leased, leased, leased, renewed, noted, back, finished, cancelled)


@pytest.fixture
def emptied(store: OpenStore) -> Callable[[], World]:
    """A world of its own for each example, in the same store."""

    def make() -> World:
        with transaction(store.engines[0]) as connection:
            connection.execute(delete(table))
            connection.execute(delete(job_events))
        clock = ManualClock(now=1000.0)
        return World(SqlJobs(store.engines[0], clock), clock)

    return make


# A failure is shown as it was found: to make it smaller would ask the database for minutes.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


@settings(
    max_examples=25,
    phases=_PHASES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(taken=st.lists(steps(), min_size=40, max_size=50))
def test_every_job_ends_once_and_only_its_owner_changes_it(emptied: Callable[[], World], taken: list[Step]) -> None:
    world = emptied()
    world.enqueue(MODELS[0])
    for step in taken:
        step(world)
        world.check()
    world.settle()
    world.check()
