"""An http process's end of the loop process: asks how good models are."""

from pathlib import Path
from typing import Any, Self

from service.errors import LoopUnavailable
from service.learning.picture import Form
from service.learning.questions import Question
from service.store.messages import error_of
from service.wire.asking import Asker
from service.wire.frames import Frame, Kind

_TIMEOUT_SECONDS = 30.0


class LoopClient:
    """Use as an async context manager. Keeps one connection, and opens it anew when the loop process is replaced."""

    def __init__(self, path: Path, *, timeout: float = _TIMEOUT_SECONDS) -> None:
        self._asker = Asker(path)
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        await self._asker.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._asker.__aexit__(*error)

    async def evaluate(self, question: Question) -> dict[str, Any]:
        """The evaluation of a model. Raises UnknownModel, StoreUnavailable or LoopUnavailable."""
        evaluation: dict[str, Any] = (await self._ask(question.to_facts())).meta["evaluation"]
        return evaluation

    async def draw(self, question: Question, form: Form) -> bytes:
        """The evaluation as a picture. Raises as `evaluate`, and NotSupported where nothing is installed that draws."""
        [picture] = (await self._ask({**question.to_facts(), "picture": form})).arrays
        return picture.tobytes()

    async def _ask(self, facts: dict[str, Any]) -> Frame:
        try:
            answer = await self._asker.ask(Kind.EVALUATE, facts, self._timeout)
        except TimeoutError:
            raise LoopUnavailable from None
        if answer.kind is Kind.FAILED:
            raise error_of(answer.meta)
        return answer
