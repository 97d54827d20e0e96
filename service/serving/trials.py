"""Which version answers a request while a challenger is on trial, and whether it computes beside the champion."""

import hashlib
import random
from collections.abc import Callable
from typing import NamedTuple, Protocol

from models.preprocess import RawRows, Tensors
from service.domain import Ref, Rollout, Stage
from service.serving.mirroring import Answered
from service.serving.router import Target, Trial
from service.telemetry.instruments import HttpTelemetry

_BITS = 53
"""Of a place: as many as a float holds exactly, so that none is rounded up to 1."""


class Chosen(NamedTuple):
    """The version that answers, and the probability with which it was chosen."""

    target: Target
    propensity: float


class Mirroring(Protocol):
    """What has requests computed a second time."""

    def offer(self, ref: Ref, challenger: Target, answered: Answered, propensity: float) -> None:
        """Takes no time and never fails."""
        ...


def place_of(salt: str, key: str) -> float:
    """Where a routing key falls in [0, 1): the first bits of BLAKE2b over the key, keyed by the salt.

    A key is the challenger's while its place is below the share, so it stays with the challenger as that grows.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8, key=salt.encode()).digest()
    return (int.from_bytes(digest) >> (64 - _BITS)) / (1 << _BITS)


class Trials:
    """`is_ready` says whether an engine answers for a version; `draw` places requests without a key in [0, 1)."""

    def __init__(
        self,
        is_ready: Callable[[Ref], bool],
        mirror: Mirroring,
        telemetry: HttpTelemetry,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._is_ready = is_ready
        self._mirror = mirror
        self._telemetry = telemetry
        self._draw = draw

    def choose(self, trial: Trial, champion: Target, rows: RawRows | Tensors, key: str | None) -> Chosen:
        """Who answers. Where the challenger can't, the champion was certain to."""
        rollout = trial.rollout
        if rollout.stage is not Stage.CANARY:
            return Chosen(champion, 1.0)
        share = rollout.in_effect
        is_challengers = (self._draw() if key is None else place_of(rollout.salt, key)) < share
        challenger = self._challenger(trial, champion, rows)
        if isinstance(challenger, str):
            if is_challengers:
                self.fell_back(rollout, challenger)
            return Chosen(champion, 1.0)
        return Chosen(challenger, share) if is_challengers else Chosen(champion, 1.0 - share)

    def fell_back(self, rollout: Rollout, reason: str) -> None:
        """Count a request that the champion answers in the challenger's place."""
        self._telemetry.fallbacks.labels(rollout.model, rollout.version, reason).inc()

    def answered(self, trial: Trial, champion: Target, answered: Answered) -> None:
        """Have a shadow compute its share of what was answered."""
        rollout = trial.rollout
        if rollout.stage is not Stage.SHADOW or self._draw() >= rollout.in_effect:
            return
        challenger = self._challenger(trial, champion, answered.rows)
        if isinstance(challenger, str):
            self._telemetry.mirrored.labels(rollout.model, rollout.version, challenger).inc()
        else:
            self._mirror.offer(rollout.ref, challenger, answered, rollout.in_effect)

    def _challenger(self, trial: Trial, champion: Target, rows: RawRows | Tensors) -> Target | str:
        """The challenger, or what keeps it from taking these rows."""
        if trial.target is None:
            return "not_here"
        if isinstance(rows, Tensors) and not (_prepares_nothing(champion) and _prepares_nothing(trial.target)):
            return "prepared"  # for the champion's network, by the champion's preprocessing
        return trial.target if self._is_ready(trial.rollout.ref) else "not_ready"


def _prepares_nothing(target: Target) -> bool:
    return target.interface.raw is None
