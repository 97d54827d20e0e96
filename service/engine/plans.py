"""Which back end a version is to run on, and why."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from models.manifest import Manifest
from service.domain import Execution, Precision
from service.engine.backends.base import Backend, Place
from service.engine.backends.eager import Eager


@dataclass(frozen=True, slots=True)
class Plan:
    """What to build a network with, and where it is to run."""

    backend: Backend
    place: Place
    reason: str

    @property
    def is_plain(self) -> bool:
        """Whether it is what everything falls back to."""
        return isinstance(self.backend, Eager)

    @property
    def execution(self) -> Execution:
        """The plan, as it is told to others."""
        return Execution(self.backend.name, self.backend.precision, self.place.threads, self.reason)


Planner = Callable[[torch.device, Manifest, Precision], Plan]
"""Finds the plan for a version that is wanted on a device with a precision."""


def eager(
    device: torch.device, precision: Precision, threads: int = 0, reason: str = "no other back end was chosen for it"
) -> Plan:
    """PyTorch as it is."""
    return Plan(Eager(precision), Place(device, threads), reason)


def eager_always(device: torch.device, _: Manifest, precision: Precision) -> Plan:
    """PyTorch as it is, whatever the network."""
    return eager(device, precision)
