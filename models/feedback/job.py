"""What a retraining is told, and what it answers: job.json and result.json. Never imports torch."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from models import strict_json
from models.manifest import Name
from models.problems import problems

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
JUDGED_FILE = "judged.npz"
QUARANTINE_FILE = "quarantined.json"
USED_FILE = "used.json"
STATE_FILE = "state/training.safetensors"

Share = Annotated[float, Field(ge=0, le=1)]
ShareBelow1 = Annotated[float, Field(ge=0, lt=1)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Defences(_Value):
    """Against labels that are wrong on purpose. models.feedback.defences has the rules, and why they are so."""

    most_rows_of_actor: Share = 0.5
    """The most that one of several actors may give of all labelled rows."""
    most_influence_of_actor: Share = 0.3
    """The most that one of several actors may be of all that is learned from, by weight; the replay counts too."""
    trust: dict[str, Share] = {}
    """By source, what its rows' weights are multiplied with; 1 for those not named, and 0 leaves them out."""
    sure_from: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """The champion counts as sure where it is right at least this often on rows that it was not trained on."""
    least_loss: Annotated[float, Field(gt=0)] = 3.0
    """The loss from which a label contradicts a sure champion: 3 nats are a label that it gave 5 %."""
    times_the_others: Annotated[float, Field(ge=1)] = 3.0
    """An actor is suspected who contradicts it this many times as often as the others do."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    """The chance, over all actors, that one is suspected who contradicts it only as often as the others do."""
    most_quarantined: Share = 0.2
    """The most of all labelled rows that may be quarantined: more than that is the world having changed."""


class Options(_Value):
    """How to train. What is None is the recipe's own, or what the docstring says."""

    epochs: Annotated[int, Field(ge=1)] | None = None
    """Fine-tuning: 10."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Fine-tuning: the recipe's, but so few rows that an epoch has 20 batches, and 16 at least."""
    learning_rate_factor: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Fine-tuning: times the recipe's learning rate, so that what was learned is not washed away."""
    replay_share: ShareBelow1 = 0.5
    """Fine-tuning: the share of original training rows in each epoch."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Fine-tuning: 3 epochs without a better validation."""
    holdout_share: ShareBelow1 = 0.2
    """Of the inputs of feedback, to judge by; never trained on."""
    holdout_salt: str | None = None
    """None: the model's name. The same salt in each retraining of a model keeps what was held out once held out."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Of the inputs that are left, for choosing the best epoch."""
    kept_rows: Annotated[int, Field(ge=0)] | None = None
    """Rows of what was learned from to store in the new replay.npz; None: as many as the parent's has."""
    seed: int = 0
    device: str = "auto"
    threads: Annotated[int, Field(ge=1)] = 1
    """Of torch on a CPU. Resuming gives the same bytes with the same number only."""
    save_every_seconds: Annotated[float, Field(ge=0)] = 30.0
    """How often the state is kept between two batches; after each epoch it always is."""


class RetrainJob(_Value):
    """job.json. Paths that are not absolute are relative to its folder."""

    parent: Path
    """The checkpoint folder to start from."""
    model: Name
    version: Annotated[int, Field(ge=1, lt=1_000_000_000)]
    """Of the checkpoint to write."""
    out: Path
    """Its folder; it must not exist."""
    mode: Literal["fine_tune", "full"] = "fine_tune"
    options: Options = Options()
    defences: Defences = Defences()
    feedback_digest: str | None = None
    """Names the ordered feedback events, for the lineage."""
    lineage: dict[str, JsonValue] = {}
    """Further facts for the lineage, such as the job's id: they stand under `retraining.job`."""

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.parent == self.out:
            raise ValueError("out must not be the parent's folder")
        return self


class InvalidJob(ValueError):
    """job.json has problems."""


def read_job(folder: Path) -> RetrainJob:
    """Read a folder's job, with its paths made absolute. Raises InvalidJob."""
    try:
        job = RetrainJob.model_validate(strict_json.loads((folder / JOB_FILE).read_bytes()))
    except FileNotFoundError:
        raise InvalidJob(f"{folder} has no {JOB_FILE}") from None
    except ValidationError as error:
        raise InvalidJob(f"{JOB_FILE}: {'; '.join(problems(error))}") from None
    except ValueError as error:
        raise InvalidJob(f"{JOB_FILE} is {error}") from None
    here = folder.resolve()
    return job.model_copy(update={"parent": here / job.parent, "out": here / job.out})


class Pair(_Value):
    """A figure of the parent, and of the new version."""

    parent: float
    new: float


class Judged(_Value):
    """A part of judged.npz: where its rows come from, and how many there are."""

    source: str
    rows: int


class RetrainResult(_Value):
    """result.json."""

    schema_version: Literal[1] = 1
    model: str
    version: int
    out: Path
    digest: str
    """The sha256 of the new weights file."""
    parent_digest: str
    rows_digest: str
    """Of the labelled rows as they were given."""
    counts: dict[str, int]
    """What became of them, and how many rows of which kind were learned from."""
    test: Judged | None
    holdout: Judged | None
    weight_bytes: Pair
    seconds_per_row: Pair | None
    """Of a forward pass of `measured_rows` rows together, median of alternating runs; None without rows to judge."""
    measured_rows: int
    epochs: int
    best_epoch: int
    seconds: float
    """Spent on the epochs, over all runs of a training that was resumed."""
    notes: list[str]
    """What was left out, and why, in plain sentences."""
    lineage: dict[str, Any]
    """As in the new manifest."""


def read_result(folder: Path) -> RetrainResult | None:
    """Read a folder's result; None where the retraining is not over. Raises ValueError where it is none."""
    try:
        return RetrainResult.model_validate_json((folder / RESULT_FILE).read_bytes())
    except FileNotFoundError:
        return None
