"""An http process's end of the loop process: asks how good models are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from models.metrics import Array
from service.errors import LoopUnavailable
from service.learning.picture import Form
from service.learning.questions import DriftQuestion, Question, RowsQuestion, facts_of
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

    async def evaluate(self, question: Question | DriftQuestion) -> dict[str, Any]:
        """How good a model is, or how far it drifted. Raises UnknownModel, StoreUnavailable or LoopUnavailable."""
        answer: dict[str, Any] = (await self._ask(facts_of(question))).meta["answer"]
        return answer

    async def draw(self, question: Question | DriftQuestion, form: Form) -> bytes:
        """That as a picture. Raises as `evaluate`, and NotSupported where nothing is installed that draws."""
        [picture] = (await self._ask({**facts_of(question), "picture": form})).arrays
        return picture.tobytes()

    async def judge(self, question: RowsQuestion, arrays: Sequence[Array]) -> dict[str, Any]:
        """How good versions are on labelled rows, as service.learning.offline says. Raises LoopUnavailable."""
        answer: dict[str, Any] = (await self._ask(facts_of(question), arrays)).meta["answer"]
        return answer

    async def _ask(self, facts: dict[str, Any], arrays: Sequence[Array] = ()) -> Frame:
        try:
            answer = await self._asker.ask(Kind.EVALUATE, facts, self._timeout, arrays)
        except TimeoutError:
            raise LoopUnavailable from None
        if answer.kind is Kind.FAILED:
            raise error_of(answer.meta, "the loop process")
        return answer
