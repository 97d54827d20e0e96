"""Servoloop as a user starts it, over the benchmark's networks and the shipped checkpoints."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.load import ask
from benchmarks.networks import CASES, Case, Request, our_request, write_checkpoints
from benchmarks.processes import ServerFailed, end, marked, settle
from tests.end_to_end.service import Homes, Service

_LABEL = re.compile(r'label\\?"\s*:\s*\\?"(\d+)')


@dataclass(frozen=True)
class Target:
    """A running server: where it listens, and the mark that its processes carry."""

    url: str
    mark: str


@contextlib.contextmanager
def serving(homes: Homes) -> Iterator[Target]:
    """`servoloop serve` with its defaults: prediction log, metrics, ids and validation are on."""
    home = homes()
    write_checkpoints(home / "data" / "models")
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


def label(url: str, request: Request) -> str:
    """The label in the answer. Raises ServerFailed where there is none."""
    answer = ask(url, request)
    found = _LABEL.search(answer.text)
    if answer.status_code != 200 or found is None:
        raise ServerFailed(f"{request.path} answered {answer.status_code}: {answer.text[:500]}")
    return found[1]


def expected(url: str, case: Case) -> str:
    """What every server must answer to this case."""
    return label(url, our_request(case))
