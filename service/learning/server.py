"""The loop process's end of its socket: answers how good models are, and keeps up with what becomes known."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

import numpy as np

from models.metrics import Array
from service.errors import BrokenContract, ServoloopError, StoreUnavailable
from service.learning.measuring import Measuring, OneThread
from service.learning.offline import judge
from service.learning.questions import RowsQuestion, question_in
from service.process.tasks import Background
from service.store.messages import Facts, error_facts
from service.telemetry.quality import LoopTelemetry
from service.wire.frames import Frame, Kind
from service.wire.link import Link

log = logging.getLogger(__name__)

_EVERY_SECONDS = 1.0
_SHOWN_EVERY_SECONDS = 15.0


class LoopServer:
    """Keeps what is measured up to date, and answers by it."""

    def __init__(
        self, measuring: OneThread[Measuring], telemetry: LoopTelemetry, every: float = _SHOWN_EVERY_SECONDS
    ) -> None:
        """`every`: how often what is measured is shown, in seconds."""
        self._measuring = measuring
        self._telemetry = telemetry
        self._every = every
        self._questions = Background()
        self._stopping = asyncio.Event()

    def connection(self) -> Link:
        """A protocol for one connection."""
        link: Link

        def receive(frame: Frame) -> None:
            if frame.kind is not Kind.EVALUATE:
                raise BrokenContract("kind of frame", expected="EVALUATE", got=frame.kind)
            self._questions.start(self._answer(link, frame))

        link = Link(receive)
        return link

    async def run(self) -> None:
        """Keep up until told to stop."""
        is_reachable = True
        show_at = 0.0
        while not self._stopping.is_set():
            try:
                await self._measuring.ask(lambda it: it.catch_up())
                if time.monotonic() >= show_at:
                    self._telemetry.show(*await self._measuring.ask(lambda it: it.standings()))
                    show_at = time.monotonic() + self._every
                is_reachable = True
            except StoreUnavailable as error:
                if is_reachable:
                    log.error("what is known of predictions can't be followed", extra={"reason": error.reason})
                is_reachable = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS):
                    await self._stopping.wait()
        await self._questions.drain()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    async def _answer(self, link: Link, frame: Frame) -> None:
        try:
            answer = await self._measuring.ask(lambda it: _answered(it, frame.request_id, frame.meta, frame.arrays))
        except ServoloopError as error:
            answer = Frame(Kind.FAILED, frame.request_id, error_facts(error))
        except Exception:  # the answer says that it failed, the log says why
            log.exception("an evaluation failed")
            answer = Frame(Kind.FAILED, frame.request_id, {"error": "internal"})
        link.send(answer)


def _answered(measuring: Measuring, number: int, facts: Facts, arrays: Sequence[Array]) -> Frame:
    question, form = question_in(facts), facts.get("picture")
    if isinstance(question, RowsQuestion):
        return Frame(Kind.EVALUATED, number, {"answer": judge(question, arrays)})
    if form is None:
        return Frame(Kind.EVALUATED, number, {"answer": measuring.answer(question)})
    return Frame(Kind.EVALUATED, number, arrays=[np.frombuffer(measuring.draw(question, form), np.uint8)])
