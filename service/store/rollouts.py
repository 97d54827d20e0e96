"""What the store keeps of versions on trial and of what was decided of them, and the verbs that decide."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from service.domain import Rollout, Stage

DecisionKind = Literal["rollout_began", "rollout_changed", "promoted", "rolled_back"]

NO_POLICY: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class RolloutChange:
    """What shall be another in a rollout; None leaves it."""

    stage: Stage | None = None
    share: float | None = None
    paused: bool | None = None
    policy: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Something was decided of a model's versions. `time` in seconds since 1970.

    `before` and `after` are {"champion": version or null, "rollout": null or {"version", "stage", "share", "paused",
    "policy"}}, with versions as texts.
    """

    id: int
    model: str
    time: float
    actor: str
    kind: DecisionKind
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    reason: str
    revision: int


class RolloutReader(Protocol):
    """Each verb raises StoreUnavailable while the store can't be read."""

    def decisions(self, model: str, *, limit: int = 100) -> list[Decision]:
        """What was decided of a model, the newest first."""
        ...

    def previous_champion(self, model: str) -> int | None:
        """The version that `roll_back` would make the champion again where nothing is on trial; None: there is none."""
        ...


class RolloutControl(Protocol):
    """Each change is one transaction that also raises the revision, with a row among the decisions."""

    def begin_rollout(
        self,
        model: str,
        version: int,
        *,
        stage: Stage,
        share: float,
        paused: bool = False,
        policy: Mapping[str, Any] = NO_POLICY,
        actor: str,
        reason: str,
    ) -> Rollout:
        """Put a version on trial, and let the alias challenger name it until the trial ends.

        Where the same is under way already, that is returned and nothing changes. Raises UnknownModel, UnknownVersion,
        RolloutUnderWay, AlreadyChampion or VersionUnloaded.
        """
        ...

    def change_rollout(
        self,
        model: str,
        change: RolloutChange,
        *,
        expected_version: int | None = None,
        expected_stage: Stage | None = None,
        actor: str,
        reason: str,
    ) -> Rollout:
        """What is under way from now on.

        Raises NoRollout, or RolloutUnderWay where it is not the version or not the stage that was expected.
        """
        ...

    def promote(self, model: str, version: int, *, actor: str, reason: str, expected: int | None = None) -> Decision:
        """Make a version the champion, and end its trial if it was on one.

        Raises UnknownModel, UnknownVersion, RolloutUnderWay where another is on trial, AliasMoved where the champion is
        not the `expected` version, AlreadyChampion or VersionUnloaded.
        """
        ...

    def roll_back(self, model: str, *, actor: str, reason: str, expected: int | None = None) -> Decision:
        """End the trial, and leave the champion; where nothing is on trial, make its predecessor the champion again.

        Raises UnknownModel, AliasMoved where the challenger, or without one the champion, is not the `expected`
        version, NothingToRollBack or VersionUnloaded.
        """
        ...


def changed(rollout: Rollout, change: RolloutChange, now: float, *, actor: str, reason: str) -> Rollout:
    """The rollout after a change; the same object where nothing is another."""
    stage = rollout.stage if change.stage is None else change.stage
    after = replace(
        rollout,
        stage=stage,
        share=rollout.share if change.share is None else change.share,
        paused=rollout.paused if change.paused is None else change.paused,
        policy=rollout.policy if change.policy is None else change.policy,
        stage_began=rollout.stage_began if stage is rollout.stage else now,
    )
    return rollout if after == rollout else replace(after, actor=actor, reason=reason)


def standing(champion: int | None, rollout: Rollout | None) -> dict[str, Any]:
    """How a model stands, as decisions have it."""
    trial = None
    if rollout is not None:
        trial = {
            "version": str(rollout.version),
            "stage": rollout.stage.value,
            "share": rollout.share,
            "paused": rollout.paused,
            "policy": dict(rollout.policy),
        }
    return {"champion": None if champion is None else str(champion), "rollout": trial}


def predecessor(champions: Iterable[int], gone: Collection[int]) -> int | None:
    """The champion before the present one, of all champions in their order; None where there is none.

    A champion that comes back takes back what came after it, so that going back twice leads two steps back. Versions
    that are `gone` are passed over.
    """
    line: list[int] = []
    for version in champions:
        if version in line:
            del line[line.index(version) + 1 :]
        else:
            line.append(version)
    return next((version for version in reversed(line[:-1]) if version not in gone), None)
