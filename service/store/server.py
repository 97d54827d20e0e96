"""The recorder's end of its socket: commits records in groups, and makes the changes that are asked for."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from service.errors import BrokenContract, ServoloopError, StoreUnavailable
from service.process.tasks import Background
from service.store.base import Control, Predictions, Record
from service.store.messages import Facts, apply, error_facts
from service.telemetry.instruments import RecorderTelemetry
from service.wire.frames import Frame, Kind
from service.wire.link import Link

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.05, 2.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Records older than `keep` are deleted, looked for `every` so often; both in seconds."""

    keep: float
    every: float = 60.0
    portion: int = 500


@dataclass(frozen=True, slots=True)
class _Gathered:
    """Records that were sent together; of `num_malformed` more not even the form was right."""

    link: Link
    number: int
    records: list[Record]
    num_malformed: int


class RecorderServer:
    """Everything that writes runs on one thread, one thing at a time.

    What arrives while a commit runs is committed together afterwards, so that groups grow with the load and a lone
    record waits for nobody. `clock` in seconds since 1970.
    """

    def __init__(
        self,
        control: Control,
        predictions: Predictions,
        telemetry: RecorderTelemetry,
        retention: Retention,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._control = control
        self._predictions = predictions
        self._telemetry = telemetry
        self._retention = retention
        self._clock = clock
        self._gathered: list[_Gathered] = []
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
        while self._gathered or not self._stopping:
            until_expiry = max(0.0, self._next_expiry - self._clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(until_expiry):
                    await self._work.wait()
            self._work.clear()
            await self._commit()
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
                self._gathered.append(_Gathered(link, frame.request_id, records, len(sent) - len(records)))
                self._work.set()
            case Kind.CHANGE:
                self._changes.start(self._change(link, frame.request_id, frame.meta))
            case kind:
                raise BrokenContract("kind of frame", expected="RECORD or CHANGE", got=kind)

    async def _commit(self) -> None:
        gathered, self._gathered = self._gathered, []
        records = [record for one in gathered for record in one.records]
        refused = await self._append_measured(records) if records else set()
        for one in gathered:
            if one.num_malformed:
                log.error("predictions that are none are refused", extra={"records": one.num_malformed})
            num_refused = one.num_malformed + sum(record.id in refused for record in one.records)
            one.link.send(Frame(Kind.RECORDED, one.number, meta={"refused": num_refused}))

    async def _append_measured(self, records: Sequence[Record]) -> set[str]:
        started = time.monotonic()
        refused = await self._append(records)
        self._telemetry.commit_duration.observe(time.monotonic() - started)
        self._telemetry.group_records.observe(len(records))
        self._telemetry.written.inc(len(records) - len(refused))
        return refused

    async def _append(self, records: Sequence[Record]) -> set[str]:
        """Make records durable, however long it takes; the ids of those that are not.

        The store may refuse a record for what it holds; and where it is away, there is no waiting once we must stop.
        """
        delay = _FIRST_DELAY
        while True:
            try:
                await self._on_thread(self._predictions.append, records)
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
                return await self._append(records[:middle]) | await self._append(records[middle:])
            else:
                return set()

    async def _expire(self) -> None:
        """Delete a portion; the next comes soon where there is more, with a commit between."""
        retention = self._retention
        oldest = self._clock() - retention.keep
        delete = functools.partial(self._predictions.delete_older_than, limit=retention.portion)
        try:
            deleted = await self._on_thread(delete, oldest)
        except StoreUnavailable as error:
            log.error("old predictions can't be deleted", extra={"reason": error.reason})
            deleted = 0
        self._telemetry.expired.inc(deleted)
        if deleted < retention.portion:
            self._next_expiry = self._clock() + retention.every

    async def _change(self, link: Link, number: int, facts: Facts) -> None:
        try:
            answer = Frame(Kind.CHANGED, number, meta=await self._on_thread(apply, self._control, facts))
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
