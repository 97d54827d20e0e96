"""What an engine said of itself last, and how long that holds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.domain import Ref
from service.wire.report import Report

STALE_SECONDS = 5.0
# Three times as long as an engine waits before it has a version run its canary.
STALE_FORWARD_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The default is that of an engine that said nothing yet. All times are on the clock of who hears it.

    `ready`: the versions that take requests, and the seconds from each one's last answer to `heard`. `failed`: why
    others won't.
    """

    heard: float = -math.inf
    ready: Mapping[Ref, float] = field(default_factory=dict)
    failed: Mapping[Ref, str] = field(default_factory=dict)

    @staticmethod
    def of(report: Report, *, heard: float) -> "EngineStatus":
        return EngineStatus(heard, report.ready, report.failed)

    def is_heard(self, now: float, stale_seconds: float) -> bool:
        """Whether the engine gave a sign of life lately."""
        return now - self.heard < stale_seconds

    def why_unready(self, ref: Ref, now: float, stale_seconds: float) -> str | None:
        """What keeps a version from being ready; None where nothing does."""
        if ref in self.failed:
            return self.failed[ref]
        if ref not in self.ready:
            return "its engine is starting" if self.heard == -math.inf else "its engine has not loaded it yet"
        silent = now - self.heard
        if not self.is_heard(now, stale_seconds):
            return f"its engine has not been heard of for {silent:.0f} seconds"
        idle = self.ready[ref] + silent
        return None if idle < STALE_FORWARD_SECONDS else f"it has answered nothing for {idle:.0f} seconds"
