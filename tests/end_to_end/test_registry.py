"""Versions that come, go and change places while the service answers."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import checkpoints
from tests.end_to_end.service import Homes, Service, until
from tests.faults import versions

ROW = [1.0, 2.0, 3.0, 4.0]
SWAPS, ASKERS = 30, 8


@pytest.fixture(scope="module")
def lively(new_home: Homes) -> Iterator[Service]:
    """Two http processes over two versions of one model, and a second model."""
    home = new_home()
    root = home / "data" / "models"
    for version in versions.VERSIONS:
        checkpoints.write_vector(root, version=version)
    checkpoints.write_text(root)
    with Service(home, "--http-processes", "2", shipped_checkpoints="") as running:
        yield running


@pytest.fixture
def root(lively: Service) -> Path:
    lively.wait_ready()
    return lively.data_dir / "models"


def states(service: Service, model: str) -> dict[str, str]:
    answer = service.client.get(f"/v1/models/{model}")
    return {} if answer.status_code == 404 else {v["version"]: v["state"] for v in answer.json()["versions"]}


def answered_by(service: Service, model: str, row: Any = ROW) -> str | None:
    answer = service.post(model, [row])
    return answer.json()["version"] if answer.status_code == 200 else None


def test_the_champion_changes_under_load_without_an_error_or_a_mixed_answer(lively: Service, root: Path) -> None:
    expected = versions.expected_of(lively)
    assert expected["1"] != pytest.approx(expected["2"], abs=1e-3)
    answers = asyncio.run(versions.swap(lively, SWAPS, ASKERS))
    assert not answers.failed
    assert answers.mixed(expected) == 0
    assert {version for version, _ in answers.told} == {"1", "2"}
    history = lively.client.get("/v1/models/sensors/history?limit=1000").json()["history"]
    assert len(history) > SWAPS


def test_a_model_that_is_copied_in_is_served_and_the_versions_that_follow_move_nothing(
    lively: Service, root: Path
) -> None:
    checkpoints.write_columns(root, "flat")
    row = {"columns": {"area": 70, "rooms": 3}}
    until(lambda: answered_by(lively, "flat", row) == "1", "the new model answers")
    checkpoints.write_columns(root, "flat", version=2)
    until(lambda: states(lively, "flat") == {"1": "loaded", "2": "loaded"}, "the second version is loaded")
    assert answered_by(lively, "flat", row) == "1"
    exact = lively.client.post("/v1/models/flat/versions/2/predict", json={"instances": [row]})
    assert exact.json()["version"] == "2"


def test_a_checkpoint_that_is_broken_comes_with_its_reason_and_goes_once_it_is_repaired(
    lively: Service, root: Path
) -> None:
    checkpoints.write_ids(root, "numbers")
    whole = (root / "numbers" / "1" / "weights.safetensors").read_bytes()
    (root / "numbers" / "1" / "weights.safetensors").write_bytes(whole[:-10])

    def broken() -> list[str]:
        listed = lively.client.get("/v1/models").json()["broken"]
        return [entry["reason"] for entry in listed if entry["model"] == "numbers"]

    until(broken, "it is listed as broken")
    (root / "numbers" / "1" / "weights.safetensors").write_bytes(whole)
    until(lambda: answered_by(lively, "numbers", [1, 2, 3]) == "1", "it answers")
    assert not broken()


def test_a_version_whose_folder_goes_away_is_unloaded(lively: Service, root: Path) -> None:
    checkpoints.write_text(root, version=2)
    until(lambda: states(lively, "mood") == {"1": "loaded", "2": "loaded"}, "both are loaded")
    shutil.rmtree(root / "mood" / "2")
    until(lambda: states(lively, "mood") == {"1": "loaded"}, "one is left")
    gone = lively.client.post("/v1/models/mood/versions/2/predict", json={"instances": ["good"]})
    assert gone.status_code == 404


def test_a_folder_that_changes_under_a_running_service_changes_no_answer(lively: Service, root: Path) -> None:
    row = {"columns": {"area": 70, "rooms": 3}}
    checkpoints.write_columns(root, "steady")
    until(lambda: answered_by(lively, "steady", row) == "1", "it answers")
    before = lively.predict("steady", [row])
    shutil.rmtree(root / "steady" / "1")
    checkpoints.write(
        root,
        "steady",
        seed=7,
        architecture={"family": "mlp", "config": {"inputs": 2, "hidden": [4], "outputs": 1}},
        task="regression",
        input=lively.client.get("/v1/models/steady").json()["input"],
        target={"name": "rent", "unit": "EUR", "mean": 500, "std": 100},
    )
    reloaded = lively.client.post("/v1/models/steady/versions/1/reload", json={"wait_ms": 60_000})
    assert reloaded.status_code == 503, reloaded.text
    assert "files changed" in reloaded.json()["detail"]
    assert lively.predict("steady", [row]) == before


def test_versions_are_unloaded_loaded_reloaded_and_deleted(lively: Service, root: Path) -> None:
    checkpoints.write_steps(root, "walk")
    checkpoints.write_steps(root, "walk", version=2)
    until(lambda: states(lively, "walk") == {"1": "loaded", "2": "loaded"}, "both are loaded")
    at = "/v1/models/walk/versions/2"
    row = [[[1, 2, 3], [4, 5, 6]]]
    first = lively.client.post(f"{at}/predict", json={"instances": row}).json()["predictions"]

    refused = lively.client.post("/v1/models/walk/versions/1/unload")
    assert refused.status_code == 409, refused.text

    assert lively.client.post(f"{at}/unload").json()["state"] == "unloaded"
    unready = lively.client.post(f"{at}/predict", json={"instances": row})
    assert unready.status_code == 503
    assert "unloaded" in unready.json()["detail"]

    assert lively.client.post(f"{at}/load").json()["state"] == "loaded"
    assert lively.client.post(f"{at}/predict", json={"instances": row}).json()["predictions"] == first

    reloaded = lively.client.post(f"{at}/reload")
    assert (reloaded.status_code, reloaded.json()["state"]) == (200, "loaded")
    mixed = lively.client.post(f"{at}/load", json={"precision": "bfloat16"})
    assert (mixed.status_code, mixed.json()["precision"]) == (200, "bfloat16")
    assert lively.client.post(f"{at}/predict", json={"instances": row}).status_code == 200

    assert lively.client.delete(at).status_code == 200
    until(lambda: not (root / "walk" / "2").exists(), "its files are removed")
    assert states(lively, "walk") == {"1": "loaded"}
    assert lively.metric("servoloop_rows_total", model="walk", version="2") == 0, "its series went with it"
    checkpoints.write_steps(root, "walk", version=2)
    checkpoints.write_steps(root, "walk", version=3)
    until(lambda: states(lively, "walk") == {"1": "loaded", "3": "loaded"}, "the next version comes")
    assert lively.client.get(at).status_code == 404, "its number is not used again"


def test_where_memory_is_short_versions_come_when_they_are_asked_for(new_home: Homes) -> None:
    home = new_home()
    root = home / "data" / "models"
    for name in ("one", "two", "three"):
        checkpoints.write_image(root, name)
    size = (root / "one" / "1" / "weights.safetensors").stat().st_size
    with Service(home, shipped_checkpoints="", model_memory_bytes=int(2.5 * size)) as service:
        service.wait_ready()
        picture = [[[0] * 28] * 28]
        for name in ("one", "two", "three") * 3:
            assert answered_by(service, name, picture[0]) == "1"

        def found() -> list[str]:
            return sorted(states(service, name)["1"] for name in ("one", "two", "three"))

        until(lambda: found() == ["loaded", "loaded", "on_demand"], "two are loaded, one is not")
        assert service.metric("servoloop_evictions_total") > 0
        assert 0 < service.metric("servoloop_resident_bytes") <= 2.5 * size
        pinned = [
            service.client.post(f"/v1/models/{name}/versions/1/load", json={"pinned": True}) for name in ("one", "two")
        ]
        assert [answer.status_code for answer in pinned] == [200, 200]
        refused = service.post("three", picture)
        assert refused.status_code == 503
        assert "pinned" in refused.json()["detail"]
        assert refused.headers["retry-after"]
