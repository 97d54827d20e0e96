"""What is kept of a version: found again only for the same weights, processor and libraries, and checked."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch

from models.manifest import WEIGHTS, Manifest
from service.domain import Precision
from service.engine.choosing import PASSED, Trial
from service.engine.optimized import Cache, Evidence, Unusable, environment_of
from service.engine.plans import Chooser
from tests.service.engine.networks import NETWORKS, manifest_of

CPU = torch.device("cpu")
HERE = {"device": "a processor", "torch": "2.13.0", "openvino": "2026.4.1"}
CONTRACT, ARCHITECTURE = NETWORKS["mlp"]
MANIFEST = manifest_of(CONTRACT, ARCHITECTURE)
NO_WEIGHTS = {"sha256": "0" * 64, "size": 0}
TRIALS = [
    {"backend": "eager", "precision": "float32", "rows_per_second": 100.0},
    {"backend": "eager-cast", "precision": "bfloat16", "rows_per_second": 250.0},
    {"backend": "openvino", "precision": "float32", "rows_per_second": 200.0},
]


def evidence(*changes: dict[str, Any], **more: Any) -> Evidence:
    common = {"threads": 1, "build_seconds": 0.1, "batch_1_ms": 1.0, "difference": 0.0, "verdict": PASSED}
    facts = {
        "model": MANIFEST.model,
        "version": MANIFEST.version,
        "digest": MANIFEST.digest,
        "measured_at": datetime(2026, 11, 22, tzinfo=UTC),
        "environment": HERE,
        "cores": 2,
        "rows": "evaluation.npz",
        "num_rows": 500,
        "metric": "accuracy",
        "tolerance": 0.2,
        "tried": [Trial.model_validate({**common, **trial}) for trial in (changes or TRIALS)],
        "chosen": 1,
        **more,
    }
    return Evidence.model_validate(facts)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "optimized", HERE, 2)


def other_weights() -> Manifest:
    return manifest_of(CONTRACT, ARCHITECTURE, files={"weights.safetensors": {"sha256": "1" * 64, "size": 0}})


def test_what_is_written_is_read_again(cache: Cache) -> None:
    assert cache.read(MANIFEST) is None
    path = cache.write(MANIFEST, evidence())
    assert path.name.startswith("0" * 64 + "-")
    assert cache.read(MANIFEST) == evidence()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("environment", "cores"),
    [
        ({**HERE, "torch": "2.14.0"}, 2),
        ({**HERE, "openvino": "absent"}, 2),
        ({**HERE, "servoloop": "2.0"}, 2),
        ({**HERE, "device": "another"}, 2),
        (HERE, 4),
    ],
)
def test_another_library_or_machine_finds_nothing(
    cache: Cache, environment: dict[str, str], cores: int, tmp_path: Path
) -> None:
    cache.write(MANIFEST, evidence())
    assert Cache(tmp_path / "optimized", environment, cores).read(MANIFEST) is None


def test_other_weights_or_another_architecture_find_nothing(cache: Cache) -> None:
    cache.write(MANIFEST, evidence())
    assert cache.read(other_weights()) is None
    config = {**ARCHITECTURE["config"], "activation": "relu"}
    assert cache.read(manifest_of(CONTRACT, {**ARCHITECTURE, "config": config})) is None


@pytest.mark.parametrize(
    "change",
    [
        {"task": "binary", "labels": ["no", "yes"], "threshold": 0.7},
        {"preprocess": [{"step": "scale", "factor": 0.5}]},
        {"files": {WEIGHTS: NO_WEIGHTS, "evaluation.npz": {"sha256": "2" * 64, "size": 9}}},
    ],
    ids=["another threshold", "other preprocessing", "other rows"],
)
def test_the_same_weights_judged_by_something_else_find_nothing(cache: Cache, change: dict[str, Any]) -> None:
    cache.write(MANIFEST, evidence())
    assert cache.read(manifest_of(CONTRACT, ARCHITECTURE, **change)) is None


def written(cache: Cache, data: bytes) -> None:
    path = cache.write(MANIFEST, evidence())
    path.write_bytes(data)


def changed(**changes: Any) -> bytes:
    return orjson.dumps({**evidence().model_dump(mode="json"), **changes})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no JSON"),
        (b"\x80\x04\x95", "no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"chosen": NaN}', "NaN is no number"),
        (b'{"model": "m", "model": "n"}', "stands twice"),
        (b" " * (1 << 20) + b"{}", "is larger than"),
        (changed(command="rm -rf /"), "command: Extra inputs"),
        (changed(schema_version=1), "schema_version"),
        (changed(tried=[{"backend": "os.system"}]), "tried.0.backend"),
        (changed(digest="1" * 64), "about other weights, or another machine"),
        (changed(environment={**HERE, "torch": "1"}), "about other weights, or another machine"),
        (changed(cores=64), "about other weights, or another machine"),
    ],
)
def test_what_is_no_evidence_is_refused_and_pytorch_answers(cache: Cache, data: bytes, reason: str) -> None:
    written(cache, data)
    with pytest.raises(Unusable, match=reason):
        cache.read(MANIFEST)
    plan = Chooser(cache, threads=2)(CPU, MANIFEST, Precision.FLOAT32)
    assert plan.backend.name == "eager"
    assert plan.reason.startswith("what was found out about it is not used: ")


def test_a_pipe_is_not_waited_for(cache: Cache) -> None:
    path = cache.write(MANIFEST, evidence())
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Unusable, match="is no regular file"):
        cache.read(MANIFEST)


@pytest.mark.parametrize("name", ["f" * 300, "no-folder", "loop"], ids=["a long name", "a file", "a link to itself"])
def test_where_the_folder_can_not_be_read_pytorch_answers(tmp_path: Path, name: str) -> None:
    (tmp_path / "no-folder").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    cache = Cache(tmp_path / name, HERE, 2)
    with pytest.raises(Unusable, match="can't be read"):
        cache.read(MANIFEST)
    assert Chooser(cache, threads=2)(CPU, MANIFEST, Precision.FLOAT32).backend.name == "eager"


def test_the_environment_names_the_processor_and_the_libraries() -> None:
    assert set(environment_of(CPU)) == {"device", "numpy", "onnxruntime", "openvino", "servoloop", "torch"}


# What an engine does with it


def test_an_engine_uses_what_was_chosen_and_says_why(cache: Cache) -> None:
    cache.write(MANIFEST, evidence())
    plan = Chooser(cache, threads=2)(CPU, MANIFEST, Precision.FLOAT32)
    assert (plan.backend.name, plan.backend.precision, plan.place.threads) == ("eager-cast", Precision.BFLOAT16, 1)
    assert plan.reason == (
        "measured 2026-11-22: 250 rows/s, 2.5 times as many as eager float32; accuracy +0.00 points on 500 rows"
    )


def test_a_wish_for_a_lower_precision_is_kept_to(cache: Cache) -> None:
    cache.write(MANIFEST, evidence(TRIALS[0], TRIALS[2]))
    plan = Chooser(cache, threads=2)(CPU, MANIFEST, Precision.BFLOAT16)
    assert (plan.backend.name, plan.backend.precision) == ("eager", Precision.BFLOAT16)
    assert plan.reason == "nothing that was tried passed with bfloat16 and at most 2 threads"


def test_what_nothing_was_tried_for_is_pending_where_it_will_be(cache: Cache) -> None:
    def is_pending(**more: bool) -> bool:
        return Chooser(cache, 2, **more)(CPU, MANIFEST, Precision.FLOAT32).execution.pending

    assert is_pending(automatic=True)
    assert not is_pending()
    assert not is_pending(automatic=True, enabled=False)
    cache.write(MANIFEST, evidence())
    assert not is_pending(automatic=True)


def reason(cache: Cache, **more: Any) -> str:
    plan = Chooser(cache, **{"threads": 3, **more})(CPU, MANIFEST, Precision.FLOAT32)
    assert (plan.backend.name, plan.backend.precision, plan.place.threads) == ("eager", Precision.FLOAT32, 3)
    return plan.reason


def test_pytorch_answers_where_nothing_else_is_known_and_the_reason_says_what_to_do(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reason(cache) == "nothing was tried here: servoloop optimize m --version 1"
    soon = "nothing was tried here yet; it will be in the background, once the machine is quiet"
    assert reason(cache, automatic=True) == soon
    cache.write(MANIFEST, evidence())
    assert reason(cache, enabled=False) == "SERVOLOOP_OPTIMIZE is off"
    cache.write(MANIFEST, evidence({**TRIALS[0], "backend": "abacus"}))
    assert reason(cache) == "there is no back end abacus float32"
    cache.write(MANIFEST, evidence(TRIALS[2]))
    monkeypatch.setattr("service.engine.backends.openvino.find_spec", lambda _: None)
    assert reason(cache) == "OpenVINO is not installed: pip install 'servoloop[openvino]'"


GPU = torch.device("cuda", 0)


def test_on_a_gpu_pytorch_answers_until_somebody_tries_the_others(cache: Cache) -> None:
    plan = Chooser(cache, threads=2, automatic=True)(GPU, MANIFEST, Precision.FLOAT16)
    assert (plan.backend.name, plan.backend.precision, plan.place.threads) == ("eager", Precision.FLOAT16, 0)
    assert (plan.pending, plan.reason) == (False, "nothing was tried here: servoloop optimize m --version 1")


def test_on_a_gpu_what_was_fastest_there_runs_as_many_batches_at_once_as_it_has_lanes(cache: Cache) -> None:
    cache.write(
        MANIFEST, evidence(TRIALS[0], {"backend": "cuda-graphs", "precision": "bfloat16", "rows_per_second": 1e5})
    )
    plan = Chooser(cache, threads=2)(GPU, MANIFEST, Precision.FLOAT32)
    assert (plan.backend.name, plan.backend.precision) == ("cuda-graphs", Precision.BFLOAT16)
    assert (plan.place.device, plan.place.threads, plan.place.at_once) == (GPU, 1, 2)
