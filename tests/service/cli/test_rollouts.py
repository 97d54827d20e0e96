"""`servoloop rollout`, `promote` and `rollback`, against a service."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.registry.catalog import Catalog
from tests.service.cli.conftest import Run, running


@pytest.fixture
def url(catalog: Catalog, tmp_path: Path) -> Iterator[str]:
    """Where a service of the test's own answers."""
    with running(catalog, tmp_path) as address:
        yield address


def test_a_trial_from_its_beginning_to_the_promotion_and_back(run: Run, url: str) -> None:
    def said(*words: object) -> str:
        result = run([*words, "--url", url])
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    begun = said("rollout", "clothes", 2, "--stage", "shadow", "--share", 0.1, "--reason", "try it")
    assert begun == (
        "clothes/2 is on trial as a shadow: it computes, without being returned, 0.1 of the requests that name no "
        "version.\n"
    )
    assert said("rollout", "clothes") == begun
    canary = said("rollout", "clothes", 2, "--stage", "canary", "--share", 0.25)
    assert canary == "clothes/2 is on trial as a canary: it answers 0.25 of the requests that name no version.\n"
    assert said("rollout", "clothes", 2, "--pause") == (
        "The trial of clothes/2 is paused, and the champion answers all. Resumed, it answers 0.25 of the requests that "
        "name no version.\n"
    )
    assert said("rollout", "clothes", 2, "--resume") == canary
    assert said("promote", "clothes", "--expected", 1, "--reason", "better") == (
        "The champion of clothes is version 2; before, it was version 1. To take it back: servoloop rollback clothes\n"
    )
    assert said("rollback", "clothes", "--expected", 2) == (
        "The champion of clothes is version 1; before, it was version 2.\n"
    )
    said("rollout", "clothes", 2, "--stage", "canary", "--share", 1)
    assert said("rollback", "clothes") == "The trial of clothes/2 is over; clothes/1 answers all.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rollout", "clothes"], "no version of clothes is on trial"),
        (["rollout", "clothes", "--share", 0.5], "name the version that shall be on trial so"),
        (["rollout", "clothes", 2, "--share", 0.5], "a trial begins with a version, a stage and a share"),
        (["rollout", "clothes", 1, "--stage", "shadow", "--share", 0.5], "clothes/1 is the champion already"),
        (["promote", "clothes"], "no version of clothes is on trial"),
        (["rollback", "clothes"], "none that is still there was its champion before"),
    ],
)
def test_what_cannot_be_done_is_said(run: Run, url: str, words: list[object], message: str) -> None:
    result = run([*words, "--url", url])
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())


def test_a_share_and_a_stage_are_checked_before_anything_is_sent(run: Run) -> None:
    for wrong in (["--share", "1.5"], ["--stage", "half"]):
        assert run(["rollout", "clothes", 2, *wrong]).exit_code == 2
