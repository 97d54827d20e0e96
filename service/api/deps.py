"""What routes work with."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from models.metrics import Array
from service.api.buffers import BodyBudget
from service.api.draining import Draining
from service.domain import Address, Ref, Rollout, Stage, Wish
from service.learning.intake import Intake
from service.learning.picture import Form
from service.learning.questions import DriftQuestion, Question, RowsQuestion
from service.registry.catalog import Catalog
from service.registry.fleet import Fleet
from service.serving.pipeline import Pipeline
from service.serving.router import Target
from service.store.base import (
    AliasMove,
    ControlReader,
    FeedbackReader,
    Gone,
    PredictionReader,
    ReportReader,
    State,
    StoredReport,
    Tag,
    WishChange,
)
from service.store.following import StateFollower
from service.store.jobs import Job, JobReader, NewJob
from service.store.rollouts import NO_POLICY, Decision, RolloutChange
from service.wire.statistics import Statistics


class EngineView(Protocol):
    """What routes ask about engines."""

    @property
    def failed(self) -> Mapping[Ref, str]: ...

    def is_ready(self, ref: Ref) -> bool: ...

    def why_unready(self, ref: Ref) -> str | None: ...

    def is_on_demand(self, ref: Ref) -> bool: ...

    async def statistics(self) -> Mapping[Ref, Statistics]: ...


class Changes(Protocol):
    """Who may change what shall be. Each verb raises as that of the store, or StoreUnavailable."""

    async def move_alias(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove: ...

    async def change_wish(self, ref: Ref, change: WishChange) -> Wish: ...

    async def delete_version(self, ref: Ref) -> None: ...

    async def delete_model(self, model: str, versions: Collection[int]) -> None: ...

    async def begin_rollout(
        self,
        model: str,
        version: int,
        *,
        stage: Stage,
        share: float,
        paused: bool = False,
        policy: Mapping[str, Any] = NO_POLICY,
        actor: str,
        reason: str,
    ) -> Rollout: ...

    async def change_rollout(
        self,
        model: str,
        change: RolloutChange,
        *,
        expected_version: int | None = None,
        expected_stage: Stage | None = None,
        actor: str,
        reason: str,
    ) -> Rollout: ...

    async def promote(
        self, model: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> Decision: ...

    async def roll_back(self, model: str, *, actor: str, reason: str, expected: int | None = None) -> Decision: ...

    async def keep_report(self, report: StoredReport) -> None: ...

    async def erase(self, ids: Sequence[str]) -> Gone: ...

    async def erase_tagged(
        self, tag: Tag, model: str | None, *, after: str = "", limit: int
    ) -> tuple[Gone, str | None]: ...

    async def enqueue_job(self, job: NewJob) -> Job: ...

    async def cancel_job(self, job_id: str, actor: str) -> Job: ...


@dataclass(slots=True)
class ReadinessMemory:
    """Whether this process ever was ready, and the models that answered since it began."""

    was_ready: bool = False
    answered: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the Open Inference Protocol's configuration tells of how rows are taken; the delay in seconds."""

    max_rows: int
    max_queue_delay: float = 0.0
    caches_answers: bool = False


class Evaluation(Protocol):
    """Who knows how good models are. Raises UnknownModel, StoreUnavailable, LoopUnavailable or NotSupported."""

    async def evaluate(self, question: Question | DriftQuestion) -> Mapping[str, Any]: ...

    async def judge(self, question: RowsQuestion, arrays: Sequence[Array]) -> Mapping[str, Any]: ...

    async def draw(self, question: Question | DriftQuestion, form: Form) -> bytes: ...


def _always() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class FeedbackParts:
    """Who takes feedback, where what was taken can be read, who measures by it, and what was found before."""

    intake: Intake
    events: FeedbackReader
    evaluation: Evaluation
    reports: ReportReader


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that routes use."""

    pipeline: Pipeline
    catalog: Callable[[], Catalog]
    """What can be served, as it is now."""
    choose: Callable[[Address], Target]
    """The version that an address names, with its tensors. Raises as `Router.choose`."""
    terms: Terms
    engines: EngineView
    registry: CollectorRegistry
    max_body_bytes: int
    follower: StateFollower
    control: ControlReader
    predictions: PredictionReader
    feedback: FeedbackParts
    bodies: BodyBudget
    fleet: Fleet
    changes: Changes
    is_removable: Callable[[Ref], bool]
    """Whether a version is ours to delete."""
    draining: Draining = field(default_factory=Draining)
    is_supervised: Callable[[], bool] = _always
    """Whether the supervisor gave a sign of life lately."""
    readiness: ReadinessMemory = field(default_factory=ReadinessMemory)
    jobs: JobReader | None = None
    """Where jobs can be read, if there are any."""

    @property
    def state(self) -> State:
        """What the store says shall be, as it was read last."""
        return self.follower.state


async def _services(request: Request) -> Services:
    # async, because FastAPI sends plain functions through a thread pool, at every request.
    services: Services = request.app.state.services
    return services


UseServices = Annotated[Services, Depends(_services)]
