"""The recorder's end of its socket: commits records in groups, and makes the changes that are asked for."""

import asyncio
import contextlib
import functools
import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from service.errors import BrokenContract, ServoloopError, StoreUnavailable
from service.process.tasks import Background
from service.store.base import Contracts, Input, Record, Stores
from service.store.feedback import FeedbackEvent, Outcome
from service.store.messages import Facts, apply, error_facts, inputs_in
from service.telemetry.instruments import RecorderTelemetry
from service.wire.frames import Frame, Kind
from service.wire.link import Link

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0
_MOST_EVENTS = 1_000


@dataclass(frozen=True, slots=True)
class Retention:
    """What is older than `keep` is deleted, looked for `every` so often; inputs after `keep_inputs`, and while there
    are more than `max_input_bytes`; feedback waits for its prediction as long as `pending`. Times in seconds."""

    keep: float
    pending: float = 86_400.0
    keep_inputs: float = 30 * 86_400.0
    max_input_bytes: int = 1 << 30
    every: float = 60.0
    portion: int = 500


@dataclass(frozen=True, slots=True)
class _Gathered:
    """Records that were sent together; of `num_malformed` more not even the form was right."""

    link: Link
    number: int
    records: list[Record]
    inputs: list[Input]
    num_malformed: int


@dataclass(frozen=True, slots=True)
class _Said:
    """Feedback that was sent together."""

    link: Link
    number: int
    events: list[FeedbackEvent]


class RecorderServer:
    """Everything that writes runs on one thread, one thing at a time.

    What arrives while a commit runs is committed together afterwards, so that groups grow with the load and a lone
    record waits for nobody. `clock` in seconds since 1970.
    """

    def __init__(
        self,
        stores: Stores,
        telemetry: RecorderTelemetry,
        retention: Retention,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stores = stores
        self._telemetry = telemetry
        self._retention = retention
        self._clock = clock
        self._gathered: list[_Gathered] = []
        self._said: list[_Said] = []
        self._contracts: Contracts | None = None
        self._changes = Background()
        self._work = asyncio.Event()
        self._stopping = False
        self._next_expiry = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writer")

    def connection(self) -> Link:
        """A protocol for one connection."""
        link: Link

        def receive(frame: Frame) -> None:
            self._receive(link, frame)

        link = Link(receive)
        return link

    async def run(self) -> None:
        """Commit until told to stop, and then what is left."""
        while self._gathered or self._said or not self._stopping:
            until_expiry = max(0.0, self._next_expiry - self._clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_expiry):
                    await self._work.wait()
            self._work.clear()
            await self._commit()
            await self._commit_feedback()
            if self._clock() >= self._next_expiry and not self._stopping:
                await self._expire()
        await self._changes.drain()
        self._thread.shutdown()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping = True
        self._work.set()

    def _receive(self, link: Link, frame: Frame) -> None:
        match frame.kind:
            case Kind.RECORD:
                sent = frame.meta["records"]
                records = [Record._make(fields) for fields in sent if _is_record(fields)]
                # Refused, as what the store refuses is: a peer that is cut off would send them again, for ever.
                self._gathered.append(
                    _Gathered(link, frame.request_id, records, inputs_in(frame), len(sent) - len(records))
                )
                self._work.set()
            case Kind.FEEDBACK:
                events = [FeedbackEvent._make(fields) for fields in frame.meta["events"]]
                self._said.append(_Said(link, frame.request_id, events))
                self._work.set()
            case Kind.CHANGE:
                self._changes.start(self._change(link, frame.request_id, frame.meta))
            case kind:
                raise BrokenContract("kind of frame", expected="RECORD, FEEDBACK or CHANGE", got=kind)

    async def _commit(self) -> None:
        gathered, self._gathered = self._gathered, []
        records = [record for one in gathered for record in one.records]
        inputs = {kept.prediction_id: kept for one in gathered for kept in one.inputs}
        refused = await self._append_measured(records, inputs) if records else set()
        for one in gathered:
            if one.num_malformed:
                log.error("predictions that are none are refused", extra={"records": one.num_malformed})
            num_refused = one.num_malformed + sum(record.id in refused for record in one.records)
            one.link.send(Frame(Kind.RECORDED, one.number, meta={"refused": num_refused}))

    async def _append_measured(self, records: Sequence[Record], inputs: Mapping[str, Input]) -> set[str]:
        started = time.monotonic()
        refused = await self._append(records, inputs)
        self._telemetry.commit_duration.observe(time.monotonic() - started)
        self._telemetry.group_records.observe(len(records))
        self._telemetry.written.inc(len(records) - len(refused))
        self._telemetry.inputs.inc(len(inputs.keys() - refused))
        return refused

    async def _append(self, records: Sequence[Record], inputs: Mapping[str, Input]) -> set[str]:
        """Make records durable, however long it takes; the ids of those that are not.

        The store may refuse a record for what it holds; and where it is away, there is no waiting once we must stop.
        """
        delay = _FIRST_DELAY
        while True:
            try:
                theirs = [inputs[record.id] for record in records if record.id in inputs] if inputs else []
                waited = await self._on_thread(self._stores.predictions.append, records, theirs)
            except StoreUnavailable as error:
                if self._stopping:
                    log.error("predictions are lost", extra={"reason": error.reason, "records": len(records)})
                    return {record.id for record in records}
                log.error("predictions can't be written, and wait", extra={"reason": error.reason, "in": delay})
                await asyncio.sleep(delay)
                delay = min(2 * delay, _LONGEST_DELAY)
            except Exception as error:  # noqa: BLE001
                # Whatever keeps one record out, the others are written.
                if len(records) == 1:
                    log.error("a prediction is refused by the store", extra={"error": type(error).__name__})
                    return {records[0].id}
                middle = len(records) // 2
                return await self._append(records[:middle], inputs) | await self._append(records[middle:], inputs)
            else:
                self._telemetry.feedback.labels("joined_later").inc(waited)
                return set()

    async def _commit_feedback(self) -> None:
        """Groups that came together are committed together, up to so many events."""
        said, self._said = self._said, []
        while said:
            size = len(said[0].events)
            count = 1
            while count < len(said) and size + len(said[count].events) <= _MOST_EVENTS:
                size += len(said[count].events)
                count += 1
            portion, said = said[:count], said[count:]
            await self._commit_said(portion)

    async def _commit_said(self, portion: Sequence[_Said]) -> None:
        events = [event for one in portion for event in one.events]
        try:
            if self._contracts is None:
                self._contracts = await self._on_thread(self._stores.control.contracts)
            outcomes = iter(await self._add(events, self._contracts))
        except StoreUnavailable as error:
            log.error("feedback can't be written", extra={"reason": error.reason, "events": len(events)})
            for one in portion:
                one.link.send(Frame(Kind.FAILED, one.number, meta=error_facts(error)))
            return
        except Exception:  # the answer says that it failed, the log says why
            log.exception("feedback can't be written")
            for one in portion:
                one.link.send(Frame(Kind.FAILED, one.number, meta={"error": "internal"}))
            return
        for one in portion:
            its = list(itertools.islice(outcomes, len(one.events)))
            for outcome in its:
                self._telemetry.feedback.labels(outcome.status).inc()
            one.link.send(Frame(Kind.NOTED, one.number, meta={"outcomes": [list(outcome) for outcome in its]}))

    async def _add(self, events: Sequence[FeedbackEvent], contracts: Contracts) -> list[Outcome]:
        """What became of each. Raises StoreUnavailable."""
        try:
            return await self._on_thread(self._stores.feedback.add, events, contracts)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001
            # Whatever keeps one event out, the others are written.
            if len(events) == 1:
                log.error("an event is refused by the store", extra={"error": type(error).__name__})
                return [Outcome("rejected", None, events[0].prediction_id, "the store does not take this")]
            middle = len(events) // 2
            return await self._add(events[:middle], contracts) + await self._add(events[middle:], contracts)

    async def _expire(self) -> None:
        """Delete a portion of each; the next comes soon where there is more, with a commit between."""
        retention, now = self._retention, self._clock()
        predictions, feedback = self._stores.predictions, self._stores.feedback
        delete_inputs = functools.partial(predictions.delete_inputs, max_bytes=retention.max_input_bytes)
        jobs = (
            (predictions.delete_older_than, retention.keep, self._telemetry.expired),
            (delete_inputs, retention.keep_inputs, self._telemetry.expired_inputs),
            (feedback.delete_older_than, retention.keep, self._telemetry.expired_feedback),
            (feedback.orphan_older_than, retention.pending, self._telemetry.orphaned),
        )
        is_more = False
        for work, keep, counter in jobs:
            try:
                done = await self._on_thread(functools.partial(work, limit=retention.portion), now - keep)
            except StoreUnavailable as error:
                log.error("what is old can't be deleted", extra={"reason": error.reason})
                done = 0
            except Exception:  # whatever it is, what is new must be written
                log.exception("what is old can't be deleted")
                done = 0
            counter.inc(done)
            is_more = is_more or done >= retention.portion
        if not is_more:
            self._next_expiry = now + retention.every

    async def _change(self, link: Link, number: int, facts: Facts) -> None:
        try:
            answer = Frame(Kind.CHANGED, number, meta=await self._on_thread(apply, self._stores, facts))
            self._contracts = None  # they may be others now
        except ServoloopError as error:
            answer = Frame(Kind.FAILED, number, meta=error_facts(error))
        except Exception:  # the answer says that it failed, the log says why
            log.exception("a change failed")
            answer = Frame(Kind.FAILED, number, meta={"error": "internal"})
        link.send(answer)

    async def _on_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = functools.partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _is_record(fields: Any) -> bool:
    """Whether this has a record's fields, and an id. What is in the others is for the store to judge."""
    return isinstance(fields, list) and len(fields) == len(Record._fields) and isinstance(fields[0], str)
