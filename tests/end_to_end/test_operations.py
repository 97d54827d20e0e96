"""What a running service says of itself and of what it can't serve, and how it refuses to start."""

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.service import Homes, Service, serve_and_fail, until


def test_the_address_is_printed_once_predictions_are_answered(service: Service) -> None:
    until(lambda: service.url in service.output, "the address is printed")


def test_a_checkpoint_that_was_cut_short_is_reported_while_others_serve(service: Service) -> None:
    broken = {
        (one["model"], one["version"]): one["reason"] for one in service.client.get("/v1/models").json()["broken"]
    }
    assert "weights.safetensors has" in broken["torn", "1"]
    assert "manifest.json says" in broken["torn", "1"]
    assert service.post("torn", [[[0] * 28] * 28]).status_code == 404
    assert service.predict("clothes", [[[0] * 28] * 28])


def test_a_checkpoint_whose_weights_hold_nan_is_reported_while_others_serve(service: Service) -> None:
    until(
        lambda: not service.client.get("/v1/models/clothes").json()["versions"][2]["reason"].startswith("its engine"),
        "version 3 was tried",
    )
    broken = {
        (one["model"], one["version"]): one["reason"] for one in service.client.get("/v1/models").json()["broken"]
    }
    assert "NaN" in broken["clothes", "3"]
    versions = service.client.get("/v1/models/clothes").json()["versions"]
    assert [(version["version"], version["ready"]) for version in versions] == [("1", True), ("2", True), ("3", False)]
    assert versions[2]["reason"] == broken["clothes", "3"]
    refused = service.client.post("/v1/models/clothes/versions/3/predict", json={"instances": [[[0] * 28] * 28]})
    assert refused.status_code == 503
    assert refused.headers["retry-after"]


def test_metrics_answer_for_all_processes(service: Service) -> None:
    service.predict("motion", [[[1, 2, 3]], [[1, 2, 3]] * 9])
    assert service.metric("servoloop_requests_total", model="motion", outcome="ok") >= 1
    assert service.metric("servoloop_replicas", model="motion") == 1
    assert service.metric("servoloop_batch_rows_sum", model="motion") >= 2
    assert service.metric("servoloop_batch_elements_total", model="motion") >= 10
    assert service.metric("servoloop_process_restarts_total", slot="engine-0") == 0
    assert not [labels for _, labels, _ in service.samples() if "pid" in labels]


def test_wrong_input_never_reaches_the_engine(service: Service) -> None:
    before = service.metric("servoloop_batch_rows_count", model="sensors")
    for wrong in ([1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, 1e99], None):
        response = service.post("sensors", [wrong])
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
    assert service.metric("servoloop_batch_rows_count", model="sensors") == before


def test_a_body_past_the_limit_is_refused_and_the_service_goes_on(service: Service) -> None:
    def chunks() -> Any:
        for _ in range(17):
            yield bytes(1 << 20)

    headers = {"Content-Type": "application/json"}
    said = service.client.post("/v1/models/mood/predict", content=bytes(17 << 20), headers=headers)
    assert said.status_code == 413
    streamed = service.client.post("/v1/models/mood/predict", content=chunks(), headers=headers)
    assert streamed.status_code == 413
    assert service.predict("mood", ["good"])


def test_its_http_process_never_loads_torch(service: Service) -> None:
    libraries = Path(f"/proc/{service.child('http-0')}/maps").read_text()
    assert "libtorch" not in libraries
    assert "libtorch" in Path(f"/proc/{service.child('engine-0')}/maps").read_text()


def test_its_folder_for_sockets_is_closed_to_others(service: Service) -> None:
    (folder,) = service.leftovers()
    assert folder.stat().st_mode & 0o077 == 0


def test_a_second_service_on_the_same_data_is_refused(service: Service, new_home: Homes) -> None:
    code, said = serve_and_fail(new_home(), data_dir=service.data_dir, shipped_checkpoints="")
    assert code not in (0, None)
    assert f"another service uses the data directory {service.data_dir}" in said
    assert "SERVOLOOP_DATA_DIR" in said
    assert "Traceback" not in said
    assert service.is_ready()


def test_a_port_in_use_is_refused(service: Service, new_home: Homes) -> None:
    code, said = serve_and_fail(new_home(), "--port", str(service.port), shipped_checkpoints="")
    assert code not in (0, None)
    assert f"can't serve on 127.0.0.1:{service.port}" in said
    assert "--port" in said
    assert "Traceback" not in said
    assert service.is_ready()


@pytest.mark.parametrize("host", ["0.0.0.0", "example.org"])
def test_an_address_that_others_reach_is_refused(new_home: Homes, host: str) -> None:
    code, said = serve_and_fail(new_home(), "--host", host, shipped_checkpoints="")
    assert code not in (0, None)
    assert f"{host} can be reached by others" in said
    assert "--allow-remote" in said
    assert "Traceback" not in said


def test_a_device_that_is_not_there_ends_the_service_with_its_name(new_home: Homes) -> None:
    home = new_home()
    with Service(home, device="cuda:77", shipped_checkpoints="") as service:
        code, said = service.exit_code(), service.errors
    assert code not in (0, None)
    assert "cuda:77" in said
    assert said.count("the engine can't start") == 1
    assert "Traceback" not in said
    assert service.leftovers() == []


def test_a_data_directory_that_cannot_be_made_is_refused(new_home: Homes) -> None:
    home = new_home()
    (home / "file").write_text("in the way")
    code, said = serve_and_fail(home, data_dir=home / "file" / "data", shipped_checkpoints="")
    assert code not in (0, None)
    assert f"the data directory {home}{os.sep}file{os.sep}data can't be used" in said
    assert "Traceback" not in said


def test_port_0_is_any_free_port_and_a_service_without_models_is_ready(new_home: Homes) -> None:
    with Service(new_home(), "--port", "0", shipped_checkpoints="") as service:
        address = until(lambda: re.search(r"http://127\.0\.0\.1:[1-9][0-9]*", service.output), "the address is printed")
        assert httpx.get(f"{address[0]}/v1/models", trust_env=False).json() == {"models": [], "broken": []}


def test_a_request_that_failed_is_logged_under_its_id_without_what_it_held(service: Service) -> None:
    body = {"instances": ["a secret " * 100]}
    headers = {"X-Request-Id": "logged-7"}
    assert service.client.post("/v1/models/mood/predict", json=body, headers=headers).status_code == 422

    def logged() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in service.errors.splitlines() if "logged-7" in line]
        return [line for line in lines if line["request_id"] == "logged-7"]

    (line,) = until(logged, "the request is logged")
    assert (line["process"], line["method"], line["path"], line["status"]) == (
        "http-0",
        "POST",
        "/v1/models/mood/predict",
        422,
    )
    assert "secret" not in service.errors


def test_a_client_that_leaves_in_the_middle_leaves_no_trace_of_a_crash(service: Service) -> None:
    head = b"POST /v1/models/mood/predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(head + b"X-Request-Id: left-early\r\nContent-Length: 1000\r\n\r\n{")
    until(lambda: "left-early" in service.errors, "its leaving is logged")
    assert "Traceback" not in service.errors
    assert service.predict("mood", ["good"])
