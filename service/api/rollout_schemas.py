"""The shapes of versions on trial, and of what was decided of them."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Self

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.api.schemas import AliasMoved, Reason, VersionText
from service.domain import Rollout, Stage
from service.store.rollouts import Decision, DecisionKind


def _keepable(policy: dict[str, Any]) -> dict[str, Any]:
    """JSON that both databases keep as it is: no NUL, no numbers beyond 64 bits. Raises ValueError."""
    try:
        written = orjson.dumps(policy)
        json.dumps(policy, allow_nan=False)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if b"\\u0000" in written:
        raise ValueError("there is a NUL in it")
    return policy


class RolloutWanted(BaseModel):
    """A version that shall be on trial, and how; of one that is already, what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: VersionText
    stage: Annotated[
        Stage | None,
        Field(strict=False, description="shadow: computes beside the champion; canary: answers in its place"),
    ] = None
    share: Annotated[
        float | None,
        Field(ge=0, le=1, description="of the requests that name no version: those that it computes, or answers"),
    ] = None
    paused: Annotated[bool | None, Field(description="the champion answers all, and nothing is mirrored")] = None
    policy: Annotated[
        Annotated[dict[str, Any], AfterValidator(_keepable)] | None, Field(description="kept as it is, for who decides")
    ] = None
    reason: Reason = ""
    expected_stage: Annotated[
        Stage | None, Field(strict=False, description="409 unless the trial is at this stage now")
    ] = None


class RolloutInfo(BaseModel):
    model: str
    version: str
    stage: Stage
    share: float
    paused: bool
    policy: dict[str, Any]
    began: datetime
    stage_began: datetime
    actor: Annotated[str, Field(description="of the latest change")]
    reason: str

    @classmethod
    def of(cls, rollout: Rollout) -> Self:
        return cls(
            model=rollout.model,
            version=str(rollout.version),
            stage=rollout.stage,
            share=rollout.share,
            paused=rollout.paused,
            policy=dict(rollout.policy),
            began=_instant(rollout.began),
            stage_began=_instant(rollout.stage_began),
            actor=rollout.actor,
            reason=rollout.reason,
        )


class Promotion(BaseModel):
    """The version that shall become the champion: the one on trial unless it is named."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: VersionText | None = None
    reason: Reason = ""
    expected: Annotated[VersionText | None, Field(description="409 unless this is the champion now")] = None


class Rollback(BaseModel):
    """Why to go back, and from which version."""

    model_config = ConfigDict(extra="forbid", strict=True)

    reason: Reason = ""
    expected: Annotated[
        VersionText | None, Field(description="409 unless this is on trial now, or the champion where nothing is")
    ] = None


class TrialStanding(BaseModel):
    version: str
    stage: Stage
    share: float
    paused: bool
    policy: dict[str, Any]


class ModelStanding(BaseModel):
    champion: str | None
    rollout: TrialStanding | None


class DecisionInfo(BaseModel):
    """Something was decided of a model's versions."""

    id: int
    model: str
    kind: DecisionKind
    before: ModelStanding
    after: ModelStanding
    actor: str
    reason: str
    time: datetime
    revision: Annotated[int, Field(description="of the store; it grows with every change")]

    @classmethod
    def of(cls, decision: Decision) -> Self:
        return cls(
            id=decision.id,
            model=decision.model,
            kind=decision.kind,
            before=ModelStanding.model_validate(decision.before),
            after=ModelStanding.model_validate(decision.after),
            actor=decision.actor,
            reason=decision.reason,
            time=_instant(decision.time),
            revision=decision.revision,
        )


class AliasHistory(BaseModel):
    model: str
    history: list[AliasMoved]
    decisions: list[DecisionInfo]


def _instant(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
