"""This process's end of an engine's socket: sends rows, waits for their outputs, survives the engine's death."""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from models.preprocess import Tensors
from service.domain import DEFAULT_PRIORITY, Deadline, Ref
from service.errors import DeadlineExceeded, EngineLost, NotReady, QuarantinedInput
from service.process.tasks import Background
from service.serving.admission import PendingBounds
from service.serving.engine_status import STALE_SECONDS, EngineStatus
from service.serving.held import Held, MovesOn
from service.serving.lateness import Lateness
from service.serving.outbox import Outbox
from service.serving.outputs import joined
from service.serving.suspicion import Suspicion, digests, row_of
from service.telemetry.instruments import HttpTelemetry
from service.watch.history import History
from service.wire.frames import Frame, Kind
from service.wire.inference import Outputs, error_in, results_in
from service.wire.link import KeptLink
from service.wire.report import Report
from service.wire.statistics import Statistics, statistics_in

log = logging.getLogger(__name__)

# The engine drops what is late; this is for an engine that doesn't answer at all.
_GRACE_SECONDS = 0.05
# Deadlines end most of it sooner; this is for an engine that starts, and fails, in no time.
_MAX_SENDS = 10
# An engine that is being replaced has counted nothing.
_COUNT_SECONDS = 1.0


class EngineClient:
    """To be used between `start` and `stop`.

    It keeps one connection, and opens it anew when the engine is replaced; `tell` is called at every news of it.
    `clock` is that of the deadlines.

    What an engine held when it died is sent again to its successor, and what arrives while there is none waits, both
    within their deadlines, unless the caller knows of another engine. Rows that an engine may have died of are sent
    alone: docs/decisions/0007.
    """

    def __init__(
        self,
        path: Path,
        telemetry: HttpTelemetry,
        *,
        max_pending_rows: int,
        max_pending_bytes: int = 1 << 30,
        stale_seconds: float = STALE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self._telemetry = telemetry
        self._bounds = PendingBounds(max_pending_rows, max_pending_bytes)
        self._stale_seconds = stale_seconds
        self._clock = clock
        self._tell = tell
        self._held: dict[int, Held] = {}
        self._moved: dict[int, Held] = {}
        self._counted: dict[int, asyncio.Future[dict[Ref, Statistics]]] = {}
        # Other processes ask the same engine; what it says of requests must not be taken for ours.
        self._next_id = secrets.randbits(31) << 32
        self._link = KeptLink(path, self._receive, lost=self._lose)
        self._outbox = Outbox(self._link.send, self._link.flush, clock)
        self._lateness = Lateness(self._give_up_late, clock)
        self._suspicion = Suspicion()
        self._apart = Background()
        self.status = EngineStatus()

    def start(self) -> None:
        """Connect, and stay connected until `stop`."""
        self._link.start()

    async def stop(self) -> None:
        """Let go of the connection."""
        await self._link.stop()
        self._lateness.stop()

    @property
    def held_rows(self) -> int:
        """Rows that this engine owes an answer for."""
        return self._bounds.num_rows

    @property
    def waiting_for(self) -> set[Ref]:
        """Versions that requests are held for, because this engine does not have them now."""
        return {held.ref for held in self._held.values()} - self.status.ready.keys()

    @property
    def is_heard(self) -> bool:
        """Whether the engine gave a sign of life lately."""
        return self.status.is_heard(self._clock(), self._stale_seconds)

    def why_unready(self, ref: Ref) -> str | None:
        """What keeps a version from being ready; None where nothing does."""
        return self.status.why_unready(ref, self._clock(), self._stale_seconds)

    async def infer(
        self,
        ref: Ref,
        tensors: Tensors,
        deadline: Deadline,
        priority: int = DEFAULT_PRIORITY,
        *,
        sends: int = 0,
        elsewhere: Callable[[], bool] | None = None,
    ) -> Outputs:
        """Compute rows on the engine, after they were sent to others `sends` times.

        Raises MovesOn where the engine is lost and `elsewhere` says that another one has the version: not for rows that
        run alone or one by one, because this engine's successor knows what they did.

        Raises QueueFull, Overloaded, NotReady, EngineLost, DeadlineExceeded, QuarantinedInput or PredictionFailed.
        """
        if ref in self.status.failed:
            raise NotReady(ref, "it could not be loaded")
        self._bounds.enter(ref, tensors)
        try:
            if not self._suspicion.is_idle and any(map(self._suspicion.knows, digests(ref, tensors))):
                outputs = await self._row_by_row(ref, tensors, deadline, priority)
            else:
                outputs = await self._ask(ref, tensors, deadline, priority, sends=sends, elsewhere=elsewhere)
            if outputs.quarantined:
                log.warning("quarantined rows are refused", extra={"ref": str(ref), "rows": len(outputs.quarantined)})
            return outputs
        except QuarantinedInput:
            log.warning("a quarantined input is refused", extra={"ref": str(ref)})
            raise
        finally:
            self._bounds.leave(ref, tensors)

    async def statistics(self) -> dict[Ref, Statistics]:
        """What the engine counted of each version that it has; nothing where there is none, or it does not say."""
        if not self._link.is_open:
            return {}
        self._next_id += 1
        request_id = self._next_id
        counted: asyncio.Future[dict[Ref, Statistics]] = asyncio.get_running_loop().create_future()
        self._counted[request_id] = counted
        self._link.send(Frame(Kind.COUNT, request_id))
        try:
            async with asyncio.timeout(_COUNT_SECONDS):
                return await counted
        except TimeoutError:
            return {}
        finally:
            del self._counted[request_id]

    async def _ask(
        self,
        ref: Ref,
        tensors: Tensors,
        deadline: Deadline,
        priority: int,
        digest: bytes = b"",
        *,
        sends: int = 0,
        elsewhere: Callable[[], bool] | None = None,
    ) -> Outputs:
        loop = asyncio.get_running_loop()
        self._next_id += 1
        request_id = self._next_id
        held = self._held[request_id] = Held(
            ref, tensors, deadline, priority, loop.create_future(), digest, sends, elsewhere=elsewhere
        )
        self._lateness.watch(deadline.at + _GRACE_SECONDS)
        try:
            self._send(request_id, held)
            return await held.future
        finally:
            if self._held.pop(request_id, None) is not None:
                # Nobody waits for this answer any more: the caller was cancelled, or the time is up. What is in the
                # outbox leaves first: the event loop was to send it before it was to run this.
                self._link.send(Frame(Kind.CANCEL, request_id))

    async def _row_by_row(self, ref: Ref, tensors: Tensors, deadline: Deadline, priority: int) -> Outputs:
        """Ask for each row by itself, for suspects alone, and not at all for what is quarantined."""
        outcomes = await asyncio.gather(
            *(
                self._ask_row(ref, row_of(tensors, index), deadline, priority, digest)
                for index, digest in enumerate(digests(ref, tensors))
            ),
            return_exceptions=True,
        )
        return joined(ref, outcomes)

    async def _ask_row(self, ref: Ref, row: Tensors, deadline: Deadline, priority: int, digest: bytes) -> Outputs:
        if self._suspicion.is_quarantined(digest):
            raise QuarantinedInput(ref)
        if not self._suspicion.is_suspect(digest):
            return await self._ask(ref, row, deadline, priority)
        outputs = await self._ask(ref, row, deadline, priority, digest)
        self._suspicion.clear(digest)
        return outputs

    def _send(self, request_id: int, held: Held) -> None:
        """Send now if the engine can take it; otherwise it goes when the engine says that it can."""
        if not self._link.is_open or held.ref not in self.status.ready:
            return
        if held.sends:
            self._telemetry.resent.inc()
        held.sends += 1
        held.sent_to = self._suspicion.incarnation
        self._outbox.add(request_id, held)

    def _give_up_late(self) -> None:
        now = self._clock()
        for held in self._held.values():
            if held.future.done():
                continue
            if held.deadline.at + _GRACE_SECONDS <= now:
                self._give_up(held)
            else:
                self._lateness.watch(held.deadline.at + _GRACE_SECONDS)

    def _give_up(self, held: Held) -> None:
        if not held.sends:
            held.future.set_exception(NotReady(held.ref, "its engine is starting"))
        elif held.ref not in self.status.ready:
            held.future.set_exception(EngineLost(held.ref))
        else:
            held.future.set_exception(DeadlineExceeded(held.ref, "the engine"))

    def _lose(self) -> None:
        self.status = EngineStatus()
        self._tell()
        for counted in self._counted.values():
            if not counted.done():
                counted.set_result({})
        lost = {number: held for number, held in self._held.items() if held.sends and not held.future.done()}
        log.warning("the engine is gone", extra={"held_requests": len(lost)})
        for request_id, held in lost.items():
            if held.sends >= _MAX_SENDS:
                held.future.set_exception(EngineLost(held.ref))
            elif held.elsewhere is not None and held.elsewhere():
                self._moved[request_id] = held  # the successor will say whether it was this one
                held.future.set_exception(MovesOn(held.sends))

    def _receive(self, frame: Frame) -> None:
        if frame.kind is Kind.STATUS:
            self._update(Report.from_frame(frame))
            return
        if frame.kind is Kind.COUNTED:
            counted = self._counted.get(frame.request_id)
            if counted is not None and not counted.done():
                counted.set_result(statistics_in(frame))
            return
        # Read first: where that fails the link is cut, and requests are held like others that an engine lost.
        if frame.kind is Kind.RESULT:
            for request_id, outputs in results_in(frame):
                if (held := self._awaited(request_id)) is not None:
                    held.resolve(outputs)
                    del self._held[request_id]
        elif (held := self._awaited(frame.request_id)) is not None:
            held.future.set_exception(error_in(frame, held.ref))
            del self._held[frame.request_id]

    def _awaited(self, request_id: int) -> Held | None:
        held = self._held.get(request_id)
        return None if held is None or held.future.done() else held

    def _update(self, report: Report) -> None:
        before = self.status.ready.keys()
        if report.history is not None:
            self._learn(report.history)
        self.status = EngineStatus.of(report, heard=self._clock())
        fresh, failed = report.ready.keys() - before, report.failed
        for request_id, held in list(self._held.items()) if fresh or failed else ():
            if held.future.done():
                continue
            if held.ref in fresh:
                self._send(request_id, held)
            elif held.ref in failed:
                held.future.set_exception(NotReady(held.ref, "it could not be loaded"))
        if fresh or failed or before - report.ready.keys():
            self._tell()

    def _learn(self, history: History) -> None:
        """Take in what became of the engines that requests were sent to, before these are sent again."""
        self._suspicion.learn(history)
        for request_id, held in list(self._held.items()):
            if held.future.done():
                continue
            if self._suspicion.is_quarantined(held.digest):
                held.future.set_exception(QuarantinedInput(held.ref))
                continue
            if not held.digest and self._suspicion.accuse(request_id, held):
                self._take_apart(request_id, held)
        for request_id, held in self._moved.items():
            self._suspicion.accuse(request_id, held)
        self._moved.clear()

    def _take_apart(self, request_id: int, held: Held) -> None:
        """Have a request's rows asked for one by one, the suspects among them alone."""
        del self._held[request_id]

        async def ask() -> None:
            try:
                outputs = await self._row_by_row(held.ref, held.tensors, held.deadline, held.priority)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's to hear
                if not held.future.done():
                    held.future.set_exception(error)
            else:
                if not held.future.done():
                    held.future.set_result(outputs)

        task = self._apart.start(ask())
        # The caller may leave meanwhile.
        held.future.add_done_callback(lambda _: task.cancel())
