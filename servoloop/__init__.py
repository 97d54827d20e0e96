"""Ask a Servoloop service for predictions.

    from servoloop import Client

    with Client("http://127.0.0.1:8000") as client:
        print(client.predict("sentiment", "A film to see twice.").label)

AsyncClient has the same verbs to await. Everything that can go wrong:

ServoloopError
├── ConnectionFailed      no answer came: nothing listens there, the connection broke, or the client's time ran out
└── ApiError              the service said no: status, problem_type, detail, field, expected, request_id
    ├── InvalidInput        what was sent can't be served; `field` and `expected` say what it lacks (400, 413, 415, 422)
    ├── NotFound            there is no such model, version or alias (404)
    ├── Conflict            what is there is not what was expected, or is in use (409)
    ├── Unavailable         overloaded, or not ready: try again after `retry_after` seconds (503)
    └── DeadlineExceeded    the service ran out of the request's time (504)
"""

from servoloop.aio import AsyncClient
from servoloop.calls import (
    EvaluateOptions,
    EvaluationOptions,
    FeedbackFilters,
    FeedbackOptions,
    Options,
    RolloutOptions,
)
from servoloop.client import DEFAULT_URL, Client
from servoloop.errors import (
    ApiError,
    Conflict,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    ServoloopError,
    Unavailable,
)
from servoloop.instances import ArrayLike, Instance
from servoloop.jobs import Job, JobEvent, JobProgress, Jobs, RetrainOptions
from servoloop.measured import (
    Compared,
    Drift,
    EstimatedAccuracy,
    Evaluation,
    EvaluationReport,
    EvaluationReports,
    Figure,
    SliceFigures,
    Slices,
    VersionFigures,
    VersionsCompared,
)
from servoloop.results import (
    AliasMove,
    Backend,
    Broken,
    Decision,
    Deleted,
    FeedbackEvent,
    FeedbackPage,
    FeedbackResult,
    Model,
    Models,
    Prediction,
    Predictions,
    Rollout,
    RowError,
    Scored,
    Version,
    VersionChange,
)

__all__ = [
    "DEFAULT_URL",
    "AliasMove",
    "ApiError",
    "ArrayLike",
    "AsyncClient",
    "Backend",
    "Broken",
    "Client",
    "Compared",
    "Conflict",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Decision",
    "Deleted",
    "Drift",
    "EstimatedAccuracy",
    "EvaluateOptions",
    "Evaluation",
    "EvaluationOptions",
    "EvaluationReport",
    "EvaluationReports",
    "FeedbackEvent",
    "FeedbackFilters",
    "FeedbackOptions",
    "FeedbackPage",
    "FeedbackResult",
    "Figure",
    "Instance",
    "InvalidInput",
    "Job",
    "JobEvent",
    "JobProgress",
    "Jobs",
    "Model",
    "Models",
    "NotFound",
    "Options",
    "Prediction",
    "Predictions",
    "RetrainOptions",
    "Rollout",
    "RolloutOptions",
    "RowError",
    "Scored",
    "ServoloopError",
    "SliceFigures",
    "Slices",
    "Unavailable",
    "Version",
    "VersionChange",
    "VersionFigures",
    "VersionsCompared",
]
