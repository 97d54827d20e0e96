"""docs/training.md says of recipes what is so."""

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from models.training.augment import ImageAugmentation
from models.training.losses import LossConfig
from models.training.optim import OptimizerConfig, ScheduleConfig
from models.training.recipes import RECIPES, parse_recipe
from models.training.trainer import LoopConfig

PAGE = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_example_is_a_recipe() -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert parse_recipe(json.loads(example)).model == "kinds-of-iris"


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_is_listed(name: str) -> None:
    assert f"| `{name}` |" in PAGE


@pytest.mark.parametrize(
    ("key", "config"),
    {
        "loss": LossConfig,
        "optimizer": OptimizerConfig,
        "schedule": ScheduleConfig,
        "loop": LoopConfig,
        "augmentation": ImageAugmentation,
    }.items(),
)
def test_every_key_of_a_part_is_documented(key: str, config: type[BaseModel]) -> None:
    (row,) = re.findall(rf"^\| `{key}` \|(.*)$", PAGE, re.MULTILINE)
    assert set(config.model_fields) <= set(re.findall(r"`(\w+)`", row))
