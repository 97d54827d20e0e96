"""The shapes of jobs: what is asked for, and how it stands."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from models.manifest import NAME_PATTERN
from service.api.schemas import Problem
from service.store.jobs import JobKind, JobState


class RetrainRequest(BaseModel):
    """How a model shall be trained again: from its champion's weights, on feedback and a replay of older data."""

    model_config = ConfigDict(extra="forbid", strict=True)

    full: Annotated[bool, Field(description="from the start, not from the champion's weights")] = False
    epochs: Annotated[int | None, Field(ge=1, le=1000, description="null: as many as the recipe has")] = None
    learning_rate_factor: Annotated[
        float | None, Field(gt=0, le=10, allow_inf_nan=False, description="times the recipe's; null: what is usual")
    ] = None
    replay: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, description="share of older data")] = 0.5
    reason: Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$", description="kept with the job")] = ""


class JobFilters(BaseModel):
    """Which jobs are wanted."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str | None, Field(pattern=NAME_PATTERN)] = None
    state: Annotated[list[JobState], Field(description="any of these; given once for each")] = []
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[UUID | None, Field(description="next_cursor of the page before")] = None


class JobProgress(BaseModel):
    """How far a job is."""

    phase: str
    done: Annotated[int, Field(description="steps of this phase")]
    total: Annotated[int | None, Field(description="null where it is not known")]
    figures: Annotated[dict[str, float | None], Field(description="what was measured last")]


class JobInfo(BaseModel):
    """A job as it stands."""

    id: str
    model: str
    kind: JobKind
    state: JobState
    spec: Annotated[dict[str, Any], Field(description="what was asked for")]
    reason: str
    actor: Annotated[str, Field(description="the person, or the trigger, that wants it")]
    principal: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    attempts: Annotated[int, Field(description="how often it was begun, or gone on with after a crash")]
    cancel_asked: bool
    progress: JobProgress | None
    result: dict[str, Any] | None
    error: Annotated[str | None, Field(description="why it failed")]


class JobList(BaseModel):
    """The newest first."""

    jobs: list[JobInfo]
    next_cursor: Annotated[str | None, Field(description="null where there are no more")]


class UnderWay(Problem):
    """Of a model one job of a kind is under way at a time."""

    job: Annotated[str | None, Field(description="the id of the one that is")] = None
