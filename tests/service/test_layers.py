"""Promises about imports, each asked of a fresh interpreter."""

import subprocess
import sys
from collections.abc import Sequence

import pytest


def loaded_by(module: str, of: Sequence[str]) -> list[str]:
    """Those of `of` that importing `module` loads."""
    code = f"import sys, {module}; print(*[name for name in {list(of)!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    "module", ["service.api.app", "service.runtime", "service.supervisor", "models.checkpoint_files"]
)
def test_who_does_not_compute_does_not_load_torch(module: str) -> None:
    assert loaded_by(module, ["torch"]) == []


def test_the_engine_knows_nothing_of_http() -> None:
    assert loaded_by("service.engine.__main__", ["fastapi", "starlette", "uvicorn", "torch"]) == ["torch"]


@pytest.mark.parametrize("module", ["service.supervisor", "service.engine.__main__", "service.cli.app"])
def test_who_keeps_nothing_does_not_load_sql(module: str) -> None:
    assert loaded_by(module, ["sqlalchemy", "alembic", "psycopg"]) == []


@pytest.mark.parametrize(
    "module", ["service.runtime", "service.supervisor", "service.engine.__main__", "service.cli.app"]
)
def test_who_was_not_asked_for_grpc_does_not_load_it(module: str) -> None:
    assert loaded_by(module, ["grpc", "google.protobuf", "service.grpc_api.server"]) == []


def test_who_serves_grpc_does_not_load_torch() -> None:
    assert loaded_by("service.grpc_api.server", ["grpc", "torch"]) == ["grpc"]


@pytest.mark.parametrize("module", ["service.runtime", "service.cli.app"])
def test_who_was_not_asked_for_parquet_does_not_load_it(module: str) -> None:
    assert loaded_by(module, ["pyarrow"]) == []


def test_the_recorder_serves_no_http_and_computes_nothing() -> None:
    assert loaded_by("service.store.recorder", ["fastapi", "starlette", "uvicorn", "torch"]) == []


def test_a_command_that_waits_for_nothing_loads_no_event_loop() -> None:
    assert loaded_by("service.cli.app", ["asyncio", "numpy", "pydantic", "sqlalchemy"]) == []


def test_the_client_is_light() -> None:
    assert loaded_by("servoloop", ["service", "models", "torch", "numpy", "pydantic", "fastapi"]) == []


def test_checkpoints_are_verified_without_the_service() -> None:
    assert loaded_by("models.checkpoint_files", ["service", "fastapi", "torch"]) == []
