from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.architectures import Family, FamilyConfig, InvalidConfig, Network, UnknownArchitecture, build, registry
from models.architectures.common import as_steps


def test_an_unknown_family_names_those_known() -> None:
    with pytest.raises(UnknownArchitecture, match="cnn, mlp, recurrent, transformer") as raised:
        build("resnet", {})
    assert raised.value.family == "resnet"
    assert raised.value.known == ["cnn", "mlp", "recurrent", "transformer"]


LSTM = {"cell": "lstm", "hidden": 8, "outputs": 1}
ENCODER = {"vocabulary": 9, "width": 6, "layers": 1, "heads": 2, "feedforward": 8, "max_length": 5, "outputs": 2}
CNN = {"input": [1, 8, 8], "blocks": [{"channels": 4}], "outputs": 2}


@pytest.mark.parametrize(
    ("family", "config", "problem"),
    [
        ("mlp", {"inputs": 4}, "outputs is missing"),
        ("mlp", {"inputs": 4, "outputs": 0}, "outputs: Input should be greater than 0, got 0"),
        ("mlp", {"inputs": 4, "outputs": 1, "widths": [3]}, "widths: Extra inputs are not permitted, got [3]"),
        ("mlp", {"inputs": 4, "outputs": 1, "hidden": [8, -1]}, "hidden.1: Input should be greater than 0, got -1"),
        ("mlp", {"inputs": 4, "outputs": 1, "activation": "swish"}, "got 'swish'"),
        ("mlp", {"inputs": 10**12, "outputs": 1}, "inputs: Input should be less than or equal to 16777216"),
        ("mlp", {"inputs": 4, "outputs": 1, "hidden": [1] * 33}, "hidden: Tuple should have at most 32 items"),
        ("cnn", {**CNN, "dense": [1] * 33}, "dense: Tuple should have at most 32 items"),
        ("cnn", {**CNN, "blocks": [{"channels": 1}] * 65}, "blocks: Tuple should have at most 64 items"),
        ("cnn", {**CNN, "input": [1, 1, 8]}, "blocks.0 leaves nothing of a 1 x 8 map"),
        ("cnn", {**CNN, "blocks": [{"channels": 4, "padding": "same", "stride": 2}]}, "needs stride 1, got stride 2"),
        ("recurrent", LSTM, "either vocabulary and embedding (token ids) or features (vectors)"),
        ("recurrent", {**LSTM, "features": 3, "vocabulary": 9, "embedding": 4}, "either vocabulary and embedding"),
        ("recurrent", {**LSTM, "vocabulary": 9}, "either vocabulary and embedding"),
        ("recurrent", {**LSTM, "features": 3, "cell": "rnn"}, "cell: Input should be 'lstm' or 'gru', got 'rnn'"),
        ("transformer", {**ENCODER, "heads": 4}, "multiple of heads, got width 6 and heads 4"),
        ("transformer", {**ENCODER, "width": 3, "heads": 3, "positions": "sinusoidal"}, "an even width, got 3"),
    ],
)
def test_a_wrong_config_says_what_is_wrong(family: str, config: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidConfig) as raised:
        build(family, config)
    assert raised.value.family == family
    assert problem in str(raised.value)


@pytest.mark.parametrize(
    ("family", "config", "x", "problem"),
    [
        ("mlp", {"inputs": 4, "outputs": 1}, torch.zeros(2, 5), r"shape \(B, 4\), got \(2, 5\)"),
        ("cnn", CNN, torch.zeros(2, 8, 8), r"shape \(B, 1, 8, 8\), got \(2, 8, 8\)"),
        ("recurrent", {**LSTM, "features": 3}, torch.zeros(2, 7, 4), r"shape \(B, any, 3\), got \(2, 7, 4\)"),
        ("transformer", ENCODER, torch.ones(1, 6, dtype=torch.int64), "at most 5 tokens, got 6"),
    ],
)
def test_a_wrong_shape_is_refused(family: str, config: dict[str, Any], x: Tensor, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        build(family, config)(x)


def test_lengths_must_fit() -> None:
    network = build("recurrent", {**LSTM, "features": 3})
    with pytest.raises(ValueError, match="at most 7, got 8"):
        network(torch.zeros(2, 7, 3), torch.tensor([7, 8]))
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(3,\)"):
        network(torch.zeros(2, 7, 3), torch.tensor([7, 7, 7]))


def test_lengths_on_another_device_are_not_waited_for() -> None:
    x, lengths = (
        torch.zeros(2, 7, 3, device="meta"),
        torch.tensor([7, 8], device="meta"),
    )  # it has no numbers to look at
    assert as_steps(x, lengths)[1].device.type == "meta"


class TwiceConfig(FamilyConfig):
    pass


class Twice(Network):
    def __init__(self, config: TwiceConfig) -> None:
        super().__init__()
        self.outputs = config.outputs
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return x * self.factor


TWICE = Family(TwiceConfig, Twice)


def test_an_installed_plug_in_adds_a_family(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("twice", f"{__name__}:TWICE", registry.PLUGIN_GROUP)]
    monkeypatch.setattr(EntryPoint, "load", lambda self: TWICE)
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.PLUGIN_GROUP else [])
    assert build("twice", {"outputs": 1})(torch.ones(1, 1)).item() == 2.0
    with pytest.raises(UnknownArchitecture, match="twice"):
        build("thrice", {"outputs": 1})


def test_a_plug_in_can_not_replace_a_built_in_family(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("mlp", f"{__name__}:TWICE", registry.PLUGIN_GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert not isinstance(build("mlp", {"inputs": 1, "outputs": 1}), Twice)
