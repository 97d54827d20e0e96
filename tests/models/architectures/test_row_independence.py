"""A row's answer is its own: alone, in any batch, beside any neighbour, behind any padding."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.architectures import Network, build

VOCABULARY, FEATURES, MAX_STEPS = 30, 3, 24

TOKENS: list[tuple[str, dict[str, Any]]] = [
    (
        "recurrent",
        {"cell": cell, "vocabulary": VOCABULARY, "embedding": 6, "hidden": 8, "outputs": 3, **options},
    )
    for cell in ("lstm", "gru")
    for options in (
        {"pool": "last"},
        {"pool": "mean", "layers": 2},
        {"pool": "max", "bidirectional": True},
        {"pool": "last", "bidirectional": True, "layers": 2, "dense": [5]},
    )
] + [
    (
        "transformer",
        {
            "vocabulary": VOCABULARY,
            "width": 8,
            "layers": 2,
            "heads": 2,
            "feedforward": 16,
            "max_length": MAX_STEPS,
            "outputs": 3,
            **options,
        },
    )
    for options in (
        {"pool": "mean", "norm": "pre", "activation": "gelu"},
        {"pool": "cls", "norm": "post", "positions": "sinusoidal"},
        {"pool": "last", "norm": "pre", "scale_embedding": True, "dense": [5]},
    )
]
VECTORS: list[tuple[str, dict[str, Any]]] = [
    (
        "recurrent",
        {"cell": "lstm", "features": FEATURES, "hidden": 8, "pool": pool, "bidirectional": both, "outputs": 2},
    )
    for pool in ("last", "mean", "max")
    for both in (False, True)
]
DENSE: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    (
        "cnn",
        {
            "input": [1, 8, 8],
            "blocks": [{"channels": 4, "batch_norm": True}, {"channels": 6}],
            "dense": [5],
            "outputs": 3,
        },
        (1, 8, 8),
    ),
    ("mlp", {"inputs": 4, "hidden": [6, 6], "activation": "tanh", "outputs": 2}, (4,)),
]


def ready(family: str, config: dict[str, Any]) -> Network:
    torch.manual_seed(0)
    network = build(family, config).eval()
    for parameter in network.parameters():  # larger than fresh ones, so that a leak would show
        parameter.data.mul_(2.0)
    return network


def padded(rows: list[Tensor], num_steps: int) -> tuple[Tensor, Tensor]:
    x = rows[0].new_zeros((len(rows), num_steps, *rows[0].shape[1:]))
    for filled, row in zip(x, rows, strict=True):
        filled[: len(row)] = row
    return x, torch.tensor([len(row) for row in rows])


def assert_rows_stand_alone(network: Network, rows: list[Tensor], extra_steps: int) -> None:
    num_steps = min(MAX_STEPS, max(max(map(len, rows)), 1) + extra_steps)
    with torch.inference_mode():
        together = network(*padded(rows, num_steps))
        alone = torch.cat([network(*padded([row], len(row))) for row in rows])
    assert together.dtype == torch.float32
    assert torch.isfinite(together).all()
    scale = max(1.0, float(alone.abs().max()))
    assert float((together - alone).abs().max()) <= 1e-5 * scale


lengths = st.lists(st.integers(0, MAX_STEPS), min_size=1, max_size=6)


@pytest.mark.parametrize(("family", "config"), TOKENS)
@settings(max_examples=15, deadline=None)
@given(lengths=lengths, extra_steps=st.integers(0, 5), seed=st.integers(0, 1000))
def test_token_rows_stand_alone(
    family: str, config: dict[str, Any], lengths: list[int], extra_steps: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    rows = [torch.randint(1, VOCABULARY, (n,), generator=random) for n in lengths]
    assert_rows_stand_alone(ready(family, config), rows, extra_steps)


@pytest.mark.parametrize(("family", "config"), VECTORS)
@settings(max_examples=15, deadline=None)
@given(lengths=lengths, extra_steps=st.integers(0, 5), seed=st.integers(0, 1000))
def test_vector_rows_stand_alone(
    family: str, config: dict[str, Any], lengths: list[int], extra_steps: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    rows = [torch.randn((n, FEATURES), generator=random) for n in lengths]
    assert_rows_stand_alone(ready(family, config), rows, extra_steps)


@pytest.mark.parametrize(("family", "config", "shape"), DENSE)
@settings(max_examples=15, deadline=None)
@given(num_rows=st.integers(1, 9), seed=st.integers(0, 1000))
def test_dense_rows_stand_alone(
    family: str, config: dict[str, Any], shape: tuple[int, ...], num_rows: int, seed: int
) -> None:
    network = ready(family, config)
    x = torch.randn((num_rows, *shape), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        together = network(x)
        alone = torch.cat([network(row[None]) for row in x])
    assert float((together - alone).abs().max()) <= 1e-5 * max(1.0, float(alone.abs().max()))


@pytest.mark.parametrize(("family", "config"), TOKENS)
def test_what_lies_behind_a_row_is_never_read(family: str, config: dict[str, Any]) -> None:
    network = ready(family, config)
    x, lengths = padded([torch.arange(1, 6), torch.arange(1, 13)], 12)
    garbage = x.clone()
    garbage[0, 5:] = 29
    with torch.inference_mode():
        torch.testing.assert_close(network(garbage, lengths), network(x, lengths), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("family", "config"), TOKENS)
def test_without_lengths_every_row_is_full(family: str, config: dict[str, Any]) -> None:
    network = ready(family, config)
    x = torch.arange(1, 13).reshape(2, 6)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), network(x, torch.tensor([6, 6])))
