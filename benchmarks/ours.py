"""Servoloop as a user starts it, over the benchmark's networks and the shipped checkpoints."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.load import ask
from benchmarks.networks import CASES, Request, our_request, write_checkpoints
from benchmarks.processes import ServerFailed, end, marked, settle
from tests.end_to_end.service import Homes, Service

_LABEL = re.compile(r'label\\?"\s*:\s*\\?"([^"\\]+)')
# So many of a case's bodies are compared before it is measured.
_CHECKED = 20
CHOOSING_SECONDS = 1800.0


@dataclass(frozen=True)
class Target:
    """A running server: where it listens, and the mark that its processes carry."""

    url: str
    mark: str


@contextlib.contextmanager
def serving(homes: Homes, *, optimised: bool = True) -> Iterator[Target]:
    """`servoloop serve` with its defaults: prediction log, metrics, ids and validation are on.

    `optimised`: once it has found out by itself what runs each version best, whatever else keeps the machine busy.
    Otherwise all runs on PyTorch. Raises ServerFailed.
    """
    home = homes()
    write_checkpoints(home / "data" / "models")
    # Others that use the machine may never leave it quiet, and then ratios of one run are what is measured anyway.
    settings = {"optimize": "auto", "optimize_max_busy": 1} if optimised else {"optimize": "off"}
    with contextlib.ExitStack() as stack:
        with marked() as mark:
            service = stack.enter_context(Service(home, **settings))
        stack.callback(end, mark)
        service.wait_ready()
        for case in CASES.values():
            label(service.url, our_request(case))
        if optimised:
            service.wait_chosen(CHOOSING_SECONDS)
        settle(mark)
        yield Target(service.url, mark)


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
