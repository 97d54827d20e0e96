"""What authors are told whose weights are not those of their manifest."""

from collections.abc import Mapping

import pytest

from models.checkpoint import WeightsMismatch, parameter_shapes
from models.manifest import Architecture
from models.mismatch import describe
from models.renames import Shape

MLP = Architecture(family="mlp", config={"inputs": 4, "hidden": [3], "outputs": 2})
OWN: dict[str, Shape] = {"fc1.weight": (3, 4), "fc1.bias": (3,), "fc2.weight": (2, 3), "fc2.bias": (2,)}
DOCUMENTED = parameter_shapes(MLP)


def described(given: Mapping[str, Shape], *, is_renamed: bool = False) -> str:
    common = sorted(given.keys() & DOCUMENTED.keys())
    mismatch = WeightsMismatch(
        missing=sorted(DOCUMENTED.keys() - given.keys()),
        unexpected=sorted(given.keys() - DOCUMENTED.keys()),
        misshapen=[name for name in common if given[name] != DOCUMENTED[name]],
    )
    return describe(mismatch, given, MLP, is_renamed=is_renamed)


def test_the_whole_file_of_renames_is_proposed_where_shapes_say_it() -> None:
    text = described(OWN)
    assert '\n  {"fc1.":"hidden.0.","fc2.":"output."}\n' in text
    assert "another network" not in text


@pytest.mark.parametrize("changes", [{"fc3.weight": (2, 2)}, {"fc1.weight": (3, 5)}])
def test_what_the_proposal_leaves_over_means_another_config(changes: dict[str, Shape]) -> None:
    text = described({**OWN, **changes})
    assert '"fc2.":"output."' in text
    assert "parameters too many or too few" in text


def test_nothing_is_proposed_to_an_author_who_renamed() -> None:
    text = described(OWN, is_renamed=True)
    assert '"fc1.":' not in text
    assert "brought to those of the family with --rename" in text


@pytest.mark.parametrize(
    "given",
    [
        {**DOCUMENTED, "extra.weight": (7,)},
        {**DOCUMENTED, "output.weight": (5, 3)},
        {name: shape for name, shape in DOCUMENTED.items() if name != "output.bias"},
    ],
)
def test_where_names_agree_renames_are_not_spoken_of(given: dict[str, Shape]) -> None:
    text = described(given)
    assert "--rename" not in text
    assert "docs/checkpoints.md" in text
