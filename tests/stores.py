"""A store of a test's own, and records to put into it."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from uuid_utils import uuid7

from models.metrics import Array
from service.domain import Ref, Rollout, Wish
from service.learning.drift import DriftPolicy
from service.learning.evaluator import Evaluator
from service.learning.measuring import Measuring
from service.learning.monitor import Monitor
from service.learning.offline import judge
from service.learning.picture import Form
from service.learning.questions import DriftQuestion, Question, RowsQuestion
from service.learning.references import References
from service.registry.catalog import Catalog
from service.settings import SHIPPED_CHECKPOINTS
from service.store.base import AliasMove, Found, Gone, Input, Record, StoredReport, Tag, WishChange
from service.store.databases import Location, Part
from service.store.feedback import FeedbackEvent, Outcome
from service.store.jobs import Job, NewJob
from service.store.migrate import migrate
from service.store.rollouts import Decision
from service.store.sql_control import SqlControl
from service.store.sql_erasure import SqlErasure
from service.store.sql_feedback import SqlFeedback
from service.store.sql_jobs import SqlJobs
from service.store.sql_predictions import SqlPredictions
from service.store.sql_reports import SqlReports
from service.store.sql_truths import SqlTruths


@dataclass(frozen=True)
class OpenStore:
    """Both parts, open for writing in this process: a log that writes at once, and who makes changes."""

    location: Location
    control: SqlControl
    predictions: SqlPredictions
    feedback: SqlFeedback
    erasure: SqlErasure
    reports: SqlReports
    jobs: SqlJobs
    engines: Sequence[Engine]
    roots: Sequence[Path] = (SHIPPED_CHECKPOINTS,)
    """Of the checkpoints whose references are looked at."""

    def close(self) -> None:
        for engine in self.engines:
            engine.dispose()

    def record(self, records: Iterable[Record], inputs: Iterable[Input] = ()) -> None:
        self.predictions.append(list(records), list(inputs))

    async def add(self, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        return self.feedback.add(events, self.control.contracts())

    def measuring(self, clock: Callable[[], float] = time.time, *, keep: float = 1e9) -> Measuring:
        """By what is in the store, and the references of the checkpoints."""
        evaluator = Evaluator(SqlTruths(self.engines[1]), self.predictions, self.control, keep=keep, clock=clock)
        references = References(self.roots, clock)
        return Measuring(evaluator, Monitor(references, self.predictions, evaluator.model, DriftPolicy(), clock))

    async def evaluate(self, question: Question | DriftQuestion) -> dict[str, Any]:
        return self.measuring().answer(question)

    async def draw(self, question: Question | DriftQuestion, form: Form) -> bytes:
        return self.measuring().draw(question, form)

    async def judge(self, question: RowsQuestion, arrays: Sequence[Array]) -> Mapping[str, Any]:
        return judge(question, arrays)

    async def keep_report(self, report: StoredReport) -> None:
        self.reports.keep(report)

    async def erase(self, ids: Sequence[str]) -> Gone:
        return self.erasure.erase(ids)

    async def erase_tagged(
        self, tag: Tag, model: str | None, *, after: str = "", limit: int
    ) -> tuple[Gone, str | None]:
        return self.erasure.erase_tagged(tag, model, after=after, limit=limit)

    async def enqueue_job(self, job: NewJob) -> Job:
        return self.jobs.enqueue(job)

    async def cancel_job(self, job_id: str, actor: str) -> Job:
        return self.jobs.ask_cancel(job_id, actor)

    async def move_alias(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove:
        return self.control.move_alias(model, alias, version, actor=actor, reason=reason, expected=expected)

    async def begin_rollout(self, *facts: Any, **named: Any) -> Rollout:
        return self.control.begin_rollout(*facts, **named)

    async def change_rollout(self, *facts: Any, **named: Any) -> Rollout:
        return self.control.change_rollout(*facts, **named)

    async def promote(self, *facts: Any, **named: Any) -> Decision:
        return self.control.promote(*facts, **named)

    async def roll_back(self, *facts: Any, **named: Any) -> Decision:
        return self.control.roll_back(*facts, **named)

    async def change_wish(self, ref: Ref, change: WishChange) -> Wish:
        return self.control.change_wish(ref, change)

    async def delete_version(self, ref: Ref) -> None:
        self.control.delete_version(ref)

    async def delete_model(self, model: str, versions: Collection[int]) -> None:
        self.control.delete_model(model, versions)


def open_store(location: Location | Path) -> OpenStore:
    """A store at this place, with all its tables; a folder stands for SQLite files in it."""
    if isinstance(location, Path):
        location = Location(location)
    migrate(location)
    control, predictions = location.writer(Part.CONTROL), location.writer(Part.PREDICTIONS)
    feedback = SqlFeedback(predictions)
    log = SqlPredictions(predictions, feedback)
    erasure, reports = SqlErasure(predictions, log.counts), SqlReports(predictions)
    engines = [control, predictions]
    return OpenStore(location, SqlControl(control), log, feedback, erasure, reports, SqlJobs(control), engines)


def found_in(catalog: Catalog) -> Found:
    return {
        name: {number: version.manifest.digest for number, version in model.versions.items()}
        for name, model in catalog.models.items()
    }


def open_seen(folder: Path, catalog: Catalog) -> OpenStore:
    """A store in this folder that has seen every version of the catalog."""
    opened = open_store(folder)
    opened.control.crown_new_models(found_in(catalog), catalog.contracts())
    return opened


def a_record(*, made: float | None = None, **fields: Any) -> Record:
    """A record with a new id; `made` is its time in seconds since 1970, now where there is none."""
    identity = str(uuid7() if made is None else uuid7(nanoseconds=round(made * 1000) * 1_000_000))
    usual = Record(
        identity,
        "fashion",
        1,
        digest="d" * 64,
        outputs={"label": "Bag", "index": 8, "probability": 0.5},
        latency=0.002,
        principal="anonymous",
        request_id="request-1",
        tags={},
    )
    return usual._replace(**fields)


def an_event(**fields: Any) -> FeedbackEvent:
    """An event with a new id: somebody says that a prediction, which `fields` name, should have been a bag."""
    usual = FeedbackEvent(
        str(uuid7()),
        prediction_id=None,
        model=None,
        external_id=None,
        kind="label",
        value="Bag",
        source="user",
        trust=1,
        actor=None,
        principal="anonymous",
        labelled_at=1000,
        received_at=2000,
    )
    return usual._replace(**fields)
