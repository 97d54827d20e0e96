"""What is said of a default's cost."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.defaults import DEFAULTS, Cost

_REPOSITORY = Path(__file__).parent.parent.parent
_IN_TURNS = """
import sys, uvloop
from pathlib import Path
from benchmarks.application import standing_in
from benchmarks.defaults import in_turns
with standing_in(Path(sys.argv[1])):
    print(*(one.default for one in uvloop.run(in_turns(Path(sys.argv[1]), cycles=2))))
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: who measures becomes an http process."""
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, env={"PYTHONPATH": str(_REPOSITORY)}, capture_output=True, text=True, check=False)


def test_a_cost_is_the_median_and_one_wild_sample_moves_neither_end() -> None:
    calm = Cost.of("log", "http", [float(number) for number in range(100)])
    wild = Cost.of("log", "http", [*(float(number) for number in range(99)), 1e9])
    assert calm.us_a_row == pytest.approx(49.5)
    # The 41st and the 60th of 100: the true median lies between in 95 of 100 runs.
    assert (calm.least, calm.most) == (40, 59)
    assert (wild.us_a_row, wild.least, wild.most) == (calm.us_a_row, calm.least, calm.most)


def test_of_few_samples_the_interval_has_all() -> None:
    assert Cost.of("log", "recorder", [3, 1, 2]) == Cost("log", "recorder", 2, 1, 3, 3)


def test_every_default_has_a_row_beside_all_and_nothing(tmp_path: Path) -> None:
    said = python("-c", _IN_TURNS, str(tmp_path))
    assert said.stdout.split() == ["all", *DEFAULTS, "nothing"], said.stderr


def test_serve_says_what_can_be_asked_for() -> None:
    said = python("-m", "benchmarks", "serve", "--case", "nobody")
    assert said.returncode == 1
    assert "there is no case 'nobody'; there are: cnn_binary" in said.stderr
    assert said.stderr.rstrip().endswith("defaults")
