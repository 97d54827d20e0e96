import pytest

from service.domain import Ref
from service.serving.engine_status import STALE_FORWARD_SECONDS, STALE_SECONDS, EngineStatus
from service.wire.report import DeviceReport, Report

REF, OTHER = Ref("m", 1), Ref("m", 2)
NOW = 1000.0


def heard(seconds_ago: float, *, idle: float = 0.0) -> EngineStatus:
    """The status of an engine that answered for REF so long before it was heard."""
    report = Report(
        DeviceReport("cpu", 1, ("cpu",)), {}, frozenset(), frozenset(), {REF: idle}, {OTHER: "it holds NaN"}
    )
    return EngineStatus.of(report, heard=NOW - seconds_ago)


def why_unready(status: EngineStatus, ref: Ref = REF) -> str | None:
    return status.why_unready(ref, NOW, STALE_SECONDS)


def test_what_answered_lately_is_ready() -> None:
    assert why_unready(heard(0.0)) is None


def test_what_failed_says_why() -> None:
    assert why_unready(heard(0.0), OTHER) == "it holds NaN"


def test_what_an_engine_does_not_name_it_has_not_loaded() -> None:
    assert why_unready(heard(0.0), Ref("m", 3)) == "its engine has not loaded it yet"


def test_an_engine_that_said_nothing_yet_is_starting() -> None:
    assert why_unready(EngineStatus()) == "its engine is starting"
    assert not EngineStatus().is_heard(NOW, STALE_SECONDS)


@pytest.mark.parametrize(("seconds", "is_heard"), [(0.0, True), (4.9, True), (5.0, False), (60.0, False)])
def test_an_engine_is_heard_for_as_long_as_its_word_is_not_stale(seconds: float, is_heard: bool) -> None:
    status = heard(seconds)
    assert status.is_heard(NOW, STALE_SECONDS) == is_heard
    assert why_unready(status) == (None if is_heard else f"its engine has not been heard of for {seconds:.0f} seconds")


def test_a_version_that_answers_nothing_is_not_ready_also_where_its_engine_is_heard() -> None:
    assert why_unready(heard(1.0, idle=STALE_FORWARD_SECONDS - 1.5)) is None
    assert why_unready(heard(1.0, idle=STALE_FORWARD_SECONDS - 1.0)) == "it has answered nothing for 30 seconds"
