"""Questions over a kept connection: each is asked again where the connection is lost before its answer came."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from models.preprocess.tensors import Array
from service.wire.frames import Frame, Kind
from service.wire.link import KeptLink


class Asker:
    """Use as an async context manager. Who listens at `path` answers each frame with one of the same number."""

    def __init__(self, path: Path) -> None:
        self._link = KeptLink(path, self._receive, opened=self._ask_all)
        self._numbers = itertools.count(1)
        self._asked: dict[int, tuple[Frame, asyncio.Future[Frame]]] = {}

    async def __aenter__(self) -> Self:
        self._link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._link.stop()

    async def ask(self, kind: Kind, meta: Mapping[str, Any], timeout: float, arrays: Sequence[Array] = ()) -> Frame:
        """The answer; `timeout` in seconds. Asking must be safe to do twice. Raises TimeoutError."""
        frame = Frame(kind, next(self._numbers), meta, arrays)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._asked[frame.request_id] = frame, answer
        self._link.send(frame)
        try:
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            del self._asked[frame.request_id]

    def _ask_all(self) -> None:
        for frame, _ in self._asked.values():
            self._link.send(frame)

    def _receive(self, frame: Frame) -> None:
        _, answer = self._asked.get(frame.request_id, (None, None))
        if answer is not None and not answer.done():
            answer.set_result(frame)
