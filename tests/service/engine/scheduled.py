"""Versions for a scheduler, and requests of them."""

from typing import Any

from service.domain import BatchPolicy, Ref
from service.engine.requests import Request
from service.engine.scheduler import Scheduler
from tests.service.engine import asked

CHEAP, COSTLY, OTHER = Ref("cnn", 1), Ref("transformer", 1), Ref("mlp", 1)


def request(ref: Ref, num_rows: int = 1, **more: Any) -> Request:
    return asked.request(num_rows, ref=ref, **more)


def scheduler_of(*refs: Ref, policy: BatchPolicy | None = None) -> Scheduler:
    scheduler = Scheduler(policy or BatchPolicy(max_rows=1))
    for ref in refs:
        scheduler.install(ref)
    return scheduler
