"""Which back end a version is to run on, and why."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from models.manifest import Manifest
from service.domain import Execution, Precision
from service.engine.backends.base import Backend, Place
from service.engine.backends.eager import Eager
from service.engine.backends.registry import find
from service.engine.choosing import Trial, choose, threads_alone
from service.engine.optimized import Cache, Evidence, Unusable

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to build a network with, and where it is to run."""

    backend: Backend
    place: Place
    reason: str
    pending: bool = False
    """Nothing else was tried yet, and it will be."""

    @property
    def execution(self) -> Execution:
        """The plan, as it is told to others."""
        return Execution(self.backend.name, self.backend.precision, self.place.threads, self.reason, self.pending)


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


def _here(do: Callable[[], None]) -> None:
    do()


@dataclass(frozen=True, slots=True)
class Chooser:
    """Plans by what was found out about versions on this machine.

    A version that is wished in float32, as all are until somebody says otherwise, may run in bfloat16 where that was
    measured to be as good. One that is wished in a lower precision runs in that.

    `threads` are the device's: of a GPU, its lanes. `automatic`: what nothing was tried for yet will be tried without
    anybody asking for it, on a CPU.
    `elsewhere` runs something in a thread of ordinary priority, and waits for it.
    """

    cache: Cache
    threads: int
    enabled: bool = True
    automatic: bool = False
    elsewhere: Callable[[Callable[[], None]], None] = _here

    def __call__(self, device: torch.device, manifest: Manifest, precision: Precision) -> Plan:
        """The plan for a version."""

        def plain(reason: str) -> Plan:
            return eager(device, precision, self.threads if device.type == "cpu" else 0, reason)

        if not self.enabled:
            return plain("SERVOLOOP_OPTIMIZE is off")
        try:
            evidence = self.cache.read(manifest)
        except Unusable as error:
            log.warning("what was found out about a version is not used", extra={"reason": str(error)})
            return plain(f"what was found out about it is not used: {error}")
        if evidence is None and self.automatic and device.type == "cpu":
            soon = plain("nothing was tried here yet; it will be in the background, once the machine is quiet")
            return replace(soon, pending=True)
        if evidence is None:
            return plain(f"nothing was tried here: servoloop optimize {manifest.model} --version {manifest.version}")
        precisions = tuple(Precision) if precision is Precision.FLOAT32 else (precision,)
        chosen = choose(evidence.tried, max_threads=self.threads, precisions=precisions)
        if chosen is None:
            return plain(f"nothing that was tried passed with {precision} and at most {self.threads} threads")
        backend = find(chosen.backend, chosen.precision)
        if backend is None:
            return plain(f"there is no back end {chosen.backend} {chosen.precision}")
        if (reason := backend.why_not(device)) is not None:
            return plain(reason)
        alone = threads_alone(chosen, evidence.tried, max_threads=self.threads)
        place = Place(device, chosen.threads, max(1, self.threads // chosen.threads), alone)
        try:
            self.elsewhere(lambda: backend.start(place))
        except Exception as error:  # noqa: BLE001 - a library that is installed and broken
            return plain(f"{backend.name} can't be started: {error}")
        return Plan(backend, place, why(chosen, evidence))


def why(chosen: Trial, evidence: Evidence) -> str:
    """The reason for a choice, in words."""
    plain = [
        trial.rows_per_second or 0.0
        for trial in evidence.tried
        if (trial.backend, trial.precision) == ("eager", Precision.FLOAT32)
    ]
    faster = (chosen.rows_per_second or 0.0) / max(plain, default=0.0) if any(plain) else None
    times = "" if faster is None else f", {faster:.1f} times as many as eager float32"
    return (
        f"measured {evidence.measured_at:%Y-%m-%d}: {chosen.rows_per_second:,.0f} rows/s{times}; "
        f"{evidence.metric} {chosen.difference:+.2f} points on {evidence.num_rows} rows"
    )
