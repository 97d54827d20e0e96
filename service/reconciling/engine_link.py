"""The supervisor's connection to one engine: its reports come in, loads and unloads go out."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from service.domain import Ref
from service.reconciling.decision import EngineFacts
from service.reconciling.failures import LoadFailures
from service.reconciling.placement import Claim
from service.reconciling.steps import Holding, Replica
from service.wire.frames import Frame, Kind
from service.wire.link import KeptLink
from service.wire.report import Report, Wanted, load_frame, unload_frame

_RETRY_SECONDS = 0.1


class EngineLink:
    """Connected between `start` and `stop`, anew when the engine is replaced.

    `tell` is called at every report, and when the engine is lost.
    A command is sent once: until a report shows what came of it, it is under way.
    """

    def __init__(
        self, slot: str, path: Path, tell: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.slot = slot
        self.path = path
        self._link = KeptLink(path, self._receive, lost=self._lose, retry_seconds=_RETRY_SECONDS)
        self._tell = tell
        self._clock = clock
        self._next_id = 0
        self._commanded: dict[int, tuple[Kind, Ref]] = {}
        self._ended: set[int] = set()
        self._loads: dict[int, Claim] = {}
        self.failures = LoadFailures()
        """On the clock that this was given."""
        self.report: Report | None = None
        """What it said last; None while it is not there."""
        self.last_report: Report | None = None
        """The same, of the last one that was there."""
        self.heard = self.gone_since = clock()
        """When it reported last, and when it went."""

    def start(self) -> None:
        """Connect, and stay connected until `stop`."""
        self._link.start()

    async def stop(self) -> None:
        """Let go of the connection."""
        await self._link.stop()

    @property
    def held(self) -> frozenset[Ref]:
        """Versions whose files it may still read."""
        told = frozenset(ref for _, ref in self._commanded.values())
        return told if self.report is None else told | self.report.replicas.keys() | self.report.loading

    def holding(self, identities: Mapping[Ref, str]) -> Holding | None:
        """What it holds, with the loads and unloads that were commanded; None while it is not there.

        `identities` are those of the versions: none changes while they are served.
        """
        report = self.report
        if report is None or not self._link.is_open:
            return None
        loaded = {
            ref: Replica(
                facts.num_bytes, identities.get(ref, ""), facts.generation, facts.precision, facts.is_optimized
            )
            for ref, facts in report.replicas.items()
        }
        told = {ref for kind, ref in self._commanded.values() if kind is Kind.UNLOAD}
        loading = {claim.ref: Replica.of(claim) for claim in self._loads.values()}
        return Holding(loaded, loading, frozenset(report.unloading | told))

    def facts(self, identities: Mapping[Ref, str], now: float) -> EngineFacts:
        """All that counts of it in a decision; `identities` as for `holding`."""
        return EngineFacts(
            self.slot,
            str(self.path),
            report=self.report or self.last_report,
            holding=self.holding(identities),
            gone_seconds=now - self.gone_since,
            failures=self.failures.known(now),
        )

    def load(self, claim: Claim, folder: Path, *, pardon: bool) -> None:
        """Have a version loaded, or loaded anew beside what runs and then put in its place."""
        wanted = Wanted(
            claim.ref, folder, claim.identity, claim.precision, claim.generation, optimized=claim.is_optimized
        )
        if (number := self._command(Kind.LOAD, claim.ref)) is not None:
            self._loads[number] = claim
            self._link.send(load_frame(number, wanted, pardon=pardon))

    def unload(self, ref: Ref) -> None:
        """Have a version unloaded once what waits for it is answered."""
        if (number := self._command(Kind.UNLOAD, ref)) is not None:
            self._link.send(unload_frame(number, ref))

    def _command(self, kind: Kind, ref: Ref) -> int | None:
        """The number of a command that is to be sent now; None where nobody is there for it."""
        if not self._link.is_open:
            return None
        self._next_id += 1
        self._commanded[self._next_id] = kind, ref
        return self._next_id

    def _lose(self) -> None:
        self._commanded.clear()
        self._ended.clear()
        self._loads.clear()
        self.failures.clear()
        self.report = None
        self.gone_since = self._clock()
        self._tell()

    def _receive(self, frame: Frame) -> None:
        if frame.kind is not Kind.STATUS:
            # LOADED, UNLOADED or FAILED. What came of it is in the next report: until then it is under way.
            self._ended.add(frame.request_id)
            if (claim := self._loads.get(frame.request_id)) is not None:
                if frame.kind is Kind.FAILED:
                    self.failures.note(claim, frame.meta["reason"], self._clock())
                else:
                    self.failures.note_success(claim)
            return
        self.report = self.last_report = Report.from_frame(frame)
        self.heard = self._clock()
        for number in self._ended:
            self._commanded.pop(number, None)
            self._loads.pop(number, None)
        self._ended.clear()
        self._tell()
