"""The journey of a prediction."""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from uuid_utils import uuid7

from models.manifest import TextInput
from models.preprocess import RawRows, Tensors
from service.domain import Address, Caller, Deadline, PredictParameters, Ref
from service.errors import BodyTooSlow, PredictionFailed, QuarantinedInput, ServoloopError, UnprocessableInput
from service.serving import codec
from service.serving.admission import Admission
from service.serving.allowance import Allowance
from service.serving.codec import Body, Parsed
from service.serving.held import Outputs
from service.serving.offloading import Check, Offloader
from service.serving.parameters import Query
from service.serving.postprocess import Prediction, postprocess
from service.serving.router import Router, Target
from service.store.base import Record
from service.tally import Times
from service.telemetry import HttpTelemetry, VersionMeasures

# Below this, work is done where it arrives: of texts, which are tokenised, and of all else, where a byte takes less.
# The second is an estimate from what 29 KB of numbers take (about 0.1 ms), not a measured break-even.
_INLINE_TEXT_BYTES = 16_384
_INLINE_BYTES = 65_536
# Of a prediction, what is logged: not what was added because the caller asked for more, and no long vectors.
_LOGGED = ("label", "index", "probability", "value", "labels", "error")


class Engines(Protocol):
    """What computes."""

    async def infer(self, ref: Ref, tensors: Tensors, deadline: Deadline, priority: int) -> Outputs: ...


class Log(Protocol):
    """What remembers predictions."""

    def record(self, records: Iterable[Record]) -> None:
        """Takes no time and never fails."""
        ...


class Incoming(Protocol):
    """A request whose body has not been read yet."""

    @property
    def content_type(self) -> str | None: ...

    @property
    def query(self) -> Query: ...

    def read_at_once(self) -> bytes | None:
        """The body, if all of it has arrived. Raises as `read` does."""
        ...

    async def read(self) -> bytes:
        """The body. Raises BodyTooLarge."""
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


class Pipeline:
    """Answers predict requests; everything it needs is handed in."""

    def __init__(
        self,
        router: Router,
        engines: Engines,
        log: Log,
        telemetry: HttpTelemetry,
        threads: Executor,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._router = router
        self._engines = engines
        self._log = log
        self._telemetry = telemetry
        self._offloader = Offloader(threads, limits.max_waiting_decodes, clock)
        self._admission = Admission(limits.max_requests)
        self._limits = limits
        self._clock = clock

    async def predict(self, address: Address, incoming: Incoming, caller: Caller) -> bytes:
        """The answer's JSON.

        Raises InvalidInput, Unknown, Unavailable, BodyTooSlow, DeadlineExceeded or PredictionFailed.
        """
        target = self._router.choose(address)
        measures = self._telemetry.of(target.ref)
        with self._measured(measures, caller):
            # The body may name another time, which can't be known before it is parsed.
            deadline = self._deadline(caller.timeout, caller)
            self._admission.check(target.ref)
            body = Body(await self._read(incoming, deadline), incoming.content_type, incoming.query)
            is_small = len(body.data) <= _inline_bytes(target)
            # Only now: clients that send slowly take nobody's place.
            with self._admission.of(target.ref):
                with self._stage(measures.parse):
                    parsed = await self._parse(body, target, deadline, is_small)
                    wanted = parsed.parameters
                    if wanted.timeout is not None:
                        deadline = self._deadline(wanted.timeout, caller)
                    rows = await self._decode(parsed, target, deadline, body, is_small)
                with self._stage(measures.preprocess):
                    tensors = await self._preprocess(rows, target, deadline, is_small)
                outputs = await self._engines.infer(target.ref, tensors, deadline, wanted.priority)
            _account(target.ref, outputs, measures)
            with self._stage(measures.encode):
                predictions = _predictions(outputs, target, wanted)
                ids = [str(uuid7()) for _ in predictions]
                answer = codec.encode(target.ref, ids, predictions)
            latency = self._clock() - caller.arrived
            self._log.record(_records(ids, predictions, target, wanted, caller, latency))
            return answer

    async def _read(self, incoming: Incoming, deadline: Deadline) -> bytes:
        body = incoming.read_at_once()
        if body is not None:
            return body
        try:
            async with asyncio.timeout(deadline.remaining(self._clock())):
                return await incoming.read()
        except TimeoutError:
            raise BodyTooSlow from None

    async def _parse(self, body: Body, target: Target, deadline: Deadline, is_small: bool) -> Parsed:
        def parse(_: Check) -> Parsed:
            return codec.parse(body, target.manifest.input, max_rows=self._limits.max_rows)

        if is_small:
            return self._offloader.at_once(parse, target.ref, "parsing", deadline)
        return await self._offloader.run(parse, target.ref, "parsing", deadline)

    async def _decode(self, parsed: Parsed, target: Target, deadline: Deadline, body: Body, is_small: bool) -> RawRows:
        def decode(check: Check) -> RawRows:
            return parsed.rows(Allowance(check))

        if parsed.are_read or (is_small and not codec.holds_picture(body)):
            return self._offloader.at_once(decode, target.ref, "decoding", deadline)
        return await self._offloader.run(decode, target.ref, "decoding", deadline)

    async def _preprocess(self, rows: RawRows, target: Target, deadline: Deadline, is_small: bool) -> Tensors:
        def preprocess(_: Check) -> Tensors:
            try:
                return target.preprocess(rows)
            except ValueError as error:
                raise UnprocessableInput(f"preprocessing refused it: {error}", field="instances") from error

        if is_small:
            return self._offloader.at_once(preprocess, target.ref, "preprocessing", deadline)
        return await self._offloader.run(preprocess, target.ref, "preprocessing", deadline)

    def _deadline(self, timeout: float | None, caller: Caller) -> Deadline:
        """The caller's time, from when the request arrived; the body's word counts before the header's."""
        seconds = min(timeout or self._limits.default_timeout, self._limits.max_timeout)
        return Deadline.after(seconds, now=caller.arrived)

    def _measured(self, measures: VersionMeasures, caller: Caller) -> "_Measured":
        return _Measured(measures, self._clock, caller)

    def _stage(self, times: Times) -> "_Stage":
        return _Stage(times, self._clock)


# Classes, because context managers made of generators take longer, at every request.


class _Measured:
    """Counts a request under what became of it."""

    __slots__ = ("_caller", "_clock", "_measures")

    def __init__(self, measures: VersionMeasures, clock: Callable[[], float], caller: Caller) -> None:
        self._measures, self._clock, self._caller = measures, clock, caller

    def __enter__(self) -> None: ...

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
        self._measures.requests(outcome).add()
        self._measures.duration.observe(self._clock() - self._caller.arrived)


class _Stage:
    """Measures a stage of a request that succeeds."""

    __slots__ = ("_clock", "_started", "_times")

    def __init__(self, times: Times, clock: Callable[[], float]) -> None:
        self._times, self._clock = times, clock

    def __enter__(self) -> None:
        self._started = self._clock()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._times.observe(self._clock() - self._started)


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


def _predictions(outputs: Outputs, target: Target, parameters: PredictParameters) -> list[Prediction]:
    """A prediction for each row, or, in its place, why that row has none."""
    values = outputs.values
    if not outputs.failures:
        return postprocess(values, target.manifest, parameters)
    good = [index for index in range(len(values)) if index not in outputs.failures]
    answered = dict(zip(good, postprocess(values[good], target.manifest, parameters), strict=True))
    return [answered.get(index) or {"error": _row_error(outputs, index)} for index in range(len(values))]


def _records(
    ids: Sequence[str],
    predictions: Sequence[Prediction],
    target: Target,
    parameters: PredictParameters,
    caller: Caller,
    latency: float,
) -> Iterator[Record]:
    digest = target.manifest.digest
    key = parameters.key or caller.key
    external_ids = parameters.external_ids or [None] * len(ids)
    for prediction_id, prediction, external_id in zip(ids, predictions, external_ids, strict=True):
        yield Record(
            id=prediction_id,
            model=target.ref.model,
            version=target.ref.version,
            digest=digest,
            outputs={name: prediction[name] for name in _LOGGED if name in prediction},
            latency=latency,
            principal=caller.principal.name,
            request_id=caller.request_id,
            external_id=external_id,
            key=key,
            tags=parameters.tags,
        )


def _row_error(outputs: Outputs, index: int) -> dict[str, str]:
    kind = QuarantinedInput.kind if index in outputs.quarantined else PredictionFailed.kind
    return {"type": kind, "detail": outputs.failures[index]}
