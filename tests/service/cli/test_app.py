"""The command line as a whole."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from tests.service.cli.conftest import Run


def test_the_version_is_shown(run: Run) -> None:
    assert run(["--version"]).stdout == f"servoloop {version('servoloop')}\n"


def test_without_a_command_help_is_shown(run: Run) -> None:
    result = run([])
    assert result.exit_code == 2
    for command in (
        "serve",
        "register",
        "verify",
        "predict",
        "models",
        "evaluation",
        "drift",
        "alias",
        "rollout",
        "promote",
        "rollback",
        "load",
        "unload",
        "reload",
        "delete",
        "train",
    ):
        assert command in result.output


def test_help_needs_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "pydantic", "fastapi", "httpx")
    code = f"import sys, service.cli.app; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "99999"], "the configuration is wrong: port: "),
        (["--log-level", "loud"], "the configuration is wrong: log_level: "),
        (["--host", "0.0.0.0", "--port", "0"], "0.0.0.0 can be reached by others"),
    ],
)
@pytest.mark.usefixtures("data_dir")
def test_serving_as_it_can_not_be_meant_is_refused(run: Run, options: list[str], message: str) -> None:
    result = run(["serve", *options])
    assert result.exit_code == 1
    assert message in result.stderr


@pytest.mark.usefixtures("data_dir")
def test_a_store_s_password_is_never_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVOLOOP_STORE_URL", "mysql://ann:hunter2@host/db")
    result = run(["serve"])
    assert result.exit_code == 1
    assert "store_url: " in result.output
    assert "postgresql://user:password@host:5432/database" in result.output
    assert "hunter2" not in result.output
    monkeypatch.setenv("SERVOLOOP_STORE_URL", "postgresql://ann:hunter2@host/db")
    monkeypatch.setenv("SERVOLOOP_DRIFT_ROWS", "100")
    result = run(["serve"])
    assert "the configuration is wrong: SERVOLOOP_DRIFT_MINIMUM_ROWS is more than" in result.output
    assert "hunter2" not in result.output
