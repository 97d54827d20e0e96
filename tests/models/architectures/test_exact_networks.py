"""Each network that the families must be able to state, with its number of parameters worked out by hand."""

from typing import Any

import pytest

from models.architectures import build


def conv(inputs: int, outputs: int) -> int:
    return outputs * inputs * 3 * 3 + outputs


def linear(inputs: int, outputs: int) -> int:
    return outputs * inputs + outputs


def lstm(inputs: int, hidden: int) -> int:
    # Four gates, each with weights from the input and from the state, and torch's two biases.
    return 4 * (hidden * inputs + hidden * hidden + 2 * hidden)


def encoder_layer(width: int, feedforward: int) -> int:
    attention = linear(width, 3 * width) + linear(width, width)
    two_norms = 2 * 2 * width
    return attention + linear(width, feedforward) + linear(feedforward, width) + two_norms


def blocks(*channels: int, padding: int = 1) -> list[dict[str, Any]]:
    return [{"channels": n, "kernel": 3, "padding": padding, "pool": 2} for n in channels]


NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "conv 3->32->64 on 3x32x32": (
        "cnn",
        {"input": [3, 32, 32], "blocks": blocks(32, 64), "dense": [128], "outputs": 10},
        conv(3, 32) + conv(32, 64) + linear(64 * 8 * 8, 128) + linear(128, 10),
    ),
    "conv 32->64->128 without padding on 1x64x64": (
        "cnn",
        {"input": [1, 64, 64], "blocks": blocks(32, 64, 128, padding=0), "dense": [128], "outputs": 10},
        # 64 -> 62 -> 31 -> 29 -> 14 -> 12 -> 6
        conv(1, 32) + conv(32, 64) + conv(64, 128) + linear(128 * 6 * 6, 128) + linear(128, 10),
    ),
    "conv 32->64->128 without padding on 3x32x32, dense 512": (
        "cnn",
        {"input": [3, 32, 32], "blocks": blocks(32, 64, 128, padding=0), "dense": [512], "outputs": 10},
        # 32 -> 30 -> 15 -> 13 -> 6 -> 4 -> 2
        conv(3, 32) + conv(32, 64) + conv(64, 128) + linear(128 * 2 * 2, 512) + linear(512, 10),
    ),
    "conv 32, 64 on 1x28x28, dense 64": (
        "cnn",
        {"input": [1, 28, 28], "blocks": blocks(32, 64), "dense": [64], "outputs": 10},
        conv(1, 32) + conv(32, 64) + linear(64 * 7 * 7, 64) + linear(64, 10),
    ),
    "embedding -> LSTM 64 -> 1 logit": (
        "recurrent",
        {"cell": "lstm", "vocabulary": 10_000, "embedding": 64, "hidden": 64, "outputs": 1},
        10_000 * 64 + lstm(64, 64) + linear(64, 1),
    ),
    "LSTM 128 x 2 on 100 x 10 -> 10 classes": (
        "recurrent",
        {"cell": "lstm", "features": 10, "hidden": 128, "layers": 2, "outputs": 10},
        lstm(10, 128) + lstm(128, 128) + linear(128, 10),
    ),
    "LSTM 100 -> 256, 2 layers -> 10": (
        "recurrent",
        {"cell": "lstm", "features": 100, "hidden": 256, "layers": 2, "outputs": 10},
        lstm(100, 256) + lstm(256, 256) + linear(256, 10),
    ),
    "embedding 20000 x 128 + LSTM 256 x 2": (
        "recurrent",
        {"cell": "lstm", "vocabulary": 20_000, "embedding": 128, "hidden": 256, "layers": 2, "outputs": 1},
        20_000 * 128 + lstm(128, 256) + lstm(256, 256) + linear(256, 1),
    ),
    "encoder d=512, 8 heads, 6 layers": (
        "transformer",
        {
            "vocabulary": 1000,
            "width": 512,
            "heads": 8,
            "layers": 6,
            "feedforward": 2048,
            "max_length": 64,
            "positions": "sinusoidal",
            "outputs": 2,
        },
        1000 * 512 + 6 * encoder_layer(512, 2048) + linear(512, 2),
    ),
    "encoder d=256, 4 pre-norm layers, ff 1024, gelu, learned positions, mean pool": (
        "transformer",
        {
            "vocabulary": 1000,
            "width": 256,
            "heads": 8,
            "layers": 4,
            "feedforward": 1024,
            "max_length": 128,
            "positions": "learned",
            "norm": "pre",
            "activation": "gelu",
            "pool": "mean",
            "outputs": 2,
        },
        1000 * 256 + 128 * 256 + 4 * encoder_layer(256, 1024) + 2 * 256 + linear(256, 2),
    ),
    "MLP 10 -> 64 -> 64 -> 1": (
        "mlp",
        {"inputs": 10, "hidden": [64, 64], "outputs": 1},
        linear(10, 64) + linear(64, 64) + linear(64, 1),
    ),
    "linear 1 -> 1": ("mlp", {"inputs": 1, "outputs": 1}, 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_has_exactly_its_parameters(name: str) -> None:
    family, config, count = NETWORKS[name]
    assert sum(parameter.numel() for parameter in build(family, config).parameters()) == count


def test_a_gru_has_three_gates() -> None:
    network = build("recurrent", {"cell": "gru", "features": 5, "hidden": 7, "bidirectional": True, "outputs": 3})
    one_way = 3 * (7 * 5 + 7 * 7 + 2 * 7)
    assert sum(parameter.numel() for parameter in network.parameters()) == 2 * one_way + linear(14, 3)
