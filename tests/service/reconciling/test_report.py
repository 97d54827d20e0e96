from typing import Any

import pytest

from service.domain import Execution, Precision, Ref
from service.reconciling.report import Report

REF = Ref("m", 1)
FACTS: dict[str, Any] = {"bytes": 64, "generation": 0, "precision": "float32", "idle": None}
SAID = {"backend": "openvino", "precision": "bfloat16", "threads": 2, "reason": "it was measured"}


def report(**more: Any) -> Report:
    device = {"name": "cpu", "title": "", "budget": 1, "free": 1, "total": 1, "peers": ["cpu"]}
    replicas = {"m/1": {**FACTS, **more}}
    lists: dict[str, list[str]] = {"ready": [], "loading": [], "unloading": []}
    return Report.from_meta({"device": device, "replicas": replicas, "failed": {}, **lists})


def test_an_engine_says_how_its_replicas_compute() -> None:
    execution = report(execution=SAID).replicas[REF].execution
    assert execution == Execution("openvino", Precision.BFLOAT16, 2, "it was measured")
    assert report().replicas[REF].execution is None
    pending = report(execution={**SAID, "pending": True}).replicas[REF].execution
    assert pending is not None
    assert pending.pending


def test_an_engine_says_which_replicas_were_loaded_since_others_were_tried() -> None:
    assert report(optimized=True).replicas[REF].is_optimized
    assert not report().replicas[REF].is_optimized


@pytest.mark.parametrize("said", [{}, {**SAID, "precision": "int8"}, {**SAID, "more": 1}, "openvino"])
def test_what_is_no_execution_is_no_report(said: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        report(execution=said)
