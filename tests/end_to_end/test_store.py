"""What a running service remembers: predictions, and which version answers."""

import asyncio
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from service.store.databases import Part
from tests import checkpoints, postgres
from tests.end_to_end.service import Homes, Service, serve_and_fail, until
from tests.stores import open_store

PICTURE = [[0] * 28] * 28
CHAMPION = "/v1/models/clothes/aliases/champion"


@pytest.fixture(scope="module")
def service(new_home: Homes) -> Iterator[Service]:
    """Two versions of one model; its recorder may be killed."""
    home = new_home()
    with Service(write_models(home), shipped_checkpoints="") as running:
        running.wait_ready()
        until(lambda: both_loaded(running), "both versions are loaded")
        yield running


def write_models(home: Path) -> Path:
    for version in (1, 2):
        checkpoints.write_image(home / "data" / "models", version=version)
    return home


def both_loaded(service: Service) -> bool:
    return all(version["ready"] for version in service.client.get("/v1/models/clothes").json()["versions"])


def ask(service: Service, num_rows: int = 1) -> list[str]:
    """The ids of some predictions."""
    response = service.post("clothes", [PICTURE] * num_rows)
    assert response.status_code == 200
    ids: list[str] = response.json()["prediction_ids"]
    return ids


def found(service: Service, prediction_id: str) -> dict[str, Any] | None:
    response = service.client.get(f"/v1/predictions/{prediction_id}")
    return response.json() if response.status_code == 200 else None


def in_file(service: Service) -> set[str]:
    """The ids that are durable, whatever the service says."""
    path = service.data_dir / "predictions.sqlite3"
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return {row[0] for row in connection.execute("SELECT id FROM predictions")}
    except sqlite3.OperationalError:
        return set()  # a killed writer's journal is rolled back by its successor, not by a reader


def test_a_prediction_is_found_by_its_id(service: Service) -> None:
    for _ in range(10):
        [prediction_id] = ask(service)
        until(lambda one=prediction_id: found(service, one), "it is found")  # type: ignore[misc]
    assert service.metric("servoloop_log_dropped_records_total") == 0


def test_records_survive_the_death_of_their_recorder_at_any_moment(service: Service) -> None:
    ids: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            ids.extend(ask(service, num_rows=8))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        for _ in range(3):
            sent = len(ids)
            until(lambda sent=sent: len(ids) > sent + 40, "predictions are made")  # type: ignore[misc]
            killed = service.kill_child("recorder")
            until(lambda killed=killed: service.child("recorder") != killed, "another recorder is there")  # type: ignore[misc]
    finally:
        stop.set()
        loading.join()
    until(lambda: set(ids) <= in_file(service), "every prediction is durable")
    assert service.metric("servoloop_log_dropped_records_total") == 0
    assert service.metric("servoloop_process_restarts_total", slot="recorder") >= 3


async def test_the_champion_moves_under_load_without_losing_a_request(service: Service) -> None:
    moves = 20
    async with httpx.AsyncClient(base_url=service.url, timeout=60, trust_env=False) as client:
        alone = {}
        for version in ("1", "2"):
            answer = (
                await client.post(f"/v1/models/clothes/versions/{version}/predict", json={"instances": [PICTURE]})
            ).json()
            alone[version] = answer["predictions"][0]["probability"]
        done = asyncio.Event()
        answers: list[tuple[int, str, set[float]]] = []

        async def load() -> None:
            while not done.is_set():
                response = await client.post("/v1/models/clothes/predict", json={"instances": [PICTURE] * 4})
                body = response.json()
                probabilities = {round(one["probability"], 5) for one in body["predictions"]}
                answers.append((response.status_code, body["version"], probabilities))

        loading = [asyncio.create_task(load()) for _ in range(8)]
        before = (await client.get("/v1/models/clothes/history")).json()["history"][0]["revision"]
        for number in range(moves):
            wanted = "12"[(number + 1) % 2]
            assert (await client.put(CHAMPION, json={"version": wanted})).status_code == 200
            # What is asked after a move was answered is answered by its version.
            assert (await client.post("/v1/models/clothes/predict", json={"instances": [PICTURE]})).json()[
                "version"
            ] == wanted
        done.set()
        await asyncio.gather(*loading)
        history = (await client.get("/v1/models/clothes/history", params={"limit": 1000})).json()["history"]

    assert {status for status, _, _ in answers} == {200}
    assert {version for _, version, _ in answers} == {"1", "2"}
    for _, version, probabilities in answers:
        assert probabilities == {round(alone[version], 5)}
    assert history[0]["revision"] == before + moves


def test_an_alias_moved_beside_the_http_process_is_seen_by_it(service: Service) -> None:
    store = open_store(service.data_dir)
    store.control.move_alias("clothes", "trial", 2, actor="ann", reason="")
    until(
        lambda: (
            service.client.post("/v1/models/clothes/aliases/trial/predict", json={"instances": [PICTURE]}).is_success
        ),
        "it answers",
    )
    store.close()


def test_told_to_stop_it_writes_what_it_holds_and_goes_on_where_it_was(new_home: Homes) -> None:
    home = write_models(new_home())
    (home / "data" / "aliases.json").write_bytes(orjson.dumps({"clothes": {"champion": 2}}))
    with Service(home, shipped_checkpoints="") as service:
        service.wait_ready()
        assert service.client.get("/v1/models/clothes").json()["aliases"] == {"champion": "2"}
        ids = [one for _ in range(20) for one in ask(service, num_rows=10)]
        assert service.stop() == 0
        assert set(ids) == in_file(service)
        assert "Traceback" not in service.errors
    with Service(home, shipped_checkpoints="") as service:
        service.wait_ready()
        assert service.client.get("/v1/models/clothes").json()["aliases"] == {"champion": "2"}
        assert found(service, ids[0])
        # Killed all at once, it loses nothing that it said was there.
        [last] = ask(service)
        until(lambda: found(service, last), "it is found")
        service.child("recorder")
        for pid in service.children_alive():
            os.kill(pid, signal.SIGKILL)
        service.kill()
        assert {*ids, last} <= in_file(service)


def test_a_store_of_a_newer_version_is_refused(new_home: Homes) -> None:
    home = new_home()
    (home / "data").mkdir()
    open_store(home / "data").close()
    with sqlite3.connect(home / "data" / f"{Part.CONTROL}.sqlite3") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'c999'")
    connection.close()
    code, said = serve_and_fail(home, shipped_checkpoints="")
    assert code not in (0, None)
    assert "the control store's schema is c999, which is newer" in said
    assert "Traceback" not in said


@pytest.mark.postgres
def test_a_service_keeps_its_store_in_postgresql(new_home: Homes) -> None:
    home = write_models(new_home())
    with postgres.server() as url, Service(home, shipped_checkpoints="", store_url=url) as service:
        service.wait_ready()
        [prediction_id] = ask(service)
        assert until(lambda: found(service, prediction_id), "it is found")["model"] == "clothes"
        until(lambda: both_loaded(service), "both versions are loaded")
        assert service.client.put(CHAMPION, json={"version": "2"}).json()["previous"] == "1"
        assert list(service.data_dir.glob("*.sqlite3")) == []
        assert service.stop() == 0
