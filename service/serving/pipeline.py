"""The journey of a prediction."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from uuid_utils import uuid7

from models.inputs import TextInput
from models.preprocess import RawRows, Tensors
from service.domain import Address, Caller, Deadline, Ref
from service.errors import BodyTooSlow, DeadlineExceeded, PredictionFailed, ServoloopError
from service.serving import codec
from service.serving.admission import Admission
from service.serving.allowance import Allowance
from service.serving.answer import Computed, Encoded
from service.serving.capture import Capture
from service.serving.codec import Body, Parsed
from service.serving.computing import Engines, Log, preprocess
from service.serving.mirroring import Answered
from service.serving.offloading import Offloader
from service.serving.parameters import Query
from service.serving.postprocess import interpret
from service.serving.recording import records_of
from service.serving.router import Router, Target, Trial
from service.serving.trials import Trials
from service.telemetry.instruments import HttpTelemetry, VersionMeasures
from service.wire.inference import Outputs

log = logging.getLogger(__name__)

# Below this, work is done where it arrives: of texts, which are tokenised, and of all else, where a byte takes less.
# Reviews of 1.3 KB, which take 0.2 ms, were answered 0.77 times as often where threads tokenised them. The second is an
# estimate from what 29 KB of numbers take (about 0.1 ms), not a measured break-even.
_INLINE_TEXT_BYTES = 16_384
_INLINE_BYTES = 65_536


class Incoming(Protocol):
    """A request whose body has not been read yet."""

    @property
    def content_type(self) -> str | None: ...

    @property
    def query(self) -> Query: ...

    @property
    def json_length(self) -> str | None: ...

    def read_at_once(self) -> bytes | None:
        """The body, if all of it has arrived. Raises as `read` does."""
        ...

    async def read(self) -> bytes:
        """The body.

        Raises BodyTooLarge, BuffersFull, UnsupportedMediaType, MalformedBody or ClientLeft.
        """
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask; times in seconds."""

    max_rows: int
    default_timeout: float
    max_timeout: float
    max_waiting_decodes: int = 1024
    max_requests: int = 4096
    """Of one version, being worked on at once."""


Parse = Callable[[Body, Target, int], Parsed]
"""A protocol's part in the journey: what a body asks of a version, in at most so many rows, and how to answer it.

Raises MalformedHeader, MalformedBody, UnsupportedMediaType, UnprocessableInput or NotSupported.
"""


class Asked(NamedTuple):
    """What was asked, the rows as they came, by when, and whether to prepare them takes little."""

    parsed: Parsed
    rows: RawRows | Tensors
    deadline: Deadline
    is_small: bool


class Made(NamedTuple):
    """An answer, what it says, who made it, with which probability it was chosen for that, and when."""

    target: Target
    propensity: float
    computed: Computed
    answer: Encoded
    at: float


class Pipeline:
    """Answers predict requests; everything it needs is handed in."""

    def __init__(
        self,
        router: Router,
        engines: Engines,
        log: Log,
        capture: Capture,
        trials: Trials,
        telemetry: HttpTelemetry,
        threads: Executor,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._router = router
        self._engines = engines
        self._log = log
        self._capture = capture
        self._trials = trials
        self._telemetry = telemetry
        self._offloader = Offloader(threads, limits.max_waiting_decodes, clock)
        self._admission = Admission(limits.max_requests)
        self._limits = limits
        self._clock = clock

    async def predict(
        self, address: Address, incoming: Incoming, caller: Caller, parse: Parse = codec.parse
    ) -> Encoded:
        """The answer, in the protocol that `parse` reads.

        Raises InvalidInput, Unknown, NotSupported, Unavailable, BodyTooSlow, DeadlineExceeded, PredictionFailed,
        QuarantinedInput, BrokenContract, or ClientLeft.
        """
        target, trial = self._router.choose(address), self._router.trial(address)
        with _Measured(self._telemetry.of(target.ref), self._clock, caller) as measured:
            # The body may name another time, which can't be known before it is parsed.
            deadline = self._deadline(caller.timeout, caller)
            self._admission.check(target.ref)
            data = incoming.read_at_once()
            if data is None:
                data = await self._read(incoming, deadline)
            # Only now: clients that send slowly take nobody's place.
            with self._admission.of(target.ref):
                body = Body(data, incoming.content_type, incoming.query, incoming.json_length)
                asked = await self._take(body, parse, target, deadline, caller, measured.measures)
                if trial is None:
                    made = await self._make(target, 1.0, asked, measured.measures)
                else:
                    made = await self._try(trial, target, asked, caller, measured)
            wanted, (answering, propensity, computed, answer, at) = asked.parsed.parameters, made
            records = records_of(computed, answering, wanted, caller, at - caller.arrived, propensity=propensity)
            self._log.record(records, self._capture.inputs(asked.rows, computed, answering))
            if trial is not None:
                self._trials.answered(trial, target, Answered(asked.rows, wanted, caller, computed.prediction_ids))
            return answer

    async def compute(self, target: Target, body: Body, caller: Caller, *, priority: int) -> Computed:
        """The predictions of a body that nobody is told of and nobody keeps. Raises as `predict`."""
        measures = self._telemetry.of(target.ref)
        deadline = self._deadline(caller.timeout, caller)
        with self._admission.of(target.ref):
            asked = await self._take(body, codec.parse, target, deadline, caller, measures)
            tensors = await self._prepare(asked, target, measures)
            outputs = await self._engines.infer(target.ref, tensors, asked.deadline, priority)
        predictions, probabilities = interpret(outputs, target.manifest, asked.parsed.parameters)
        return Computed(outputs, predictions, probabilities, [])

    async def _try(self, trial: Trial, champion: Target, asked: Asked, caller: Caller, measured: "_Measured") -> Made:
        """Answer by whom the trial says; what the challenger fails of, the champion answers."""
        key = asked.parsed.parameters.key or caller.key
        challenger, propensity = self._trials.choose(trial, champion, asked.rows, key)
        measures = measured.measures
        if challenger is not champion:
            measured.measures = self._telemetry.of(challenger.ref)
            try:
                with self._admission.of(challenger.ref):
                    return await self._make(challenger, propensity, self._half_of(asked), measured.measures)
            except ServoloopError as error:
                self._trials.fell_back(trial.rollout, error.kind)
            except Exception:  # whatever it is, it is no concern of who asks
                log.exception("a challenger crashed", extra={"ref": str(challenger.ref)})
                self._trials.fell_back(trial.rollout, "unexpected_error")
            # It was certain to answer what the challenger can't.
            propensity, measured.measures = 1.0, measures
        return await self._make(champion, propensity, asked, measures)

    def _half_of(self, asked: Asked) -> Asked:
        """With half the time that is left: the other half is the champion's, should the challenger be too slow."""
        now = self._clock()
        return asked._replace(deadline=Deadline.after(asked.deadline.remaining(now) / 2, now=now))

    async def _make(self, target: Target, propensity: float, asked: Asked, measures: VersionMeasures) -> Made:
        """The answer of one version. Raises PredictionFailed where it failed on every row."""
        parsed = asked.parsed
        tensors = await self._prepare(asked, target, measures)
        outputs = await self._engines.infer(target.ref, tensors, asked.deadline, parsed.parameters.priority)
        _account(target.ref, outputs, measures)
        began = self._clock()
        predictions, probabilities = interpret(outputs, target.manifest, parsed.parameters)
        computed = Computed(outputs, predictions, probabilities, [str(uuid7()) for _ in predictions])
        answer = parsed.encode(target, computed)
        encoded = self._clock()
        measures.encode.observe(encoded - began)
        return Made(target, propensity, computed, answer, encoded)

    async def _read(self, incoming: Incoming, deadline: Deadline) -> bytes:
        try:
            async with asyncio.timeout(deadline.remaining(self._clock())):
                return await incoming.read()
        except TimeoutError:
            raise BodyTooSlow from None

    async def _take(
        self, body: Body, parse: Parse, target: Target, deadline: Deadline, caller: Caller, measures: VersionMeasures
    ) -> Asked:
        """Parse and decode: here what takes little, in a thread what may take long."""
        ref, in_thread = target.ref, self._offloader.run
        is_small = len(body.data) <= _inline_bytes(target)
        began = self._clock()
        if is_small:
            self._check(ref, "parsing", deadline)
            parsed = parse(body, target, self._limits.max_rows)
        else:
            parsed = await in_thread(lambda _: parse(body, target, self._limits.max_rows), ref, "parsing", deadline)
        if parsed.parameters.timeout is not None:
            # What the body says could not be known before.
            deadline = self._deadline(parsed.parameters.timeout, caller)
            self._check(ref, "decoding", deadline)
        if parsed.are_read or (is_small and not parsed.hold_picture):
            rows = parsed.rows(Allowance(functools.partial(self._check, ref, "decoding", deadline)))
        else:
            rows = await in_thread(lambda check: parsed.rows(Allowance(check)), ref, "decoding", deadline)
        measures.parse.observe(self._clock() - began)
        return Asked(parsed, rows, deadline, is_small)

    async def _prepare(self, asked: Asked, target: Target, measures: VersionMeasures) -> Tensors:
        """The rows as a version's network takes them: made here or in a thread, as above."""
        rows = asked.rows
        if isinstance(rows, Tensors):
            return rows
        began = self._clock()
        if asked.is_small:
            tensors = preprocess(rows, target)
        else:
            work = functools.partial(preprocess, rows, target)
            tensors = await self._offloader.run(lambda _: work(), target.ref, "preprocessing", asked.deadline)
        measures.preprocess.observe(self._clock() - began)
        return tensors

    def _check(self, ref: Ref, where: str, deadline: Deadline) -> None:
        """Of work that is done here: raises DeadlineExceeded once its time is up."""
        if deadline.expired(self._clock()):
            raise DeadlineExceeded(ref, where)

    def _deadline(self, timeout: float | None, caller: Caller) -> Deadline:
        """The caller's time, from when the request arrived; the body's word counts before the header's."""
        seconds = min(timeout or self._limits.default_timeout, self._limits.max_timeout)
        return Deadline.after(seconds, now=caller.arrived)


class _Measured:
    """Counts a request under what became of it. A class: context managers made of generators take longer."""

    __slots__ = ("_caller", "_clock", "measures")

    def __init__(self, measures: VersionMeasures, clock: Callable[[], float], caller: Caller) -> None:
        # The measures are those of the version that answers: while a challenger is on trial, that is known later.
        self.measures, self._clock, self._caller = measures, clock, caller

    def __enter__(self) -> "_Measured":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        match error:
            case None:
                outcome = "ok"
            case ServoloopError():
                outcome = error.kind
            case asyncio.CancelledError():
                outcome = "cancelled"
            case _:
                outcome = "unexpected_error"
        self.measures.requests(outcome).add()
        self.measures.duration.observe(self._clock() - self._caller.arrived)


def _account(ref: Ref, outputs: Outputs, measures: VersionMeasures) -> None:
    """Measure what the engine did. Raises PredictionFailed where it failed on every row."""
    failed = len(outputs.failures)
    measures.queue.observe(outputs.queue_seconds)
    measures.compute.observe(outputs.compute_seconds)
    if failed < len(outputs.values):
        measures.rows.add(len(outputs.values) - failed)
    if failed:
        measures.failed_rows.add(failed)
    if failed == len(outputs.values):
        raise PredictionFailed(ref, outputs.failures[0])


def _inline_bytes(target: Target) -> int:
    return _INLINE_TEXT_BYTES if isinstance(target.manifest.input, TextInput) else _INLINE_BYTES
