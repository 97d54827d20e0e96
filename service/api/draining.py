"""The end of an http process."""

from dataclasses import dataclass


@dataclass(slots=True)
class Draining:
    """Whether this process was told to stop."""

    begun: bool = False


@dataclass(frozen=True, slots=True)
class DrainPolicy:
    """Seconds to go on accepting while /readyz says 503, and then at most to finish what was accepted."""

    unready: float
    finish: float
