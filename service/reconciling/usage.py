"""What is remembered of versions' use: who asked for them, since when they are loaded, what they take. Pure."""

from collections.abc import Iterable, Mapping

from service.domain import Precision, Ref
from service.wire.report import Report

# Who waits for a version says so again and again; who has not for so long has gone.
_OWED_SECONDS = 2.0


class Usage:
    """Learns from what http processes want and what engines report. Instants in seconds, on any one clock."""

    def __init__(self) -> None:
        self.asked: dict[Ref, float] = {}
        """When versions were last asked for."""
        self.loaded_at: dict[Ref, float] = {}
        """Since when those that are loaded are."""
        self.measured: dict[tuple[str, Precision], int] = {}
        """The bytes that a replica took at most, by identity and precision."""
        self._waits: dict[Ref, tuple[float, float]] = {}
        """Since when versions that are not loaded are asked for, and when they were last."""

    @property
    def owed(self) -> dict[Ref, float]:
        """Since when somebody waits for versions that are not loaded."""
        return {ref: since for ref, (since, _) in self._waits.items()}

    def want(self, ref: Ref, now: float) -> None:
        """Somebody asks for a version, whether it is loaded or not."""
        since, _ = self._waits.get(ref, (now, now))
        self.asked[ref], self._waits[ref] = now, (since, now)

    def learn(self, reports: Iterable[tuple[Report, float]], identities: Mapping[Ref, str], now: float) -> None:
        """Take in what all engines that are there reported last, each with the instant at which it did.

        `identities` are those of the versions that are served.
        """
        loaded: set[Ref] = set()
        for report, heard in reports:
            for ref, facts in report.replicas.items():
                loaded.add(ref)
                if facts.idle is not None:
                    self.asked[ref] = max(self.asked.get(ref, 0.0), heard - facts.idle)
                if ref in identities:
                    what = identities[ref], facts.precision
                    self.measured[what] = max(self.measured.get(what, 0), facts.num_bytes)
        self.loaded_at = {ref: self.loaded_at.get(ref, now) for ref in loaded}
        self._waits = {
            ref: (since, last)
            for ref, (since, last) in self._waits.items()
            if ref not in loaded and now - last < _OWED_SECONDS
        }
