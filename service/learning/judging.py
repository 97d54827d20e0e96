"""Offline evaluation: gives versions labelled rows, behind everybody else's, and has judged what they say."""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from models.metrics import Array
from service.domain import LOWEST_PRIORITY, Caller
from service.errors import DeadlineExceeded, InvalidInput, NotReady, PredictionFailed, Unavailable, UnprocessableInput
from service.learning.labelled import Chunk
from service.learning.questions import RowsQuestion
from service.serving.answer import Computed
from service.serving.codec import Body
from service.serving.postprocess import Prediction, Probabilities
from service.serving.router import Target

_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
_ROW = re.compile(r"(instances|body)\[(\d+)\](.*)\Z")
# Of what all versions say together, float64.
_MOST_NUMBERS = 20_000_000


class Computing(Protocol):
    """Who runs networks."""

    async def compute(self, target: Target, body: Body, caller: Caller, *, priority: int) -> Computed: ...


class Judging(Protocol):
    """Who makes figures of it. Raises LoopUnavailable."""

    async def judge(self, question: RowsQuestion, arrays: Sequence[Array]) -> Mapping[str, Any]: ...


class _Answered(NamedTuple):
    """What a version says of a chunk's rows."""

    predictions: Sequence[Prediction]
    probabilities: Probabilities | None


@dataclass(slots=True)
class Judge:
    """One evaluation: rows go in by `take`, and `finish` gives what they come to."""

    targets: Sequence[Target]
    computing: Computing
    caller: Caller
    clock: Callable[[], float] = time.monotonic
    rows: int = 0
    failed: int = 0
    _truth: list[Array] = field(default_factory=list)
    _said: list[list[Array]] = field(default_factory=list)
    _digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    async def take(self, chunk: Chunk) -> None:
        """Ask every version about these rows. Raises InvalidInput, NotReady, Unavailable or BrokenContract.

        A row on which any version fails counts for none.
        """
        self._digest.update(chunk.body.data + chunk.truth.tobytes())
        computed = await asyncio.gather(*(self._compute(target, chunk) for target in self.targets))
        kept = np.array(
            [all("error" not in one for one in row) for row in zip(*(one.predictions for one in computed), strict=True)]
        )
        self.rows += len(kept)
        self.failed += int((~kept).sum())
        said = [_said(target, one, kept) for target, one in zip(self.targets, computed, strict=True)]
        if self.rows * sum(int(np.prod(one.shape[1:])) for one in said) > _MOST_NUMBERS:
            raise UnprocessableInput("there are too many rows", field="instances", expected=f"fewer than {self.rows}")
        self._truth.append(chunk.truth[kept])
        self._said.append(said)

    @property
    def digest(self) -> str:
        """Of rows and labels, as they were sent."""
        return str(self._digest.hexdigest())

    async def finish(self, judging: Judging) -> dict[str, Any]:
        """The figures of every version, and how the first two compare. Raises UnprocessableInput without rows."""
        if self.rows == self.failed:
            what = "there are no rows" if not self.rows else "the network failed on every row"
            raise UnprocessableInput(what, field="instances", expected="at least one row that can be predicted")
        manifests = [target.manifest for target in self.targets]
        question = RowsQuestion(
            manifests[0].task,
            list(manifests[0].labels),
            [str(target.ref.version) for target in self.targets],
            [manifest.threshold for manifest in manifests],
        )
        arrays = [np.concatenate(self._truth), *(np.concatenate(each) for each in zip(*self._said, strict=True))]
        return dict(await judging.judge(question, arrays))

    async def _compute(self, target: Target, chunk: Chunk) -> _Answered:
        """Patiently: whoever waits for an answer comes first."""
        give_up = self.clock() + _PATIENCE_SECONDS
        while True:
            caller = self.caller._replace(arrived=self.clock(), timeout=_PATIENCE_SECONDS)
            try:
                computed = await self.computing.compute(target, chunk.body, caller, priority=LOWEST_PRIORITY)
                return _Answered(computed.predictions, computed.probabilities)
            except InvalidInput as error:
                raise _moved(error, chunk.start) from None
            except PredictionFailed as error:
                return _Answered([{"error": str(error)}] * len(chunk.truth), None)
            except (Unavailable, DeadlineExceeded) as error:
                hopeless = isinstance(error, NotReady) and error.retry_after > 1
                if hopeless or self.clock() >= give_up:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)


def _said(target: Target, answered: _Answered, kept: Array) -> Array:
    """What a version says of the rows that are kept, as service.learning.offline takes it."""
    manifest = target.manifest
    rows = np.flatnonzero(kept).tolist()
    if manifest.task == "regression":
        return np.array([answered.predictions[row]["value"] for row in rows], np.float64)
    width = len(manifest.labels)
    behind = answered.probabilities or []
    said = np.array([behind[row] for row in rows], np.float64).reshape(len(rows), width)
    return said[:, 1] if manifest.task == "binary" else said


def _moved(error: InvalidInput, start: int) -> InvalidInput:
    """What is wrong with a chunk's row, by its number among all rows."""
    match = _ROW.match(error.field or "")
    if match is None:
        return error
    row = start + int(match[2])
    return UnprocessableInput(error.problem, field=f"instances[{row}]{match[3]}", expected=error.expected)
