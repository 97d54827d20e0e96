import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from service import settings
from service.domain import BatchPolicy
from service.settings import SHIPPED_CHECKPOINTS, Settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SERVOLOOP_{name.upper()}", raising=False)


def test_without_variables_the_service_stays_on_this_machine() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.allow_remote) == ("127.0.0.1", 8000, False)
    assert settings.shipped_checkpoints == SHIPPED_CHECKPOINTS


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVOLOOP_PORT", "8123")
    monkeypatch.setenv("SERVOLOOP_ALLOW_REMOTE", "true")
    monkeypatch.setenv("SERVOLOOP_MAX_QUEUE_DELAY_SECONDS", "0.005")
    settings = Settings()
    assert (settings.port, settings.allow_remote, settings.max_queue_delay_seconds) == (8123, True, 0.005)


def test_variables_of_others_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("HOST", "0.0.0.0")
    assert (Settings().host, Settings().port) == ("127.0.0.1", 8000)


def test_the_data_directory_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Settings().data_dir == tmp_path / "servoloop"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Settings().data_dir == tmp_path / "home" / ".local/share/servoloop"


def test_state_lies_in_the_data_directory(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    assert settings.registered_models == tmp_path / "models"
    assert settings.model_roots == [SHIPPED_CHECKPOINTS, tmp_path / "models"]


def test_an_empty_variable_serves_registered_models_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVOLOOP_SHIPPED_CHECKPOINTS", "")
    settings = Settings(data_dir=tmp_path)
    assert settings.shipped_checkpoints is None
    assert settings.model_roots == [tmp_path / "models"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"shipped_checkpoints": None},
        {"host": "::1", "port": 0, "allow_remote": True, "access_log": True},
        {"default_timeout_seconds": 0.1, "max_queue_delay_seconds": 1e-5, "log_format": "json", "device": "cuda:1"},
        {"single_flight": "on", "result_cache_rows": 10, "result_cache_bytes": 1000},
    ],
)
def test_child_processes_read_the_same_settings(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path / "a folder", **changes)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_the_batch_policy_is_made_of_the_settings() -> None:
    queue = {"max_queued_rows": 9, "max_queued_bytes": 11}
    settings = Settings(max_batch_rows=7, max_queue_delay_seconds=0.5, max_batch_seconds=0.25, **queue)
    assert settings.batch_policy == BatchPolicy(max_rows=7, max_delay=0.5, max_batch_seconds=0.25, **queue)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65536),
        ("port", -1),
        ("port", "http"),
        ("max_body_bytes", 0),
        ("max_buffered_bytes", 0),
        ("max_waiting_decodes", 0),
        ("max_rows_per_request", 0),
        ("default_timeout_seconds", 0),
        ("default_timeout_seconds", "inf"),
        ("max_timeout_seconds", "nan"),
        ("decode_threads", 0),
        ("max_batch_rows", 0),
        ("max_queue_delay_seconds", -1),
        ("max_queue_delay_seconds", 11),
        ("max_queued_rows", 0),
        ("max_queued_bytes", 0),
        ("model_memory_bytes", -1),
        ("max_batch_seconds", 0),
        ("watchdog_seconds", 1),
        ("watchdog_seconds", "inf"),
        ("engine_threads", -1),
        ("drain_seconds", -5),
        ("log_level", "loud"),
        ("allow_remote", "perhaps"),
        ("single_flight", "perhaps"),
        ("result_cache_rows", -1),
        ("result_cache_bytes", 0),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SERVOLOOP_{name.upper()}", str(value))
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert [error["loc"] for error in raised.value.errors()] == [(name,)]


@pytest.mark.parametrize(
    ("wanted", "cores", "processes"),
    [(0, 1, 1), (0, 2, 1), (0, 7, 1), (0, 8, 2), (0, 16, 4), (0, 64, 4), (3, 2, 3), (1, 64, 1)],
)
def test_there_is_an_http_process_for_each_four_cores_unless_their_number_is_said(
    wanted: int, cores: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr(settings, "_CPU_QUOTA", Path("/nowhere"))
    assert Settings(http_processes=wanted).num_http_processes == processes


@pytest.mark.parametrize(
    ("quota", "processes"), [("max 100000", 4), ("800000 100000", 2), ("150000 100000", 1), ("nonsense", 4), (None, 4)]
)
def test_the_quota_of_a_container_counts_as_cores(
    quota: str | None, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    monkeypatch.setattr(settings, "_CPU_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert Settings().num_http_processes == processes


def test_answers_are_kept_only_where_forwards_are_shared() -> None:
    assert Settings(single_flight="on", result_cache_rows=10).result_cache_rows == 10
    with pytest.raises(ValidationError, match="needs SERVOLOOP_SINGLE_FLIGHT=on"):
        Settings(result_cache_rows=10)


def test_of_as_many_predictions_as_are_compared_something_can_be_said() -> None:
    assert Settings(drift_rows=100, drift_minimum_rows=100).drift_rows == 100
    with pytest.raises(ValidationError, match="SERVOLOOP_DRIFT_MINIMUM_ROWS is more than SERVOLOOP_DRIFT_ROWS"):
        Settings(drift_rows=100)


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Settings(prot=1)  # type: ignore[call-arg]


def test_an_empty_data_directory_is_the_default_and_not_the_folder_one_stands_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("SERVOLOOP_DATA_DIR", "")
    assert Settings().data_dir == tmp_path / "servoloop"


def test_shipped_checkpoints_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="there is no such folder"):
        Settings(shipped_checkpoints=tmp_path / "nothing")


def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVOLOOP_MAX_BATCH_ROW", "8")
    monkeypatch.setenv("SERVOLOOP_MAX_BATCH_ROWS", "8")
    assert Settings.unknown_variables() == ["SERVOLOOP_MAX_BATCH_ROW"]
