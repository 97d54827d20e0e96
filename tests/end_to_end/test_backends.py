"""What a version runs on: chosen from what is kept in the data directory, and shown."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from models.manifest import Manifest
from service.engine.choosing import PASSED, Trial
from service.engine.optimized import Cache, Evidence, environment_of
from tests import checkpoints
from tests.end_to_end.service import Homes, Service, until

CORES = len(os.sched_getaffinity(0))


def keep(data_dir: Path, manifest: Manifest) -> Path:
    """Evidence that PyTorch in bfloat16 is the fastest."""
    facts: dict[str, Any] = {
        "threads": 1,
        "build_seconds": 0.1,
        "batch_1_ms": 1.0,
        "difference": 0.0,
        "verdict": PASSED,
    }
    cache = Cache(data_dir / "optimized", environment_of(torch.device("cpu")), CORES)
    plain = Trial(backend="eager", precision="float32", rows_per_second=100.0, **facts)
    cast = Trial(backend="eager-cast", precision="bfloat16", rows_per_second=300.0, **facts)
    evidence = Evidence(
        model=manifest.model,
        version=manifest.version,
        digest=manifest.digest,
        measured_at=datetime(2026, 11, 22, tzinfo=UTC),
        environment=cache.environment,
        cores=CORES,
        rows="drawn at random",
        num_rows=500,
        metric="like float32",
        tolerance=0.2,
        tried=[plain, cast],
        chosen=1,
    )
    return cache.write(manifest, evidence)


def backend(service: Service, model: str) -> dict[str, Any]:
    version: dict[str, Any] = service.client.get(f"/v1/models/{model}/versions/1").json()
    return version["backend"] or {}


def test_what_was_chosen_runs_after_a_reload_and_a_damaged_file_does_not_stop_it(new_home: Homes) -> None:
    home = new_home()
    manifest = checkpoints.write_columns(home / "data" / "models")
    with Service(home, shipped_checkpoints="", device="cpu") as service:
        service.wait_ready()
        until(lambda: backend(service, "rent"), "the version is loaded")
        assert backend(service, "rent")["name"] == "eager"
        assert backend(service, "rent")["reason"] == "nothing was tried here: servoloop optimize rent --version 1"
        row = {"columns": {"area": 61, "rooms": 2}}
        before = service.predict("rent", [row])

        path = keep(service.data_dir, manifest)
        assert service.client.post("/v1/models/rent/versions/1/reload").status_code == 200
        until(lambda: backend(service, "rent")["name"] == "eager-cast", "the back end is told")
        chosen = backend(service, "rent")
        assert (chosen["precision"], chosen["threads"]) == ("bfloat16", 1)
        assert chosen["reason"].startswith("measured 2026-11-22: 300 rows/s, 3.0 times as many as eager float32")
        assert service.predict("rent", [row]) != before

        path.write_bytes(b"\x80\x04 no JSON")
        assert service.client.post("/v1/models/rent/versions/1/reload").status_code == 200
        until(lambda: backend(service, "rent")["name"] == "eager", "the back end is told")
        assert backend(service, "rent")["reason"].startswith("what was found out about it is not used: ")
        assert service.predict("rent", [row])


def test_a_service_finds_out_by_itself_what_runs_a_version_best_and_answers_all_the_while(new_home: Homes) -> None:
    home, row = new_home(), {"columns": {"area": 61, "rooms": 2}}
    manifest = checkpoints.write_columns(home / "data" / "models")
    # On a machine that tests keep busy it would wait for a quiet one for long.
    given: dict[str, Any] = {"shipped_checkpoints": "", "device": "cpu", "optimize": "auto", "optimize_max_busy": 1}
    with Service(home, **given) as service:
        service.wait_ready()
        until(lambda: backend(service, "rent"), "the version is loaded")
        before = service.predict("rent", [row])[0]["value"]
        answers = []

        def is_settled() -> bool:
            answers.append(service.predict("rent", [row])[0]["value"])
            return not backend(service, "rent")["pending"]

        until(is_settled, "other back ends were tried", 300)
        chosen = backend(service, "rent")
        # What ran it before may be the best; of a network this small chance decides.
        stayed = chosen["reason"] == "what runs it is the best that was found"
        assert stayed or chosen["reason"].startswith("measured ")
        assert chosen["threads"] <= CORES
        assert answers == pytest.approx([before] * len(answers), rel=0.05)
        path = Cache(home / "data" / "optimized", environment_of(torch.device("cpu")), CORES).path(manifest)
        assert path.is_file()
        assert service.metric("servoloop_loads_total", model="rent", outcome="reloaded") == (0 if stayed else 1)
        assert "optimised" in [json.loads(line)["event"] for line in service.errors.splitlines()]

    with Service(home, **given) as service:
        service.wait_ready()
        until(lambda: backend(service, "rent"), "the version is loaded")
        again = backend(service, "rent")
        assert {**again, "reason": ""} == {**chosen, "reason": ""}, "what is known is not tried again"


def test_a_trial_ends_with_its_service(new_home: Homes) -> None:
    home = new_home()
    checkpoints.write_columns(home / "data" / "models")
    for end in (Service.stop, Service.kill):
        with Service(home, shipped_checkpoints="", device="cpu", optimize="auto", optimize_max_busy=1) as service:
            service.wait_ready()
            until(lambda: trials_of(home), "a trial is under way")
            end(service)
            until(lambda: not trials_of(home), "it has ended")
        assert not list((home / "data").glob("optimized/*.json"))


def trials_of(home: Path) -> list[int]:
    """The processes that try back ends for a service."""
    cache = os.fsencode(home / "data" / "optimized")
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if cache in words_of(path)]


def words_of(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\0")
    except OSError:
        return []
