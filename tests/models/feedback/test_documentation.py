"""docs/retraining.md says of jobs what is so."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from models.feedback.job import Defences, Options, RetrainJob

PAGE = (Path(__file__).parents[3] / "docs" / "retraining.md").read_text(encoding="utf-8")


def test_the_example_is_a_job() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    job = RetrainJob.model_validate_json(example)
    assert job.options.epochs == 8
    assert job.model_fields_set == set(RetrainJob.model_fields)


@pytest.mark.parametrize(("name", "config"), {"options": Options, "defences": Defences}.items())
def test_every_key_has_its_row(name: str, config: type[BaseModel]) -> None:
    (table,) = re.findall(rf"^\| `{name}` \|[^\n]*\n((?:\|[^\n]*\n)+)", PAGE, re.MULTILINE)
    documented = {key for row in table.splitlines()[1:] for key in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert documented == set(config.model_fields)
