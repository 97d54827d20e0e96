"""Errors to gRPC: each kind's status, once, with the words that HTTP has for it."""

from typing import NamedTuple

from grpc import StatusCode

from service.errors import (
    AliasMoved,
    AlreadyChampion,
    BodyTooLarge,
    BodyTooSlow,
    BuffersFull,
    ClientLeft,
    DeadlineExceeded,
    DecodersBusy,
    FeedbackConflict,
    InvalidInput,
    JobUnderWay,
    NoRollout,
    NothingToRollBack,
    NotRemovable,
    NotSupported,
    Overloaded,
    QuarantinedInput,
    QueueFull,
    RolloutUnderWay,
    ServoloopError,
    Unavailable,
    Unknown,
    UnknownJob,
    UnknownPrediction,
    UnknownReport,
    VersionInUse,
    VersionUnloaded,
)

# The nearest class in an error's line of descent counts; what is not named here is our own fault, INTERNAL.
STATUS: dict[type[ServoloopError], StatusCode] = {
    InvalidInput: StatusCode.INVALID_ARGUMENT,
    QuarantinedInput: StatusCode.INVALID_ARGUMENT,
    BodyTooLarge: StatusCode.RESOURCE_EXHAUSTED,  # as gRPC itself says it of a message that is larger than the limit
    Unknown: StatusCode.NOT_FOUND,
    UnknownPrediction: StatusCode.NOT_FOUND,
    NotSupported: StatusCode.UNIMPLEMENTED,
    AliasMoved: StatusCode.FAILED_PRECONDITION,
    FeedbackConflict: StatusCode.FAILED_PRECONDITION,
    UnknownReport: StatusCode.NOT_FOUND,
    UnknownJob: StatusCode.NOT_FOUND,
    JobUnderWay: StatusCode.FAILED_PRECONDITION,
    VersionInUse: StatusCode.FAILED_PRECONDITION,
    VersionUnloaded: StatusCode.FAILED_PRECONDITION,
    NoRollout: StatusCode.NOT_FOUND,
    RolloutUnderWay: StatusCode.FAILED_PRECONDITION,
    AlreadyChampion: StatusCode.FAILED_PRECONDITION,
    NothingToRollBack: StatusCode.FAILED_PRECONDITION,
    NotRemovable: StatusCode.FAILED_PRECONDITION,
    Unavailable: StatusCode.UNAVAILABLE,
    QueueFull: StatusCode.RESOURCE_EXHAUSTED,
    Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    BuffersFull: StatusCode.RESOURCE_EXHAUSTED,
    DecodersBusy: StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    BodyTooSlow: StatusCode.DEADLINE_EXCEEDED,
    ClientLeft: StatusCode.CANCELLED,
}
# What stands in an answer's metadata takes three times as many bytes where it is not ASCII, and clients refuse 8 KB.
_MAX_CHARACTERS = 2000


class Failure(NamedTuple):
    """What a caller is told in place of an answer; `retry_after` in seconds, where it is worth asking again."""

    code: StatusCode
    details: str
    retry_after: int | None = None


CRASH = Failure(StatusCode.INTERNAL, "the service failed on this request; its log has the reason")
"""The answer to an error that nobody foresaw, which says nothing of it."""


def failure_of(error: ServoloopError) -> Failure:
    """The answer to an error of ours."""
    code = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), StatusCode.INTERNAL)
    return Failure(code, str(error)[:_MAX_CHARACTERS], error.retry_after if isinstance(error, Unavailable) else None)
