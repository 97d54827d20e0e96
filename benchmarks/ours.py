"""Servoloop as a user starts it, over the benchmark's networks and the shipped checkpoints."""

import contextlib
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import ask
from benchmarks.networks import CASES, Request, our_request, write_checkpoints
from benchmarks.processes import ServerFailed, end, marked, settle
from tests.end_to_end.service import Homes, Service

_LABEL = re.compile(r'label\\?"\s*:\s*\\?"([^"\\]+)')
# So many of a case's bodies are compared before it is measured.
_CHECKED = 20


@dataclass(frozen=True)
class Target:
    """A running server: where it listens, and the mark that its processes carry."""

    url: str
    mark: str


@contextlib.contextmanager
def serving(homes: Homes, optimized: Iterable[str] = ()) -> Iterator[Target]:
    """`servoloop serve` with its defaults: prediction log, metrics, ids and validation are on.

    Before it starts, `servoloop optimize` chooses how to run the models in `optimized`.
    """
    home = homes()
    write_checkpoints(home / "data" / "models")
    for model in optimized:
        _optimize(model, home / "data")
    with contextlib.ExitStack() as stack:
        with marked() as mark:
            service = stack.enter_context(Service(home))
        stack.callback(end, mark)
        service.wait_ready()
        for case in CASES.values():
            label(service.url, our_request(case))
        # A version's first deployment may go on by itself, to find how to run it best: users measure what comes after.
        settle(mark)
        yield Target(service.url, mark)


def _optimize(model: str, data_dir: Path) -> None:
    environment = {**os.environ, "SERVOLOOP_DATA_DIR": str(data_dir)}
    command = [str(Path(sysconfig.get_path("scripts")) / "servoloop"), "optimize", model]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise ServerFailed(f"servoloop optimize {model} ended with {ran.returncode}: {ran.stderr[-1500:]}")


def label(url: str, request: Request, turn: int = 0) -> str:
    """The label in the answer. Raises ServerFailed where there is none."""
    answer = ask(url, request, turn)
    found = _LABEL.search(answer.text)
    if answer.status_code != 200 or found is None:
        raise ServerFailed(f"{request.path} answered {answer.status_code}: {answer.text[:500]}")
    return found[1]


def labels(url: str, request: Request) -> list[str]:
    """Those in the answers to the first bodies. Raises ServerFailed where there is none."""
    return [label(url, request, turn) for turn in range(len(request.bodies[:_CHECKED]))]
