"""What simulated rollouts come to."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import rollouts
from benchmarks.rollouts import HOPEFUL, HOPELESS, LOOK_EVERY, Looks, Scenario

RNG = np.random.default_rng


@pytest.mark.parametrize("scenario", HOPELESS + HOPEFUL)
def test_pairs_are_drawn_with_the_gain_that_is_said(scenario: Scenario) -> None:
    better, same, worse = scenario.pair_chances
    assert better + same + worse == pytest.approx(1.0)
    assert better - worse == pytest.approx(scenario.gain)
    assert 0 < worse < 0.1


def test_the_first_look_with_enough_evidence_promotes() -> None:
    evidence = np.array([[0.0, 3.0, 2.0], [0.0, 2.9, 2.0], [4.0, 0.0, 0.0]])
    found = rollouts.promoted(Looks(evidence, evidence), 0.05)
    assert found.tolist() == [2 * LOOK_EVERY, np.inf, LOOK_EVERY]


def test_what_a_phase_showed_is_carried_into_the_next() -> None:
    looks = rollouts.rollouts(Scenario("superior", 0.05, 0.0), 20, RNG(0))
    shadow = rollouts.SHADOW_LABELS // LOOK_EVERY
    assert looks.evidence.shape == (20, (rollouts.SHADOW_LABELS + 4_000) // LOOK_EVERY)
    assert np.abs(np.diff(looks.evidence[:, shadow - 1 : shadow + 1])).max() < 3
    assert looks.evidence[:, shadow].min() > 10


@pytest.mark.parametrize(("enough", "code"), [(None, 0), (-100.0, 1)])
def test_it_fails_where_too_many_are_promoted(
    enough: float | None, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["rollouts", "--runs", "20", "--json", str(tmp_path / "found.json")])
    if enough is not None:
        monkeypatch.setattr(rollouts, "threshold", lambda alpha: enough)
    try:
        rollouts.main()
        ended = 0
    except SystemExit as stop:
        ended = int(stop.code or 0)
    assert ended == code
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["should_not_promote"]) == 3
    assert found["should_promote"][2]["promoted %"] == 100
