"""What an engine's death is evidence of. Pure: docs/decisions/0007 says why it is weighed like this."""

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from enum import StrEnum

from service.domain import Ref
from service.watch.blackbox import Doing, RowId, Running

_LONE_DEATHS = 2
_VERSION_DEATHS = 3
_WINDOW_SECONDS = 60.0
_MAX_QUARANTINED = 1024
_REMEMBERED = 16


class Cause(StrEnum):
    """How an engine came to its end."""

    CRASH = "crash"
    """By itself: an exit nobody asked for, or a signal that only its own instructions raise."""
    DEVICE = "device"
    """By itself, because its device was left in an error that only a new process clears."""
    HANG = "hang"
    """The watchdog ended it, because one run took too long."""
    SILENT = "silent"
    """The watchdog ended it, because it gave no sign of life."""
    OUTSIDE = "outside"
    """By somebody: SIGKILL, SIGTERM and the like. The kernel's out-of-memory killer can't be told from an operator."""

    @property
    def is_own_fault(self) -> bool:
        return self in (Cause.CRASH, Cause.DEVICE, Cause.HANG)


@dataclass(frozen=True, slots=True)
class Death:
    """The end of one engine process; `incarnation` counts the processes of its slot.

    `running` is what ran then; where it is known which runs were overdue, these alone.
    """

    incarnation: int
    cause: Cause
    running: tuple[Running, ...]
    at: float
    is_explained: bool = False
    """Whether it was of an input that is quarantined for it."""

    @property
    def hung(self) -> float:
        """The seconds for which it had been in what it hung in; 0 where it died of something else."""
        return self.at - min([each.started for each in self.running]) if self.cause is Cause.HANG else 0.0

    @property
    def suspects(self) -> tuple[RowId, ...]:
        """The rows that may be what it died of."""
        if not self.cause.is_own_fault:
            return ()
        return tuple([row for each in self.running for row in each.rows])

    @property
    def suspect_run(self) -> Running | None:
        """What ran alone under suspicion, where something did; then nothing ran beside it, but a load at most."""
        batches = [each for each in self.running if each.doing is Doing.BATCH]
        return batches[0] if len(batches) == 1 and batches[0].digest else None

    @property
    def versions(self) -> frozenset[Ref]:
        """The versions that may be what it died of: of a suspect's run, then of a load, then of any batch."""
        loads = [each for each in self.running if each.doing is Doing.LOAD]
        return frozenset([each.ref for each in ([self.suspect_run] if self.suspect_run else loads or self.running)])


@dataclass(slots=True)
class Verdicts:
    """What deaths lead to: inputs that no engine is given again, and versions that are served no more, with reasons."""

    quarantined: dict[bytes, Ref] = field(default_factory=dict)
    withdrawn: dict[Ref, str] = field(default_factory=dict)


class Evidence:
    """Weighs one slot's deaths as they come."""

    def __init__(self) -> None:
        self.verdicts = Verdicts()
        self.deaths: deque[Death] = deque(maxlen=_REMEMBERED)
        """The last ones, for those who had requests there."""
        self._counted: list[Death] = []
        self._hung = 0.0
        self._alone: Counter[tuple[bytes, Ref]] = Counter()

    def weigh(self, death: Death) -> Verdicts:
        """Take in a death, and come to a verdict where there is enough evidence for one; those that are new."""
        self.deaths.append(death)
        if not death.cause.is_own_fault:
            return Verdicts()
        # A run is overdue after half a minute, a load after ten: three such deaths are never so close by the clock.
        self._hung += death.hung
        death = replace(death, at=death.at - self._hung)
        self._counted = [each for each in self._counted if death.at - each.at < _WINDOW_SECONDS]
        quarantined: dict[bytes, Ref] = {}
        if (suspect := death.suspect_run) is not None:
            quarantined = self._weigh_input(death, suspect)
        else:
            self._counted.append(death)
        return Verdicts(quarantined, self._weigh_versions(death))

    def pardon(self, ref: Ref) -> None:
        """Hold nothing against a version any more, nor against its inputs: an operator had it loaded anew."""
        self.verdicts.withdrawn.pop(ref, None)
        for digest in [digest for digest, of in self.verdicts.quarantined.items() if of == ref]:
            del self.verdicts.quarantined[digest]
        for name in [name for name in self._alone if name[1] == ref]:
            del self._alone[name]
        self._counted = [each for each in self._counted if ref not in each.versions]

    def _weigh_input(self, death: Death, running: Running) -> dict[bytes, Ref]:
        """Quarantine an input that engines died of while it ran alone, where it was often enough; it, if it is new."""
        name = running.digest, running.ref
        self._alone[name] += 1
        if self._alone[name] < _LONE_DEATHS:
            return {}
        del self._alone[name]
        new = {running.digest: running.ref} if running.digest not in self.verdicts.quarantined else {}
        if len(self.verdicts.quarantined) >= _MAX_QUARANTINED:
            del self.verdicts.quarantined[next(iter(self.verdicts.quarantined))]
        self.verdicts.quarantined[running.digest] = running.ref
        # The deaths that this input explains count once against its version, as does the input.
        left = [each for each in self._counted if not set(running.rows) & set(each.suspects)]
        if len(left) == len(self._counted):
            # Requests that were taken apart come again under other ids. What made it a suspect was its version's death.
            own = [each for each in left if running.ref in each.versions and not each.is_explained]
            left = [each for each in left if each is not own[-1]] if own else left
        self._counted = [*left, replace(death, is_explained=True)]
        return new

    def _weigh_versions(self, death: Death) -> dict[Ref, str]:
        """Take out the version that was running at every death, this one too, where there is one and no other; it, with
        the reason, if it was not out yet.

        Of deaths that an input explains only those of the version itself are looked at: they excuse no other.
        """
        # That an earlier death fell out of the window says nothing against who had no part in this one.
        always = [ref for ref in death.versions if self._ran_at_all(ref)]
        if len(always) != 1:
            return {}
        (ref,) = always
        within = f"{_VERSION_DEATHS} times within {_WINDOW_SECONDS:.0f} seconds"
        reason = f"it was taken out: its engine ended {within} while running it ({death.cause})"
        new = {ref: reason} if ref not in self.verdicts.withdrawn else {}
        self.verdicts.withdrawn[ref] = reason
        return new

    def _ran_at_all(self, ref: Ref) -> bool:
        telling = [each for each in self._counted if ref in each.versions or not each.is_explained]
        return len(telling) >= _VERSION_DEATHS and all(ref in each.versions for each in telling)
