"""The supervisor's connection to one engine: its reports come in, loads and unloads go out."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.domain import Precision, Ref
from service.link import Link
from service.reconciling.report import Report
from service.registry.placement import Claim
from service.registry.steps import Holding, Replica
from service.wire import Frame, Kind

log = logging.getLogger(__name__)

_RECONNECT_SECONDS = 0.1


Tried = tuple[Ref, str, int, Precision]
"""A version by its identity, generation and precision, as an engine was told to load it."""

_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 5.0, 300.0


def tried(claim: Claim) -> Tried:
    """What a load for this claim tries."""
    return claim.ref, claim.identity, claim.generation, claim.precision


@dataclass(frozen=True, slots=True)
class _Failure:
    """A load that failed, `times` in a row. It is tried again later: the cause may pass, as of a disk that is away."""

    reason: str
    times: int
    at: float

    @property
    def holds_until(self) -> float:
        return self.at + min(_FIRST_RETRY_SECONDS * 2.0 ** (self.times - 1), _LONGEST_RETRY_SECONDS)


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
        self._tell = tell
        self._clock = clock
        self._link: Link | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._next_id = 0
        self._commanded: dict[int, tuple[Kind, Ref]] = {}
        self._ended: set[int] = set()
        self._loads: dict[int, Claim] = {}
        self._failures: dict[Tried, _Failure] = {}
        self.report: Report | None = None
        """What it said last; None while it is not there."""
        self.last_report: Report | None = None
        """The same, of the last one that was there."""
        self.heard = self.gone_since = clock()
        """When it reported last, and when it went."""

    def start(self) -> None:
        """Connect, and stay connected until `stop`."""
        self._keeper = asyncio.create_task(self._keep_connected())

    async def stop(self) -> None:
        """Let go of the connection."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._link is not None:
            self._link.close()

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
        if report is None or self._link is None:
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

    def failures(self) -> dict[Tried, str]:
        """Why loads failed that shall not be tried again yet."""
        now = self._clock()
        return {what: failure.reason for what, failure in self._failures.items() if now < failure.holds_until}

    def fail(self, claim: Claim, reason: str) -> None:
        """Note that a load for this claim can't succeed, or did not."""
        what = tried(claim)
        times = self._failures[what].times if what in self._failures else 0
        self._failures[what] = _Failure(reason, times + 1, self._clock())

    def forget_failures(self, ref: Ref) -> None:
        """Have what failed of a version tried again at once."""
        for what in [what for what in self._failures if what[0] == ref]:
            del self._failures[what]

    def load(self, claim: Claim, folder: Path, *, pardon: bool) -> None:
        """Have a version loaded, or loaded anew beside what runs and then put in its place."""
        facts = {"folder": str(folder), "identity": claim.identity, "precision": claim.precision}
        more = {"generation": claim.generation, "optimized": claim.is_optimized, "pardon": pardon}
        number = self._command(Kind.LOAD, claim.ref, **facts, **more)
        if number is not None:
            self._loads[number] = claim

    def unload(self, ref: Ref) -> None:
        """Have a version unloaded once what waits for it is answered."""
        self._command(Kind.UNLOAD, ref)

    def _command(self, kind: Kind, ref: Ref, **facts: object) -> int | None:
        if self._link is None:
            return None
        self._next_id += 1
        self._commanded[self._next_id] = kind, ref
        self._link.send(Frame(kind, self._next_id, meta={"model": ref.model, "version": ref.version, **facts}))
        return self._next_id

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                _, self._link = await loop.create_unix_connection(lambda: Link(self._receive), str(self.path))
                await self._link.lost
                self._link = None
                self._commanded.clear()
                self._ended.clear()
                self._loads.clear()
                self._failures.clear()
                self.report = None
                self.gone_since = self._clock()
                self._tell()
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _receive(self, frame: Frame) -> None:
        if frame.kind is not Kind.STATUS:
            # LOADED, UNLOADED or FAILED. What came of it is in the next report: until then it is under way.
            self._ended.add(frame.request_id)
            if (claim := self._loads.get(frame.request_id)) is not None:
                if frame.kind is Kind.FAILED:
                    self.fail(claim, frame.meta["reason"])
                else:
                    self._failures.pop(tried(claim), None)
            return
        self.report = self.last_report = Report.from_meta(frame.meta)
        self.heard = self._clock()
        for number in self._ended:
            self._commanded.pop(number, None)
            self._loads.pop(number, None)
        self._ended.clear()
        self._tell()
