"""Everything that can go wrong, as facts. api/problems.py gives each its HTTP status, once.

ServoloopError
├── InvalidInput              what was sent can't be served: field, problem, expected
│   ├── MalformedBody           not readable as what its content type says
│   ├── MalformedHeader
│   ├── UnsupportedMediaType    a content type, or a content encoding, that the route or the model doesn't take
│   ├── BodyTooLarge
│   └── UnprocessableInput      readable, but not what the model's contract asks for
├── Unknown                   a name that names nothing: UnknownModel, UnknownVersion, UnknownAlias
├── UnknownPrediction         UnknownInput: nothing is kept of what it was made of
├── UnknownReport             there is no such offline evaluation
├── UnknownJob
├── NotSupported              what a protocol has, and this service does not do
├── AliasMoved                the alias names another version than the caller expected
├── FeedbackConflict          an idempotency key was used for something else before
├── JobUnderWay               a job of this kind waits or runs for the model already
├── VersionInUse              an alias names the version that shall be unloaded or deleted
├── VersionUnloaded           an operator wants the version unloaded, and something else needs it
├── RolloutUnderWay           another rollout of the model has to end first
├── NoRollout                 none of the model is under way
├── AlreadyChampion           the version answers by default as it is: there is nothing to try
├── NothingToRollBack         no version of the model was its champion before
├── NotRemovable              the versions are not ours to delete
├── Unavailable               try again, after `retry_after` seconds: QueueFull, Overloaded, NotReady (NotLoaded),
│                             NotServing, BuffersFull, DecodersBusy, EngineLost, StoreUnavailable, LoopUnavailable,
│                             Stopping
├── DeadlineExceeded
├── BodyTooSlow               the request's time was over before its body had arrived
├── ClientLeft                nobody waits for the answer any more
├── PredictionFailed          the network failed on these rows, or gave no finite numbers
├── QuarantinedInput          an engine ended, again and again, while it ran nothing but this
├── BrokenContract            one of our processes broke its contract with another
├── Misconfigured             the operator must change something: said at start, never to a client
└── Forced                    the operator would not wait for the end of a drain
"""

import math
import re
from copy import copy
from typing import Self

from service.domain import CHALLENGER, Ref


class ServoloopError(Exception):
    """The root. str() is a sentence for people; `kind` is its name in metrics and problem types."""

    kind = "servoloop_error"

    def __init_subclass__(cls) -> None:
        cls.kind = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class InvalidInput(ServoloopError):
    def __init__(self, problem: str, *, field: str | None = None, expected: str | None = None) -> None:
        self.problem, self.field, self.expected = problem, field, expected
        where = f"{field}: " if field else ""
        super().__init__(f"{where}{problem}{f'; expected {expected}' if expected else ''}")

    def said_as(self, problem: str, expected: str | None) -> Self:
        """The same error, with more to say: its kind, and so its status, stays."""
        same = copy(self)
        InvalidInput.__init__(same, problem, field=self.field, expected=expected)
        return same


class MalformedBody(InvalidInput): ...


class MalformedHeader(InvalidInput):
    def __init__(self, header: str, problem: str, expected: str) -> None:
        super().__init__(problem, field=header, expected=expected)


class UnsupportedMediaType(InvalidInput): ...


class UnprocessableInput(InvalidInput): ...


class BodyTooLarge(InvalidInput):
    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__("the body is too large", field="body", expected=f"at most {limit} bytes")


class Unknown(ServoloopError):
    field = ""
    """The part of the address that names nothing."""

    def __init__(self, what: str, name: str, known: list[str], broken: str = "") -> None:
        """`broken`: why what lies under this name can't be served."""
        self.what, self.name, self.known = what, name, known
        have = ", ".join(known[:20]) or "none"
        why = f"; what lies there is broken: {broken}" if broken else ""
        super().__init__(f"there is no {what} named {name[:100]!r}; there is: {have}{why}")


class UnknownModel(Unknown):
    field = "model"

    def __init__(self, name: str, known: list[str], broken: str = "") -> None:
        super().__init__("model", name, known, broken)


class UnknownVersion(Unknown):
    field = "version"

    def __init__(self, model: str, name: str, known: list[str], broken: str = "") -> None:
        self.model = model
        super().__init__(f"version of {model}", name, known, broken)


class UnknownAlias(Unknown):
    field = "alias"

    def __init__(self, model: str, name: str, known: list[str]) -> None:
        super().__init__(f"alias of {model}", name, known)


class UnknownPrediction(ServoloopError):
    def __init__(self, prediction_id: str) -> None:
        self.prediction_id = prediction_id
        super().__init__(
            f"there is no prediction {prediction_id}: it was never made, is not written yet, or is too old"
        )


class UnknownReport(ServoloopError):
    def __init__(self, model: str, report_id: str) -> None:
        self.model, self.report_id = model, report_id
        super().__init__(f"there is no evaluation {report_id[:100]} of {model}")


class UnknownJob(ServoloopError):
    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"there is no job {job_id[:100]}: it was never asked for, or made room for later ones")


class UnknownInput(UnknownPrediction):
    def __init__(self, prediction_id: str) -> None:
        ServoloopError.__init__(
            self, f"no input is kept of a prediction {prediction_id}: not every one is, and none for ever"
        )
        self.prediction_id = prediction_id


class NotSupported(ServoloopError):
    def __init__(self, what: str, instead: str) -> None:
        self.what, self.instead = what, instead
        super().__init__(f"{what}: not supported; expected {instead}")


class AliasMoved(ServoloopError):
    def __init__(self, model: str, alias: str, *, expected: int, found: int | None) -> None:
        self.model, self.alias, self.expected, self.found = model, alias, expected, found
        now = f"names version {found}" if found is not None else "does not exist"
        super().__init__(f"the alias {alias} of {model} {now}, and version {expected} was expected")


class FeedbackConflict(ServoloopError): ...


class JobUnderWay(ServoloopError):
    def __init__(self, model: str, work: str, job_id: str) -> None:
        """`work`: its kind of job."""
        self.model, self.work, self.job_id = model, work, job_id
        super().__init__(f"a {work} job of {model} is under way: {job_id}; wait for its end, or cancel it")


class VersionInUse(ServoloopError):
    def __init__(self, ref: Ref, aliases: list[str]) -> None:
        self.ref, self.aliases = ref, aliases
        names, them = ("alias", "it") if len(aliases) == 1 else ("aliases", "them")
        trial = "; if it is on trial, roll it back" if CHALLENGER in aliases else ""
        super().__init__(
            f"{ref} is in use: the {names} {', '.join(aliases)} of {ref.model} would name nothing that answers; "
            f"let {them} name another version first{trial}"
        )


class VersionUnloaded(ServoloopError):
    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        super().__init__(f"{ref} is unloaded, as an operator wanted; load it first")


class RolloutUnderWay(ServoloopError):
    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        super().__init__(f"{ref} is on trial: promote it or roll it back first")


class NoRollout(ServoloopError):
    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(f"no version of {model} is on trial; a trial begins with a version, a stage and a share")


class AlreadyChampion(ServoloopError):
    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        super().__init__(f"{ref} is the champion already")


class NothingToRollBack(ServoloopError):
    def __init__(self, model: str) -> None:
        self.model = model
        super().__init__(f"no version of {model} is on trial, and none that is still there was its champion before")


class NotRemovable(ServoloopError):
    def __init__(self, refs: list[Ref]) -> None:
        self.refs = refs
        is_one = len(refs) == 1
        super().__init__(
            f"{', '.join(map(str, refs))} {'lies' if is_one else 'lie'} in the shipped model root, which is never "
            f"written; only registered versions can be deleted, others can be unloaded"
        )


# What does not pass by itself is not worth asking for again at once.
_HOPELESS_RETRY_SECONDS = 30


class Unavailable(ServoloopError):
    retry_after = 1


def _in_whole_seconds(wait: float) -> int:
    """What Retry-After says for an expected wait."""
    return max(1, min(60, math.ceil(wait)))


class QueueFull(Unavailable):
    def __init__(self, ref: Ref, queued: int, limit: int, unit: str = "rows", wait: float = 0.0) -> None:
        self.ref, self.queued, self.limit, self.unit, self.wait = ref, queued, limit, unit, wait
        self.retry_after = _in_whole_seconds(wait)
        super().__init__(f"{ref} has {queued} {unit} waiting, the limit is {limit}")


class Overloaded(Unavailable):
    """The work that waits already takes longer than this request has time; `wait` is that of all the work."""

    def __init__(self, ref: Ref, wait: float) -> None:
        self.ref, self.wait = ref, wait
        self.retry_after = _in_whole_seconds(wait)
        super().__init__(f"{ref} can't answer within the request's time: about {wait:.2g} s of work wait before it")


class BuffersFull(Unavailable):
    """The bodies of all requests together would take more memory than they may."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"the bodies of other requests fill the {limit} bytes that there are for bodies")


class DecodersBusy(Unavailable):
    """More requests wait for a thread that decodes them than may."""

    def __init__(self, waiting: int, limit: int) -> None:
        self.waiting, self.limit = waiting, limit
        super().__init__(f"{waiting} requests wait to be decoded, the limit is {limit}")


class NotReady(Unavailable):
    """`passes`: whether it may answer soon without anybody's doing."""

    def __init__(self, ref: Ref, reason: str, *, passes: bool = True) -> None:
        self.ref, self.reason = ref, reason
        if not passes:
            self.retry_after = _HOPELESS_RETRY_SECONDS
        super().__init__(f"{ref} is not ready: {reason}")


class NotLoaded(NotReady):
    """The engine does not have it, or not any more: its rows were not touched."""


class NotServing(Unavailable):
    """The service as a whole."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the service is not ready: {reason}")


class EngineLost(Unavailable):
    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        super().__init__(f"the engine that was computing {ref} stopped, and the request could not be sent again")


class StoreUnavailable(Unavailable):
    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the store does not answer: {reason}")


class LoopUnavailable(Unavailable):
    def __init__(self) -> None:
        super().__init__("the process that measures models does not answer")


class Stopping(Unavailable):
    def __init__(self) -> None:
        super().__init__("the service stops, and the time to finish what it had accepted is over")


class ClientLeft(ServoloopError):
    def __init__(self) -> None:
        super().__init__("the client closed its connection before it had its answer")


class DeadlineExceeded(ServoloopError):
    def __init__(self, ref: Ref, where: str) -> None:
        self.ref, self.where = ref, where
        super().__init__(f"{ref} did not answer within the request's time, which ran out in {where}")


class BodyTooSlow(ServoloopError):
    def __init__(self) -> None:
        super().__init__("the request's time ran out before its body had arrived")


class PredictionFailed(ServoloopError):
    def __init__(self, ref: Ref, reason: str) -> None:
        self.ref, self.reason = ref, reason
        super().__init__(f"{ref} could not compute this: {reason}")


class QuarantinedInput(ServoloopError):
    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        super().__init__(f"{ref} does not take this input: its engine ended each time that it ran it alone")


class BrokenContract(ServoloopError):
    def __init__(self, what: str, *, expected: object, got: object) -> None:
        self.expected, self.got = expected, got
        super().__init__(f"{what}: expected {expected}, got {got}")


class Misconfigured(ServoloopError): ...


class Forced(ServoloopError):
    def __init__(self) -> None:
        super().__init__("told to stop twice: ended without finishing what was accepted")
