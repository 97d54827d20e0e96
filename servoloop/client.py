"""The client."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar, Unpack
from uuid import uuid4

import httpx

from servoloop import calls, jobs
from servoloop.calls import (
    EvaluateOptions,
    EvaluationOptions,
    FeedbackFilters,
    FeedbackOptions,
    Options,
    RolloutOptions,
)
from servoloop.errors import ConnectionFailed
from servoloop.instances import Instance
from servoloop.jobs import Job, JobEvent, JobProgress, Jobs, RetrainOptions
from servoloop.measured import Drift, Evaluation, EvaluationReport, EvaluationReports
from servoloop.policy import Call, Exchange, Outcome, Policy, may_use_proxy
from servoloop.results import (
    AliasMove,
    Decision,
    Deleted,
    FeedbackPage,
    FeedbackResult,
    Model,
    Models,
    Prediction,
    Predictions,
    Rollout,
    Version,
    VersionChange,
)

DEFAULT_URL = "http://127.0.0.1:8000"
WAIT_SECONDS = 30.0

T = TypeVar("T")


class Client:
    """Asks the service at `url`. `timeout`, in seconds, bounds a call with all its attempts; `retries` counts those
    after the first. Close it, or use it as a context manager. Threads may share it.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        timeout: float = 10.0,
        retries: int = 2,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = Policy(url, timeout, retries)
        self._http = httpx.Client(base_url=url, transport=transport, trust_env=may_use_proxy(url))
        self._sleep = sleep
        self._clock = clock

    def predict(
        self, model: str, instance: Instance, *, external_id: str | None = None, **options: Unpack[Options]
    ) -> Prediction:
        """The prediction for one row: a text; numbers, plain or as an array; the Path or the bytes of an image file, of
        which numbers run from 0 to 255; or a mapping of column to number.

        Raises ServoloopError; TypeError or ValueError for what can't be sent.
        """
        external_ids = None if external_id is None else [external_id]
        return self._run(calls.predict(model, [instance], external_ids, **options))[0]

    def predict_many(
        self,
        model: str,
        instances: Iterable[Instance],
        *,
        external_ids: Sequence[str] | None = None,
        **options: Unpack[Options],
    ) -> Predictions:
        """The predictions for several rows, in their order. Raises as `predict` does; a row may fail alone."""
        return self._run(calls.predict(model, instances, external_ids, **options))

    def feedback(
        self,
        prediction: Prediction | str | None = None,
        *,
        label: str | Sequence[str] | None = None,
        value: float | None = None,
        rating: float | None = None,
        external_id: str | None = None,
        model: str | None = None,
        **options: Unpack[FeedbackOptions],
    ) -> FeedbackResult:
        """Say what a prediction should have been (`label`, or `value` of a regression), or how good it was (`rating`).

        Name it by itself or by its id, or by your own `external_id` and its `model`. What is accepted is durable.
        Raises InvalidInput, Conflict where `idempotency_key` was used for something else, or Unavailable.
        """
        said = {"label": label, "value": value, "rating": rating}
        item = calls.feedback_item(prediction, said, external_id, model, options)
        return self._run(calls.feedback(item, uuid4().hex))[0]

    def feedback_many(self, items: Iterable[Mapping[str, object]]) -> list[FeedbackResult]:
        """What became of each item, which has the fields of POST /v1/feedback; one that is wrong keeps no others out.

        Raises ServoloopError: what came before that may be kept.
        """
        results: list[FeedbackResult] = []
        for lines in calls.in_groups(items):
            told = self._run(calls.feedback_lines(lines, uuid4().hex))
            results += told
        return results

    def feedback_events(
        self, *, limit: int = 100, cursor: str | None = None, **filters: Unpack[FeedbackFilters]
    ) -> FeedbackPage:
        """What was said of predictions, the newest first, at most `limit` of it."""
        return self._run(calls.feedback_events(limit, cursor, filters))

    def evaluation(self, model: str, **options: Unpack[EvaluationOptions]) -> Evaluation:
        """How good a model is, by what is known of its predictions. Raises NotFound, InvalidInput or Unavailable."""
        return self._run(calls.evaluation(model, options))

    def evaluation_picture(self, model: str, form: str = "png", **options: Unpack[EvaluationOptions]) -> bytes:
        """The same, drawn, as a file: png or svg. Raises as `evaluation` does, and ApiError where nothing draws."""
        return self._run(calls.evaluation_picture(model, form, options))

    def drift(self, model: str, version: int | str | None = None, rows: int | None = None) -> Drift:
        """How far a version's latest predictions, so many `rows`, are from those that it was measured on, and how good
        it seems without labels; of the champion unless `version` is given. Raises as `evaluation` does.
        """
        return self._run(calls.drift(model, version, rows))

    def drift_picture(
        self, model: str, form: str = "png", *, version: int | str | None = None, rows: int | None = None
    ) -> bytes:
        """The same, drawn, as a file: png or svg. Raises as `evaluation_picture` does."""
        return self._run(calls.drift_picture(model, form, version, rows))

    def evaluate(
        self,
        model: str,
        instances: Iterable[Instance],
        labels: Iterable[object],
        *,
        on_row: Callable[[int], object] = bool,
        **options: Unpack[EvaluateOptions],
    ) -> EvaluationReport:
        """Have a version predict rows whose labels are known, and measure it; two, compare them on these rows.

        `on_row` is told how many rows were taken so far. Give the client time: its timeout holds for all of it.
        Raises ServoloopError; TypeError or ValueError for what can't be sent.
        """
        return self._run(calls.evaluate(model, instances, labels, options, on_row))

    def evaluate_held_out(self, model: str, **options: Unpack[EvaluateOptions]) -> EvaluationReport:
        """The same, on the held-out rows that the version's checkpoint keeps. Raises ServoloopError."""
        return self._run(calls.evaluate_held_out(model, options))

    def evaluations(
        self, model: str, *, version: int | str | None = None, limit: int = 20, cursor: str | None = None
    ) -> EvaluationReports:
        """What was found of a model on labelled rows, the newest first. Raises NotFound."""
        return self._run(calls.evaluations(model, version, limit, cursor))

    def retrain(self, model: str, **options: Unpack[RetrainOptions]) -> Job:
        """Have a model trained on what became known of its predictions: the job that will do it.

        No service does such jobs yet, so that it is NotFound for now.

        Raises NotFound, InvalidInput, Unavailable, or Conflict where one is under way, whose id the detail has.
        """
        return self._run(jobs.retrain(model, options))

    def job(self, job_id: str) -> Job:
        """How a job stands. Raises NotFound."""
        return self._run(jobs.job(job_id))

    def jobs(
        self, *, model: str | None = None, states: Sequence[str] = (), limit: int = 20, cursor: str | None = None
    ) -> Jobs:
        """Jobs of a model or of all, in these states or in any, the newest first. Raises InvalidInput."""
        return self._run(jobs.jobs(model, states, limit, cursor))

    def cancel_job(self, job_id: str) -> Job:
        """Have a job end; one that is worked on ends a little later. Raises NotFound."""
        return self._run(jobs.cancel(job_id))

    def follow_job(self, job_id: str, *, after: int = 0) -> Iterator[JobEvent | JobProgress]:
        """What happens to a job behind a line of its log, as it happens, until it has ended.

        A connection that breaks is made anew, `retries` times in a row. Raises NotFound, ConnectionFailed or ApiError.
        """
        following = jobs.Following(job_id, after, self._policy)
        outcome: Outcome
        while True:
            try:
                with self._http.stream(**following.request()) as outcome:
                    if outcome.status_code != 200:
                        outcome.read()
                    else:
                        for line in outcome.iter_lines():
                            if (news := following.take(line)) is not None:
                                yield news
            except httpx.RequestError as error:
                outcome = error
            if (pause := following.pause(outcome)) is None:
                return
            self._sleep(pause)

    def models(self) -> Models:
        """Everything the service has. Raises ServoloopError."""
        return self._run(calls.MODELS)

    def model(self, name: str) -> Model:
        """One model. Raises NotFound."""
        return self._run(calls.model(name))

    def version(self, model: str, version: int | str) -> Version:
        """One version of a model. Raises NotFound."""
        return self._run(calls.version(model, version))

    def load(
        self,
        model: str,
        version: int | str,
        *,
        pinned: bool | None = None,
        replicas: int | None = None,
        precision: str | None = None,
        wait: float = WAIT_SECONDS,
    ) -> VersionChange:
        """Load a version, and wait up to `wait` seconds for it; what is None stays as it is wanted.

        Raises NotFound, or Unavailable where it can't be loaded.
        """
        return self._run(calls.load(model, version, pinned=pinned, replicas=replicas, precision=precision, wait=wait))

    def reload(self, model: str, version: int | str, *, wait: float = WAIT_SECONDS) -> VersionChange:
        """Load a version anew. Raises as `load` does, and Conflict where it is unloaded."""
        return self._run(calls.reload(model, version, wait=wait))

    def unload(self, model: str, version: int | str, *, wait: float = WAIT_SECONDS) -> VersionChange:
        """Unload a version until it is loaded again. Raises NotFound, or Conflict where an alias names it."""
        return self._run(calls.unload(model, version, wait=wait))

    def delete_version(self, model: str, version: int | str, *, wait: float = WAIT_SECONDS) -> Deleted:
        """Delete a registered version. Raises NotFound, or Conflict where an alias names it or it is shipped."""
        return self._run(calls.delete(model, version, wait=wait))

    def delete_model(self, model: str, *, wait: float = WAIT_SECONDS) -> Deleted:
        """Delete a registered model with all its versions. Raises NotFound, or Conflict where one is shipped."""
        return self._run(calls.delete(model, wait=wait))

    def move_alias(
        self, model: str, alias: str, version: int, *, reason: str = "", expected: int | None = None
    ) -> AliasMove:
        """Let an alias name another version. Raises NotFound, Unavailable, or Conflict where it isn't as `expected`."""
        return self._run(calls.move_alias(model, alias, version, reason, expected))

    def rollout(self, model: str) -> Rollout:
        """The version that is on trial, and how. Raises NotFound where none is."""
        return self._run(calls.rollout(model))

    def set_rollout(
        self, model: str, version: int | str, *, reason: str = "", **options: Unpack[RolloutOptions]
    ) -> Rollout:
        """Put a version on trial, which takes a stage and a share, or change the trial that it is on.

        Raises NotFound, Unavailable, or Conflict where another is on trial or it is not at the expected stage.
        """
        return self._run(calls.set_rollout(model, version, reason, options))

    def promote(
        self,
        model: str,
        version: int | str | None = None,
        *,
        reason: str = "",
        expected: int | str | None = None,
    ) -> Decision:
        """Make the version on trial the champion, or the one that is given.

        Raises NotFound, Unavailable, or Conflict where another is on trial or the champion isn't as `expected`.
        """
        return self._run(calls.promote(model, version, reason, expected))

    def roll_back(self, model: str, *, reason: str = "", expected: int | str | None = None) -> Decision:
        """End the trial; where nothing is on trial, make the champion before the present one the champion again.

        Raises NotFound, Unavailable, or Conflict where what is on trial, or else the champion, isn't as `expected`.
        """
        return self._run(calls.roll_back(model, reason, expected))

    def ready(self) -> bool:
        """Whether every model answers; False too where nothing listens (yet). Asks once, without retries."""
        try:
            return self._run(calls.READY)
        except ConnectionFailed:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: Call[T]) -> T:
        exchange = Exchange(call, self._policy, self._clock())
        while True:
            outcome: Outcome
            try:
                outcome = self._http.request(**exchange.request(self._clock()))
            except httpx.RequestError as error:
                outcome = error
            pause = exchange.pause(outcome, self._clock())
            if pause is None:
                return exchange.answer(outcome)
            self._sleep(pause)
