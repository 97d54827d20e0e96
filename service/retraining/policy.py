"""When a model is retrained, how, what its new version must show, and how that is led to the champion's place."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.feedback.job import Defences, Options
from service.learning.gate import GatePolicy, Rule
from service.rollouts.policy import RolloutPolicy, Seconds

Rows = Annotated[int, Field(ge=1, le=1_000_000)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TriggerPolicy(_Value):
    """What has a model retrained by itself: any one of these, once there are `minimum_labels` that came since the last
    retraining. None switches one off."""

    enabled: bool = False
    """Whether anything is retrained without being asked for."""
    labels: Rows | None = 2_000
    """So many labels came since the last retraining."""
    metric_below: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """The champion's matured accuracy of `window_seconds` is below this with its whole interval; of a regression, its
    mean absolute error is above."""
    drift: bool = True
    """Predictions drifted, and by its own word the champion is less accurate than on its reference by
    `estimated_drop`."""
    estimated_drop: Annotated[float, Field(gt=0, lt=1)] = 0.05
    max_age_seconds: Seconds | None = None
    """The champion is older than that."""
    minimum_labels: Rows = 200
    window_seconds: Annotated[float, Field(ge=60, le=366 * 86_400, allow_inf_nan=False)] = 86_400.0
    cool_down_seconds: Seconds = 3_600.0
    """So long after a retraining has ended, none begins by itself."""
    most_a_day: Annotated[int, Field(ge=1, le=1_000)] = 4
    """Retrainings that begin by themselves within 24 hours."""


class TrainingPolicy(_Value):
    """What it is trained on, and how."""

    full: bool = False
    """Train anew by the recipe, on all original data and the labels; else go on from the champion's weights."""
    most_rows: Rows = 20_000
    """The latest labelled rows of which the input is kept."""
    since_seconds: Seconds | None = None
    """Only of predictions that are no older; None: whatever is kept."""
    options: Options = Options()
    defences: Defences = Defences()


class GateTerms(_Value):
    """`service.learning.gate.GatePolicy` as JSON: what the new version must show before it is registered."""

    rule: Rule = "superior"
    other_rule: Rule = "non_inferior"
    primary_set: Annotated[str, Field(pattern="^(holdout|test)$")] = "holdout"
    """holdout: labelled feedback that is never trained on; test: the frozen test set."""
    alpha: float = 0.05
    margin: float = 0.01
    minimum_rows: int = 100
    minimum_class_rows: int = 30
    class_margin: float = 0.05
    slice_margin: float = 0.05
    max_ece_rise: float = 0.02
    max_latency_ratio: float | None = 1.5
    max_size_ratio: float | None = 2.0

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        self.to_policy()
        return self

    def to_policy(self) -> GatePolicy:
        """Return what `service.learning.gate.decide` takes. Raises ValueError for what can't be."""
        return GatePolicy(**self.model_dump())


class LoopPolicy(_Value):
    """All that a model's loop goes by. The default retrains only when it is asked to, and puts on trial by itself what
    passes the gate."""

    triggers: TriggerPolicy = TriggerPolicy()
    training: TrainingPolicy = TrainingPolicy()
    gate: GateTerms = GateTerms()
    rollout: RolloutPolicy | None = RolloutPolicy()
    """None: what passes the gate is registered, and waits for somebody to put it on trial."""
    guarded_slices: Annotated[
        tuple[Annotated[str, Field(pattern="^[^:]+:.*$", max_length=600)], ...], Field(max_length=20)
    ] = ()
    """Tags, name:value, on whose predictions the new version must not be worse than the gate's slice_margin."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return self.model_dump(mode="json")
