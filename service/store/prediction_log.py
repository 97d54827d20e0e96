"""An http process's end of the prediction log: takes records at once, and sees to their becoming durable."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

from service.store.base import Input, Record
from service.store.messages import record_frame
from service.store.record_queue import LogPolicy, Offer, Pace, RecordQueue
from service.telemetry.instruments import HttpTelemetry
from service.wire.frames import Frame
from service.wire.link import KeptLink

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 3.0


class PredictionLog:
    """Use as an async context manager: at its end it waits a few seconds until what it holds is durable.

    Keeps one connection to the recorder, and opens it anew when the recorder is replaced; what was not acknowledged is
    sent again, and the store takes each id once.
    """

    def __init__(
        self,
        path: Path,
        telemetry: HttpTelemetry,
        policy: LogPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._queue = RecordQueue(policy or LogPolicy(), clock)
        self._link = KeptLink(path, self._receive, opened=self._send, lost=self._lose)
        self._pace = Pace(clock)
        self._timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

    async def __aenter__(self) -> "PredictionLog":
        self._link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._flush()
        await self._link.stop()

    def record(self, records: Iterable[Record], inputs: Iterable[Input] = ()) -> None:
        """Never waits and never fails: what can't be kept is dropped, and counted; inputs before records."""
        kept = {one.prediction_id: one for one in inputs} if inputs else {}
        if kept and not self._queue.has_room_for_inputs:
            self._telemetry.inputs_dropped.inc(len(kept))
            kept = {}
        for record in records:
            try:
                encoded = orjson.dumps(tuple(record))
            except TypeError:
                self._drop("unencodable")
                continue
            if not self._queue.offer(Offer(encoded, kept.get(record.id) if kept else None)):
                self._drop("queue_full")
        if self._link.is_open and self._queue.has_full_group:
            self._send()
        elif self._timer is None and len(self._queue):
            self._timer = asyncio.get_running_loop().call_later(self._pace.seconds, self._send)

    def _drop(self, reason: str, count: int = 1) -> None:
        self._telemetry.log_dropped.labels(reason).inc(count)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._telemetry.log_queued.set(len(self._queue))
        if not self._link.is_open:
            return
        for group in self._queue.take():
            self._pace.sent(group.number)
            self._link.send(record_frame(group))

    def _receive(self, frame: Frame) -> None:
        refused = frame.meta["refused"]
        group = self._queue.acknowledge(frame.request_id)
        if group is None:
            return
        self._pace.acknowledged(group.number)
        if refused:
            self._drop("refused", refused)
        self._telemetry.log_lag.observe(self._clock() - group.offered)
        self._telemetry.log_queued.set(len(self._queue))
        if not len(self._queue):
            self._empty.set()
        elif self._timer is None:
            # So many groups were under way that records had to wait for this.
            self._send()

    def _lose(self) -> None:
        self._queue.lose()
        self._pace.lost()
        log.warning("the recorder is gone", extra={"held_records": len(self._queue)})

    async def _flush(self) -> None:
        self._empty.clear()
        if not len(self._queue):
            return
        self._send()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), _FLUSH_SECONDS)
        if left := len(self._queue):
            log.error("predictions were not logged", extra={"records": left})
            self._drop("undelivered", left)
