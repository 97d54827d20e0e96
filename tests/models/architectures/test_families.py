"""What each family computes, compared with torch's own modules and with arithmetic."""

from typing import Any

import pytest
import torch
from torch import nn

from models.architectures import build
from models.architectures.transformer import SinusoidalPositions

ENCODER: dict[str, Any] = {
    "vocabulary": 20,
    "width": 8,
    "layers": 2,
    "heads": 2,
    "feedforward": 16,
    "max_length": 10,
    "outputs": 3,
}


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_encoder_loads_the_state_dict_of_torchs_own(norm: str) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, batch_first=True, norm_first=norm == "pre")
    own = nn.TransformerEncoder(
        layer, 2, norm=nn.LayerNorm(8) if norm == "pre" else None, enable_nested_tensor=False
    ).eval()
    network = build("transformer", {**ENCODER, "norm": norm, "pool": "cls"}).eval()
    network.encoder.load_state_dict(own.state_dict(), strict=True)
    ids = torch.randint(1, 20, (3, 6))
    with torch.inference_mode():
        embedded = network.embedding(ids) + network.positions(torch.arange(6))
        expected = network.output(own(embedded)[:, 0])
        torch.testing.assert_close(network(ids), expected)


def test_encoder_layers_start_from_different_weights() -> None:
    first, second = build("transformer", ENCODER).encoder.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_sinusoidal_positions_follow_the_formula_and_are_not_stored() -> None:
    positions = SinusoidalPositions(max_length=50, width=6)
    table = positions(torch.arange(50))
    assert table[7, 2].item() == pytest.approx(torch.sin(torch.tensor(7 / 10000 ** (2 / 6))).item(), abs=1e-6)
    assert table[7, 3].item() == pytest.approx(torch.cos(torch.tensor(7 / 10000 ** (2 / 6))).item(), abs=1e-6)
    assert positions.state_dict() == {}


def test_parameter_names_are_the_documented_ones() -> None:
    cnn = build(
        "cnn", {"input": [1, 8, 8], "blocks": [{"channels": 2, "batch_norm": True}], "dense": [3], "outputs": 2}
    )
    assert {name for name in cnn.state_dict() if not name.endswith("num_batches_tracked")} == {
        "blocks.0.conv.weight",
        "blocks.0.conv.bias",
        "blocks.0.norm.weight",
        "blocks.0.norm.bias",
        "blocks.0.norm.running_mean",
        "blocks.0.norm.running_var",
        "dense.0.weight",
        "dense.0.bias",
        "output.weight",
        "output.bias",
    }
    mlp = build("mlp", {"inputs": 2, "hidden": [3], "outputs": 1})
    assert set(mlp.state_dict()) == {"hidden.0.weight", "hidden.0.bias", "output.weight", "output.bias"}
    gru = build("recurrent", {"cell": "gru", "vocabulary": 5, "embedding": 2, "hidden": 3, "outputs": 1})
    assert set(gru.state_dict()) == {
        "embedding.weight",
        "rnn.weight_ih_l0",
        "rnn.weight_hh_l0",
        "rnn.bias_ih_l0",
        "rnn.bias_hh_l0",
        "output.weight",
        "output.bias",
    }
    encoder = build("transformer", {**ENCODER, "norm": "pre"}).state_dict()
    assert {"embedding.weight", "positions.weight", "encoder.norm.weight", "output.bias"} <= set(encoder)
    assert encoder["encoder.layers.1.self_attn.in_proj_weight"].shape == (24, 8)


def test_blocks_follow_their_order_conv_norm_activation_pool() -> None:
    torch.manual_seed(0)
    block = {"channels": 4, "kernel": 5, "padding": "same", "batch_norm": True, "activation": "tanh"}
    network = build("cnn", {"input": [2, 8, 8], "blocks": [block], "dense": [], "outputs": 3}).eval()
    x = torch.randn(2, 2, 8, 8)
    parts = network.blocks[0]
    by_hand = nn.functional.max_pool2d(torch.tanh(parts.norm(parts.conv(x))), 2)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), network.output(by_hand.flatten(1)))


def test_strides_and_pools_set_the_size_of_the_map() -> None:
    blocks = [{"channels": 4, "stride": 2, "pool": 1}, {"channels": 6, "kernel": 4, "padding": 0, "pool": 3}]
    network = build("cnn", {"input": [3, 33, 32], "blocks": blocks, "dense": [], "outputs": 2})
    # 33 -> 17 -> 14 -> 4 and 32 -> 16 -> 13 -> 4
    assert network.output.in_features == 6 * 4 * 4
    assert network(torch.zeros(1, 3, 33, 32)).shape == (1, 2)


def test_a_linear_regression_is_weight_times_input_plus_bias() -> None:
    network = build("mlp", {"inputs": 1, "outputs": 1})
    network.load_state_dict({"output.weight": torch.tensor([[3.0]]), "output.bias": torch.tensor([1.0])})
    assert network(torch.tensor([[2.0], [-1.0]])).tolist() == [[7.0], [-2.0]]


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "gelu", "silu", "tanh", "sigmoid"])
def test_every_activation_can_be_stated(activation: str) -> None:
    network = build("mlp", {"inputs": 2, "hidden": [4], "activation": activation, "outputs": 1}).eval()
    assert network(torch.ones(3, 2)).shape == (3, 1)


def test_bidirectional_last_joins_both_directions_ends() -> None:
    torch.manual_seed(0)
    network = build(
        "recurrent", {"cell": "gru", "features": 2, "hidden": 3, "bidirectional": True, "outputs": 1}
    ).eval()
    x = torch.randn(1, 5, 2)
    with torch.inference_mode():
        _, ends = network.rnn(x)
        torch.testing.assert_close(network(x), network.output(torch.cat([ends[0], ends[1]], dim=1)))
