"""Which of the back ends that were tried is used. Pure: trials go in, one comes out."""

from collections.abc import Collection, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from service.domain import Precision

# Nobody waits longer than this for a version to load, however fast it is then.
MOST_BUILD_SECONDS = 10.0
_SOON_SECONDS = 2.0
# Measured on a machine that does other things too, two back ends so close are equally fast. And threads of one batch
# wait for one another: what they win over batches of one thread each, they lose where anything else wants a core.
_AS_FAST = 0.9

# To be so much sooner with a lone row is worth that a network is in memory twice.
_WORTH_MS = 0.5

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


PASSED = "passed"


def title(backend: str, precision: Precision, threads: int) -> str:
    """A back end with a number of threads, for people."""
    return f"{backend} {precision}, {threads} thread{'s' if threads > 1 else ''}"


class Trial(BaseModel):
    """One back end with one number of threads, and how it did; what was not measured is None.

    Milliseconds are of a batch of 1 and of 32 rows, and what a tenth of the batches stay within; batches of 32 run
    beside one another, as many as the cores allow, and `rows_per_second` is what these did together in a good round.
    `difference` is the metric's, in points; `agreement` the share of rows of which it says the same label as float32.
    `verdict` is "passed", or why it is not used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    precision: Precision
    threads: Annotated[int, Field(ge=1, le=1024)]
    build_seconds: Annotated[FiniteFloat, Field(ge=0)] | None = None
    batch_1_ms: Positive | None = None
    batch_32_ms: Positive | None = None
    rows_per_second: Positive | None = None
    difference: FiniteFloat | None = None
    agreement: Annotated[float, Field(ge=0, le=1)] | None = None
    verdict: Annotated[str, Field(min_length=1, max_length=1000)]

    @property
    def passed(self) -> bool:
        """Whether it may be used."""
        return self.verdict == PASSED and self.rows_per_second is not None and self.build_seconds is not None

    @property
    def title(self) -> str:
        """For people."""
        return title(self.backend, self.precision, self.threads)


def choose(
    tried: Sequence[Trial], *, max_threads: int, precisions: Collection[Precision] = tuple(Precision)
) -> Trial | None:
    """The one that runs the most rows a second; of those that run about as many, what is built sooner by seconds, then
    what takes fewer threads, then what is faster.
    """
    usable = [
        trial
        for trial in tried
        if trial.passed
        and trial.threads <= max_threads
        and trial.precision in precisions
        and (trial.build_seconds or 0.0) <= MOST_BUILD_SECONDS
    ]
    if not usable:
        return None
    best = max(trial.rows_per_second or 0.0 for trial in usable)
    fastest = [trial for trial in usable if (trial.rows_per_second or 0.0) >= _AS_FAST * best]
    return min(fastest, key=lambda trial: (_patience(trial), trial.threads, -(trial.rows_per_second or 0)))


def threads_alone(chosen: Trial, tried: Sequence[Trial], *, max_threads: int) -> int:
    """The threads for a row with nothing beside it; 0 where it is hardly sooner answered than by those of a batch."""
    if chosen.batch_1_ms is None:
        return 0
    quicker = [
        (trial.batch_1_ms, trial.threads)
        for trial in tried
        if trial.passed
        and trial.batch_1_ms is not None
        and (trial.backend, trial.precision) == (chosen.backend, chosen.precision)
        and chosen.threads < trial.threads <= max_threads
        and trial.batch_1_ms <= chosen.batch_1_ms - _WORTH_MS
    ]
    return min(quicker)[1] if quicker else 0


def _patience(trial: Trial) -> int:
    return int((trial.build_seconds or 0.0) / _SOON_SECONDS)
