from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from service.domain import Execution, Precision, Ref
from service.watch.history import History
from service.wire.frames import Frame, Kind
from service.wire.report import (
    DeviceReport,
    ReplicaReport,
    Report,
    Wanted,
    load_frame,
    load_in,
    unload_frame,
    unload_in,
    want_frame,
    want_in,
)
from tests.frames import sent

REF, OTHER = Ref("m", 1), Ref("m", 2)
DEVICE = DeviceReport("cuda:0", 1000, ("cuda:0", "cuda:1"))
SAID = Execution("openvino", Precision.BFLOAT16, 2, "it was measured")
REPLICA = ReplicaReport(64, 3, Precision.FLOAT16, 1.5, SAID, is_optimized=True)
REPORT = Report(DEVICE, {REF: REPLICA}, frozenset({OTHER}), frozenset({REF}))


@pytest.mark.parametrize(
    "report",
    [
        REPORT,
        Report(DEVICE, {}, frozenset(), frozenset()),
        replace(REPORT, replicas={REF: replace(REPLICA, idle=None, execution=None, is_optimized=False)}),
        replace(REPORT, replicas={REF: replace(REPLICA, execution=replace(SAID, pending=True))}),
        replace(REPORT, ready={REF: 0.25, OTHER: 12.0}, failed={Ref("gone", 3): "it was taken out"}),
        replace(REPORT, history=History(2, {1: frozenset({(7, 0)})}, {b"d" * 16: REF}, {OTHER: "it was taken out"})),
        replace(REPORT, history=History()),
    ],
)
def test_a_report_arrives_as_it_was_sent(report: Report) -> None:
    frame = sent(report.to_frame())
    assert frame.kind is Kind.STATUS
    assert Report.from_frame(frame) == report


@pytest.mark.parametrize("key", ["ready", "failed", "replicas"])
def test_what_holds_a_list_for_a_table_is_no_report(key: str) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Report.from_frame(Frame(Kind.STATUS, meta={**REPORT.to_frame().meta, key: ["m/1"]}))


def test_times_are_told_in_milliseconds() -> None:
    report = replace(REPORT, ready={REF: 0.12345}, replicas={REF: replace(REPLICA, idle=1.23456)})
    found = Report.from_frame(sent(report.to_frame()))
    assert (found.ready[REF], found.replicas[REF].idle) == (0.123, 1.235)


@pytest.mark.parametrize("said", [{}, {**asdict(SAID), "precision": "int8"}, {**asdict(SAID), "more": 1}, "openvino"])
def test_what_is_no_execution_is_no_report(said: Any) -> None:
    frame = REPORT.to_frame()
    frame.meta["replicas"]["m/1"]["execution"] = said
    with pytest.raises((KeyError, TypeError, ValueError)):
        Report.from_frame(frame)


@pytest.mark.parametrize("missing", ["device", "replicas", "loading", "unloading", "ready", "failed"])
def test_a_report_says_all_of_it(missing: str) -> None:
    meta = {key: value for key, value in REPORT.to_frame().meta.items() if key != missing}
    with pytest.raises(KeyError):
        Report.from_frame(Frame(Kind.STATUS, meta=meta))


@pytest.mark.parametrize("pardon", [True, False])
@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(REF, Path("/models/m/1")),
        Wanted(REF, Path("/models/m/1"), "abc", Precision.BFLOAT16, generation=4, optimized=True),
    ],
)
def test_what_is_to_be_loaded_arrives_as_it_was_sent(wanted: Wanted, pardon: bool) -> None:
    frame = sent(load_frame(7, wanted, pardon=pardon))
    assert (frame.kind, frame.request_id) == (Kind.LOAD, 7)
    assert load_in(frame) == (wanted, pardon)


def test_so_does_what_is_to_be_unloaded() -> None:
    frame = sent(unload_frame(7, REF))
    assert (frame.kind, frame.request_id) == (Kind.UNLOAD, 7)
    assert unload_in(frame) == REF


def test_so_does_what_is_wanted_by_who_is_asked_for_it() -> None:
    frame = sent(want_frame(REF))
    assert frame.kind is Kind.WANT
    assert want_in(frame) == REF


def test_what_is_loaded_is_what_is_wanted_where_it_was_made_of_the_same() -> None:
    loaded = Wanted(REF, Path("/models/m/1"), "abc", Precision.BFLOAT16, generation=4, optimized=True)
    assert loaded.is_met_by(loaded)
    assert replace(loaded, optimized=False).is_met_by(loaded)
    assert not loaded.is_met_by(replace(loaded, optimized=False))
    assert not loaded.is_met_by(replace(loaded, generation=3))
    assert not loaded.is_met_by(replace(loaded, precision=Precision.FLOAT16))
