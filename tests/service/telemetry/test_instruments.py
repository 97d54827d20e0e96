"""Processes that answer as one: asked of real ones, because each keeps its numbers for as long as it lives."""

import os
import subprocess
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from service.domain import Ref
from service.telemetry.instruments import HttpTelemetry, expose

COUNT_ONE = """
import sys
from prometheus_client import CollectorRegistry
from service.telemetry.instruments import HttpTelemetry, expose, use_slot
use_slot(sys.argv[1])
telemetry = HttpTelemetry(CollectorRegistry())
telemetry.resent.inc()
sys.stdout.buffer.write(expose(telemetry.registry))
"""


def count_one(slot: str, directory: Path) -> str:
    """A process that counts one more; what it says of all."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    done = subprocess.run(
        [sys.executable, "-c", COUNT_ONE, slot], capture_output=True, text=True, check=True, env=environment
    )
    return next(line for line in done.stdout.splitlines() if line.startswith("servoloop_requests_resent_total"))


def test_a_restarted_process_goes_on_counting_where_it_was(tmp_path: Path) -> None:
    assert count_one("http-0", tmp_path).endswith(" 1.0")
    files = sorted(file.name for file in tmp_path.iterdir())
    assert count_one("http-0", tmp_path).endswith(" 2.0")
    assert sorted(file.name for file in tmp_path.iterdir()) == files


def test_processes_add_up(tmp_path: Path) -> None:
    count_one("http-0", tmp_path)
    assert count_one("http-1", tmp_path).endswith(" 2.0")


def test_a_single_process_tells_its_own_registry(registry: CollectorRegistry) -> None:
    telemetry = HttpTelemetry(registry)
    telemetry.requests.labels("fashion", "1", "ok").inc()
    text = expose(registry).decode()
    assert 'servoloop_requests_total{model="fashion",outcome="ok",version="1"} 1.0' in text


def test_series_vanish_with_their_version(registry: CollectorRegistry) -> None:
    telemetry = HttpTelemetry(registry)
    for model, version in (("fashion", 1), ("fashion", 2), ("mood", 1)):
        telemetry.requests.labels(model, version, "ok").inc()
    telemetry.resent.inc()
    text = expose(registry, {Ref("fashion", 1)}).decode()
    assert 'model="fashion",outcome="ok",version="1"' not in text
    assert 'servoloop_requests_total{model="fashion",outcome="ok",version="2"} 1.0' in text
    assert 'servoloop_requests_total{model="mood",outcome="ok",version="1"} 1.0' in text
    assert "servoloop_requests_resent_total 1.0" in text


def test_stages_are_told_apart_from_ten_microseconds_on(registry: CollectorRegistry) -> None:
    HttpTelemetry(registry).stage_duration.labels("fashion", "parse").observe(1e-5)
    assert registry.get_sample_value(
        "servoloop_stage_duration_seconds_bucket", {"model": "fashion", "stage": "parse", "le": "1e-05"}
    )
