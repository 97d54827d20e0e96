"""How a version on trial is led from the shadow to the champion's place, or back: what is asked of it at each step."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.domain import Stage
from service.learning.gate import Rule

Share = Annotated[float, Field(gt=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=366 * 86_400, allow_inf_nan=False)]


class RolloutPolicy(BaseModel):
    """What the controller goes by. A trial whose policy has no `controlled: true` is led by hand.

    The stages are a shadow (without one where `shadow_share` is 0), and a canary at each of `canary_shares`. Every
    decision holds with `alpha` however often the labels are looked at (docs/decisions/0021).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    controlled: Literal[True] = True
    rule: Rule = "superior"
    """What must be shown of the gain before the champion is replaced, and before a shadow answers anybody: above 0, or
    above -margin."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.01
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    shadow_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    canary_shares: Annotated[tuple[Share, ...], Field(min_length=1, max_length=10)] = (0.05, 0.25, 0.5)
    minimum_labels: Annotated[int, Field(ge=1)] = 50
    """Of a stage, before it may be left for the next one; of a canary, labelled answers of both versions together."""
    minimum_seconds: Seconds = 300.0
    """So long a stage lasts at least."""
    longest_seconds: Seconds = 14 * 86_400.0
    """A trial that has not come to its end by then goes back: nothing was shown."""
    max_failure_rise: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """By so much the share of requests that fail may be above the champion's."""
    max_latency_ratio: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 1.5
    """Of a canary: its 95th percentile may be so many times the champion's; None doesn't ask."""
    approval: Literal["none", "promotion", "each_stage"] = "none"
    """Before what a person must say yes: nothing, the promotion, or every step. Going back never waits."""
    allocation: Literal["fixed", "thompson"] = "fixed"
    """How large a canary's share is: as `canary_shares` say, or, from the first of them on, as probable as it is by now
    that the challenger is the better one (Thompson sampling), between the first and the last of them."""

    @property
    def first(self) -> tuple[Stage, float]:
        """The stage that a trial begins with, and its share."""
        if self.shadow_share:
            return Stage.SHADOW, self.shadow_share
        return Stage.CANARY, self.canary_shares[0]

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if list(self.canary_shares) != sorted(set(self.canary_shares)):
            raise ValueError(f"canary_shares must ascend, got {self.canary_shares}")
        return self
