"""What each error is over gRPC."""

from collections.abc import Iterator

import grpc
import pytest
from grpc import StatusCode

from service import errors
from service.domain import Ref
from service.grpc_api.statuses import STATUS, failure_of
from tests.service.api.grpc_api.support import Client, request, tensor
from tests.service.api.support import CountingEngine

MOOD = Ref("mood", 1)
TEXT = request("mood", [tensor("text", "BYTES", [1], [b"good"])])

SAID: list[tuple[errors.ServoloopError, StatusCode, int | None]] = [
    (errors.UnprocessableInput("it is wrong", field="inputs"), StatusCode.INVALID_ARGUMENT, None),
    (errors.MalformedHeader("X-Routing-Key", "it is wrong", "another"), StatusCode.INVALID_ARGUMENT, None),
    (errors.QuarantinedInput(MOOD), StatusCode.INVALID_ARGUMENT, None),
    (errors.BodyTooLarge(10), StatusCode.RESOURCE_EXHAUSTED, None),
    (errors.UnknownModel("nobody", ["mood"]), StatusCode.NOT_FOUND, None),
    (errors.UnknownVersion("mood", "7", ["1"]), StatusCode.NOT_FOUND, None),
    (errors.UnknownAlias("mood", "nobody", []), StatusCode.NOT_FOUND, None),
    (errors.UnknownPrediction("0199"), StatusCode.NOT_FOUND, None),
    (errors.NotSupported("sequences", "none"), StatusCode.UNIMPLEMENTED, None),
    (errors.AliasMoved("mood", "champion", expected=1, found=2), StatusCode.FAILED_PRECONDITION, None),
    (errors.VersionInUse(MOOD, ["champion"]), StatusCode.FAILED_PRECONDITION, None),
    (errors.VersionUnloaded(MOOD), StatusCode.FAILED_PRECONDITION, None),
    (errors.NotRemovable([MOOD]), StatusCode.FAILED_PRECONDITION, None),
    (errors.QueueFull(MOOD, 8, 8, wait=2.5), StatusCode.RESOURCE_EXHAUSTED, 3),
    (errors.Overloaded(MOOD, 4.5), StatusCode.RESOURCE_EXHAUSTED, 5),
    (errors.BuffersFull(8), StatusCode.RESOURCE_EXHAUSTED, 1),
    (errors.DecodersBusy(8, 8), StatusCode.RESOURCE_EXHAUSTED, 1),
    (errors.NotReady(MOOD, "it failed", passes=False), StatusCode.UNAVAILABLE, 30),
    (errors.NotLoaded(MOOD, "it is loaded"), StatusCode.UNAVAILABLE, 1),
    (errors.NotServing("it begins"), StatusCode.UNAVAILABLE, 1),
    (errors.EngineLost(MOOD), StatusCode.UNAVAILABLE, 1),
    (errors.StoreUnavailable("it is gone"), StatusCode.UNAVAILABLE, 1),
    (errors.Stopping(), StatusCode.UNAVAILABLE, 1),
    (errors.DeadlineExceeded(MOOD, "the queue"), StatusCode.DEADLINE_EXCEEDED, None),
    (errors.BodyTooSlow(), StatusCode.DEADLINE_EXCEEDED, None),
    (errors.PredictionFailed(MOOD, "row 0: it is NaN"), StatusCode.INTERNAL, None),
    (errors.BrokenContract("the engine's answer", expected=1, got=2), StatusCode.INTERNAL, None),
]


def all_errors(kind: type[errors.ServoloopError] = errors.ServoloopError) -> Iterator[type[errors.ServoloopError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from all_errors(below)


@pytest.mark.parametrize(("error", "code", "retry_after"), SAID, ids=[type(error).__name__ for error, *_ in SAID])
async def test_every_error_is_told_with_its_status_and_its_words(
    stub: Client, engine: CountingEngine, error: errors.ServoloopError, code: StatusCode, retry_after: int | None
) -> None:
    engine.error = error
    told = await stub.refused("ModelInfer", TEXT)
    assert (told.code(), told.details()) == (code, str(error))
    assert dict(tuple(told.trailing_metadata())).get("retry-after") == (
        None if retry_after is None else str(retry_after)
    )


def test_every_error_that_a_client_may_be_told_has_a_status() -> None:
    own_fault = {errors.ServoloopError, errors.PredictionFailed, errors.BrokenContract}
    never_told = {errors.Misconfigured, errors.Forced}
    for kind in all_errors():
        if kind.__module__ == errors.__name__ and kind not in own_fault | never_told:
            assert any(above in STATUS for above in kind.__mro__), kind


async def test_an_error_that_nobody_foresaw_says_nothing_of_our_insides(stub: Client, engine: CountingEngine) -> None:
    engine.error = RuntimeError("a secret at /home/me")
    told = await stub.refused("ModelInfer", TEXT)
    assert told.code() is StatusCode.INTERNAL
    assert told.details() == "the service failed on this request; its log has the reason"


async def test_a_row_that_fails_fails_its_request(stub: Client, engine: CountingEngine) -> None:
    engine.failures = {1: "the network failed on this row"}
    told = await stub.refused("ModelInfer", request("mood", [tensor("text", "BYTES", [2], [b"good", b"bad"])]))
    assert told.code() is grpc.StatusCode.INTERNAL
    assert told.details() == "mood/1 could not compute this: row 1: the network failed on this row"


def test_a_very_long_reason_is_cut_where_metadata_would_not_hold_it() -> None:
    assert len(failure_of(errors.NotServing("it waits" * 9999)).details) == 2000
