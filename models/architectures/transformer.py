"""Transformer encoder over token ids, pooled, then dense layers (Vaswani et al. 2017, arXiv:1706.03762).

Shapes: B rows, T steps, W width of the model.
"""

import math
from typing import Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from models.architectures.common import (
    Depth,
    FamilyConfig,
    Network,
    Probability,
    Size,
    Sizes,
    as_steps,
    expect_shape,
    linear_stack,
    pool_last,
    pool_mean,
    step_mask,
)


class TransformerConfig(FamilyConfig):
    """The encoder is torch.nn.TransformerEncoder of these sizes; pre-norm has a closing `encoder.norm`."""

    vocabulary: Size
    width: Size
    layers: Depth
    heads: Size
    feedforward: Size
    max_length: Size
    positions: Literal["learned", "sinusoidal"] = "learned"
    scale_embedding: bool = False
    norm: Literal["pre", "post"] = "post"
    activation: Literal["relu", "gelu"] = "relu"
    pool: Literal["mean", "cls", "last"] = "mean"
    dense: Sizes = ()
    dropout: Probability = 0.0
    attention_dropout: Probability = 0.0

    @model_validator(mode="after")
    def _width_divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, got width {self.width} and heads {self.heads}")
        if self.positions == "sinusoidal" and self.width % 2:
            raise ValueError(f"sinusoidal positions need an even width, got {self.width}")
        return self


class Transformer(Network):
    """(B, T <= max_length) int64 -> (B, outputs).

    Parameters: `embedding`, `positions` (learned ones), `encoder` as torch.nn.TransformerEncoder names them,
    `dense.{i}`, `output`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.outputs = config.outputs
        self.pool = config.pool
        self.max_length = config.max_length
        self.embedding_scale = math.sqrt(config.width) if config.scale_embedding else 1.0
        self.embedding = nn.Embedding(config.vocabulary, config.width, padding_idx=0)
        if config.positions == "learned":
            self.positions: nn.Module = nn.Embedding(config.max_length, config.width)
        else:
            self.positions = SinusoidalPositions(config.max_length, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            dim_feedforward=config.feedforward,
            dropout=config.dropout,
            activation=config.activation,
            batch_first=True,
            norm_first=config.norm == "pre",
        )
        layer.self_attn.dropout = config.attention_dropout
        self.encoder = nn.TransformerEncoder(
            layer,
            config.layers,
            norm=nn.LayerNorm(config.width) if config.norm == "pre" else None,
            enable_nested_tensor=False,
        )
        self.dense, features = linear_stack(config.width, config.dense)
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(features, config.outputs)
        self._spread_layers()

    def _spread_layers(self) -> None:
        # nn.TransformerEncoder copies one layer: without this all layers would start from the same weights.
        for parameter in self.encoder.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
        # Small against the layers' own outputs; a scaled embedding is to have unit variance after the scaling.
        nn.init.normal_(
            self.embedding.weight[1:], std=0.05 if self.embedding_scale == 1.0 else 1 / self.embedding_scale
        )
        if isinstance(self.positions, nn.Embedding):
            nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return (B, outputs) float32. Raises ValueError for rows longer than `max_length`."""
        expect_shape(x, None)
        x, lengths = as_steps(x, lengths)
        num_steps = x.shape[1]
        if num_steps > self.max_length:
            raise ValueError(f"rows may have at most {self.max_length} tokens, got {num_steps}")
        mask_BT = step_mask(lengths, num_steps)
        h_BTW = self.embedding(x) * self.embedding_scale + self.positions(torch.arange(num_steps, device=x.device))
        h_BTW = self.encoder(self.dropout(h_BTW), src_key_padding_mask=~mask_BT)
        h = self.dropout(self._pooled(h_BTW, mask_BT, lengths))
        for dense in self.dense:
            h = self.dropout(self.activation(dense(h)))
        logits: Tensor = self.output(h).float()
        return logits

    def _pooled(self, h_BTW: Tensor, mask_BT: Tensor, lengths: Tensor) -> Tensor:
        match self.pool:
            case "mean":
                return pool_mean(h_BTW, mask_BT)
            case "last":
                return pool_last(h_BTW, lengths)
            case _:
                return h_BTW[:, 0]


class SinusoidalPositions(nn.Module):
    """Sines in the even columns, cosines in the odd ones (section 3.5 of the paper); not a parameter."""

    table: Tensor

    def __init__(self, max_length: int, width: int) -> None:
        super().__init__()
        frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        angle = torch.arange(max_length)[:, None] * frequency[None, :]
        table = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(start_dim=1)
        self.register_buffer("table", table, persistent=False)

    def forward(self, steps: Tensor) -> Tensor:
        """Return (T, width) for step numbers (T,)."""
        return self.table[steps]
