"""python -m models.training.retrain FOLDER: do what FOLDER/job.json says. docs/retraining.md describes it."""

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import orjson

from models.training.resuming import Stopped
from models.training.retraining import Told, retrain

STOPPED = 75
"""The exit status of a retraining that was told to stop and can go on: EX_TEMPFAIL of sysexits.h."""

_SECONDS_BETWEEN = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 with one line that says what went wrong, or 75."""
    parser = argparse.ArgumentParser(
        prog="python -m models.training.retrain", description="Retrain a checkpoint on labelled feedback."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="holds job.json and feedback.npz")
    options = parser.parse_args(arguments)
    is_told = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_told
        is_told = True

    before = signal.signal(signal.SIGTERM, stop)
    reporter = Reporter(_print)
    try:
        retrain(options.folder, reporter.tell, lambda: is_told)
    except Stopped:
        reporter.tell(Told("stopped"))
        return STOPPED
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        # torch's errors may go on with a stack of its own.
        print(f"error: {str(error).strip().partition(chr(10))[0]}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    reporter.tell(Told("done"))
    return 0


class Reporter:
    """Tells of progress as lines of JSON: each phase, and within training at most two a second."""

    def __init__(self, write: Callable[[bytes], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._phase = ""
        self._written = clock()

    def tell(self, told: Told) -> None:
        """Write a line, unless the last one is too fresh."""
        now, training = self._clock(), told.training
        is_last = training is not None and training.step == training.num_steps
        if told.phase == self._phase and not is_last and now - self._written < _SECONDS_BETWEEN:
            return
        self._phase, self._written = told.phase, now
        line: dict[str, object] = {"phase": told.phase}
        if training is not None:
            line |= {
                "epoch": training.epoch,
                "epochs": training.epochs,
                "done": training.step,
                "total": training.num_steps,
                "loss": training.loss,
                "metric": training.metric,
                "seconds_left": round(training.seconds_left, 1),
            }
        self._write(orjson.dumps(line))


def _print(line: bytes) -> None:
    print(line.decode(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
