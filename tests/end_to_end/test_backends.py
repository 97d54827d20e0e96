"""What a version runs on: chosen from what is kept in the data directory, and shown."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
