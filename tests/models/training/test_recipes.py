from collections.abc import Callable

import pytest

from models.architectures import build
from models.training.recipes import RECIPES, Recipe, UnknownRecipe, find


@pytest.mark.parametrize("name", RECIPES)
def test_shipped_recipes_can_be_built_and_written_down(name: str) -> None:
    recipe = find(name)
    build(recipe.architecture.family, recipe.architecture.config)
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_both_sentiment_recipes_share_their_split() -> None:
    assert find("sentiment").data == find("sentiment-lstm").data


def test_an_unknown_recipe_names_those_known() -> None:
    with pytest.raises(UnknownRecipe, match="fashion, house-price, sentiment, sentiment-lstm"):
        find("poetry")


@pytest.mark.parametrize(
    ("name", "changes", "problem"),
    [
        ("spots", {"labels": ["left", "middle", "right"]}, "task multiclass needs 3 outputs, the architecture has 2"),
        ("spots", {"loss": {"kind": "mse"}}, "loss mse doesn't fit task multiclass"),
        ("spots", {"target": {"name": "price"}}, "a regression, and nothing else, has a target"),
        ("lots", {"target": None}, "a regression, and nothing else, has a target"),
        ("words", {"augmentation": {"flip": 0.5}}, "image augmentation doesn't fit text input"),
        ("spots", {"token_dropout": 0.5}, "token_dropout doesn't fit image input"),
        ("spots", {"epochs": 3}, "Extra inputs are not permitted"),
        ("lots", {"architecture": {"family": "mlp", "config": {"inputs": 1}}}, "outputs is missing"),
    ],
)
def test_a_recipe_that_does_not_fit_together_is_refused(
    name: str, changes: dict[str, object], problem: str, make_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(ValueError, match=problem):
        make_recipe(name, **changes)
