import json
from pathlib import Path

import pytest

from models.feedback.job import JOB_FILE, InvalidJob, read_job, read_result

JOB = {"parent": "parent", "model": "clothes", "version": 2, "out": "/models/clothes/2"}


def test_paths_are_relative_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / JOB_FILE).write_text(json.dumps(JOB))
    job = read_job(tmp_path)
    assert job.parent == tmp_path / "parent"
    assert job.out == Path("/models/clothes/2")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (JOB | {"pickle": 1}, "pickle: Extra inputs are not permitted"),
        (JOB | {"options": {"replay_share": 1}}, "options.replay_share"),
        (JOB | {"out": "parent"}, "out must not be the parent's folder"),
        ({}, "parent is missing; model is missing"),
    ],
)
def test_a_wrong_job_is_refused(content: object, problem: str, tmp_path: Path) -> None:
    (tmp_path / JOB_FILE).write_text(json.dumps(content))
    with pytest.raises(InvalidJob, match=problem):
        read_job(tmp_path)


def test_a_folder_without_a_job_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidJob, match=r"has no job\.json"):
        read_job(tmp_path)
    assert read_result(tmp_path) is None
