"""Renames of parameters, by their author and by proposal."""

from pathlib import Path

import pytest
import torch
from torch import nn

from models.manifest import BrokenCheckpoint
from models.renames import Shape, propose, read_renames, rename


def shapes(network: nn.Module) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def test_a_name_counts_before_a_prefix_and_a_long_prefix_before_a_short_one() -> None:
    state = {name: torch.ones(1) for name in ("a.b.w", "a.b.v", "a.w", "kept", "gone.w")}
    renames = {"a.": "x.", "a.b.": "y.", "a.b.v": "z", "gone.": None}
    assert rename(state, renames).keys() == {"y.w", "z", "x.w", "kept"}


def test_a_prefix_can_be_taken_away() -> None:
    assert rename({"encoder.w": torch.ones(1)}, {"encoder.": ""}).keys() == {"w"}


@pytest.mark.parametrize(
    ("renames", "reason"),
    [
        ({"c": "d"}, r"names what is not in the weights: c\. They have a, b"),
        ({"c.": "d."}, r"names what is not in the weights: c\.\. They have a, b"),
        ({"a": "b"}, "gives several tensors one name: b"),
    ],
)
def test_renames_that_go_wrong_are_refused(renames: dict[str, str | None], reason: str) -> None:
    with pytest.raises(BrokenCheckpoint, match=reason):
        rename({"a": torch.ones(1), "b": torch.ones(1)}, renames)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is no JSON"),
        ("[]", "expected a JSON object"),
        ('{"a": 1}', "expected a JSON object"),
        ('{"a.": "b"}', "a prefix ends with a dot"),
        ('{"a": "b."}', "a prefix ends with a dot"),
    ],
)
def test_a_file_of_renames_that_can_not_be_meant_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "rename.json"
    path.write_text(content)
    with pytest.raises(BrokenCheckpoint, match=reason):
        read_renames(path)


def test_modules_without_which_a_rename_fits_nothing_are_named_with_their_dot() -> None:
    state = {"conv1.weight": torch.ones(1), "conv1.bias": torch.ones(1), "scale": torch.ones(1)}
    with pytest.raises(BrokenCheckpoint, match=r"in the weights: conv1\. They have conv1\., scale$"):
        rename(state, {"conv1": "blocks.0.conv"})


def test_of_many_modules_the_first_are_named() -> None:
    state = {f"layers.{i}.weight": torch.ones(1) for i in range(23)}
    with pytest.raises(BrokenCheckpoint, match=r"layers\.19\. and 3 more$"):
        rename(state, {"conv.": "layers."})


def test_modules_of_the_same_shapes_are_proposed() -> None:
    given = shapes(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
    wanted = {"output.weight": (2, 3), "output.bias": (2,), "hidden.0.weight": (3, 4), "hidden.0.bias": (3,)}
    assert propose(given, wanted) == {"0.": "hidden.0.", "2.": "output."}


def test_modules_that_are_alike_are_paired_in_their_order() -> None:
    given = shapes(nn.ModuleDict({"second": nn.Linear(3, 3), "first": nn.Linear(3, 3)}))
    wanted = shapes(nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}))
    assert propose(given, wanted) == {"second.": "a.", "first.": "b."}


def test_a_network_that_is_one_layer_is_renamed_by_its_parameters() -> None:
    wanted = {"output.weight": (2, 4), "output.bias": (2,)}
    assert propose(shapes(nn.Linear(4, 2)), wanted) == {"bias": "output.bias", "weight": "output.weight"}


@pytest.mark.parametrize(
    "wanted",
    [
        {"output.weight": (3, 4), "output.bias": (3,)},
        {"output.weight": (2, 4)},
        {"output.kernel": (2, 4), "output.bias": (2,)},
    ],
)
def test_other_shapes_parameters_or_last_names_are_no_match(wanted: dict[str, Shape]) -> None:
    assert propose({"fc.weight": (2, 4), "fc.bias": (2,)}, wanted) == {}
