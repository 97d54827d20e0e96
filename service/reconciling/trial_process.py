"""Trying back ends in a process of its own, of the lowest priority."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from service.process.command import module_command
from service.process.lifetime import EXIT_NOT_QUIET
from service.reconciling.optimizing import NotQuiet, TrialFailed

# One that others disturb gives way long before; what takes longer would take as long the next time.
_LONGEST_SECONDS = 1200.0
_KILL_SECONDS = 2.0
_MOST_LINE_BYTES = 1 << 20


class TrialProcess:
    """Runs `python -m service.engine.optimize` on a checkpoint; cancelled, it ends the process."""

    def __init__(self, cache: Path, environment: Mapping[str, str], max_busy: float) -> None:
        self._cache = cache
        self._environment = environment
        self._max_busy = max_busy

    async def __call__(self, folder: Path) -> Mapping[str, Any]:
        """What was chosen, as `TryOut` says. Raises NotQuiet and TrialFailed."""
        arguments = (folder, "--cache", self._cache, "--max-busy", self._max_busy)
        process = await asyncio.create_subprocess_exec(
            *module_command("service.engine.optimize", *arguments),
            stdin=asyncio.subprocess.PIPE,  # at its end the process knows that its parent has gone
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
            limit=_MOST_LINE_BYTES,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            _let_all_others_go_first(process.pid)
            async with asyncio.timeout(_LONGEST_SECONDS):
                said, complaints, code = await asyncio.gather(
                    _last_line(process.stdout), process.stderr.read(), process.wait()
                )
        except TimeoutError:
            raise TrialFailed(f"it took longer than {_LONGEST_SECONDS:g} seconds") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # No longer: with the lowest priority it may take a while to end on a busy machine.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _KILL_SECONDS)
        if code == EXIT_NOT_QUIET:
            raise NotQuiet
        if code:
            raise TrialFailed(complaints.decode(errors="replace").strip()[-1000:] or f"it ended with {code}")
        return chosen_of(said)


def chosen_of(line: bytes) -> dict[str, Any]:
    """What the last line of the process says was chosen. Raises TrialFailed where it says nothing of it."""
    try:
        evidence = orjson.loads(line)["evidence"]
        if evidence["chosen"] is None:
            return {"backend": None}
        trial = evidence["tried"][evidence["chosen"]]
        return {name: trial[name] for name in ("backend", "precision", "threads", "rows_per_second")}
    except (ValueError, KeyError, TypeError, IndexError):
        raise TrialFailed("it did not say what it found") from None


def _let_all_others_go_first(pid: int) -> None:
    """For the cores, and for memory: where that runs out, the trial goes and nothing else.

    To be called before the process starts threads, which have the priority of the one that started them.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, 19)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000")


async def _last_line(stream: asyncio.StreamReader) -> bytes:
    last = b""
    async for line in stream:
        last = line
    return last
