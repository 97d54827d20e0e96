"""The command that tries back ends, as it is run in the background."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from service.engine import optimize
from service.engine.backends.base import Backend
from service.engine.quiet import CoreTime, NotQuiet, Timing
from service.process.lifetime import EXIT_NOT_QUIET
from tests import checkpoints
from tests.service.engine.test_fallback import Fake


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    checkpoints.write_columns(tmp_path)
    return tmp_path / "rent" / "1"


class Run:
    """How the back ends were to be tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        self.tried: list[str] = []
        self.timing = Timing()
        self._error = error
        monkeypatch.setattr(optimize, "optimize", self._optimize)
        monkeypatch.setattr(optimize, "BACKENDS", [Fake(), Fake(name="compile")])
        # The parent of a test is not the supervisor.
        monkeypatch.setattr(optimize, "_end_with_parent", lambda: None)

    def _optimize(
        self, _: Path, __: Path, ___: float, backends: list[Backend], timing: Timing, device: torch.device
    ) -> None:
        assert device.type == "cpu"
        self.tried, self.timing = [backend.name for backend in backends], timing
        if self._error is not None:
            raise self._error


def test_in_the_background_what_is_slow_to_build_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run, words = Run(monkeypatch), [str(tmp_path), "--cache", str(tmp_path)]
    assert optimize.main([*words, "--max-busy", "0.2"]) == 0
    assert (run.tried, run.timing.max_busy) == (["fake"], 0.2)
    assert run.timing.rounds < Timing().rounds
    assert optimize.main(words) == 0
    assert (run.tried, run.timing) == (["fake", "compile"], Timing())


def test_a_device_that_is_not_there_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(monkeypatch)
    assert optimize.main([str(tmp_path), "--cache", str(tmp_path), "--device", "cuda:99"]) == 1
    assert "there is no device cuda:99" in capsys.readouterr().err
    assert run.tried == []


def test_a_machine_that_is_not_quiet_has_an_exit_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Run(monkeypatch, NotQuiet())
    assert optimize.main([str(tmp_path), "--cache", str(tmp_path), "--max-busy", "0.2"]) == EXIT_NOT_QUIET


def test_what_was_timed_on_a_busy_machine_is_not_kept(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The number is the whole process's, and other tests want theirs.
    monkeypatch.setattr("service.engine.optimize.torch.set_num_threads", lambda _: None)
    timing = Timing(rounds=1, max_busy=0.5, spare=1, read=lambda: CoreTime(0, 0))
    with pytest.raises(NotQuiet):
        optimize.optimize(checkpoint, tmp_path / "cache", 0.2, [Fake()], timing)
    assert not (tmp_path / "cache").exists()


def test_it_ends_with_its_parent(checkpoint: Path, tmp_path: Path) -> None:
    words = ["-P", "-m", "service.engine.optimize", checkpoint, "--cache", tmp_path / "cache", "--max-busy", "1"]
    with subprocess.Popen(
        [sys.executable, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        _, errors = process.communicate(timeout=60)  # which closes its stdin
    assert (process.returncode, errors) == (1, b"")
    assert not (tmp_path / "cache").exists()
