"""LSTM or GRU over token ids or feature vectors, pooled over time, then dense layers.

Shapes: B rows, T steps, F features of a step, H hidden width (twice `hidden` when bidirectional).
"""

from typing import Any, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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
    pool_max,
    pool_mean,
    step_mask,
)


class RecurrentConfig(FamilyConfig):
    """Reads token ids (`vocabulary` and `embedding`) or feature vectors (`features`): one of the two."""

    cell: Literal["lstm", "gru"]
    vocabulary: Size | None = None
    embedding: Size | None = None
    features: Size | None = None
    hidden: Size
    layers: Depth = 1
    bidirectional: bool = False
    pool: Literal["last", "mean", "max"] = "last"
    dense: Sizes = ()
    dropout: Probability = 0.0

    @model_validator(mode="after")
    def _one_kind_of_input(self) -> Self:
        tokens = (self.vocabulary is not None, self.embedding is not None)
        if tokens == (True, True) and self.features is None:
            return self
        if tokens == (False, False) and self.features is not None:
            return self
        raise ValueError(
            "state either vocabulary and embedding (token ids) or features (vectors), got "
            f"vocabulary={self.vocabulary}, embedding={self.embedding}, features={self.features}"
        )


class Recurrent(Network):
    """(B, T) int64 or (B, T, F) float32 -> (B, outputs). Parameters: `embedding`, `rnn`, `dense.{i}`, `output`."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.outputs = config.outputs
        self.pool = config.pool
        self.features = config.features
        step_width = config.features or config.embedding
        assert step_width is not None  # the config has one of the two
        self.embedding: nn.Embedding | None = None
        if config.vocabulary is not None:
            self.embedding = nn.Embedding(config.vocabulary, step_width, padding_idx=0)
            # torch's own scale of 1 saturates the gates at the start, and learning takes epochs longer.
            nn.init.normal_(self.embedding.weight[1:], std=0.1)
        cell = nn.LSTM if config.cell == "lstm" else nn.GRU
        self.rnn = cell(
            step_width,
            config.hidden,
            num_layers=config.layers,
            batch_first=True,
            bidirectional=config.bidirectional,
            dropout=config.dropout if config.layers > 1 else 0.0,
        )
        self.dense, width = linear_stack(config.hidden * (2 if config.bidirectional else 1), config.dense)
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(width, config.outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return (B, outputs) float32."""
        expect_shape(x, None) if self.embedding is not None else expect_shape(x, None, self.features)
        x, lengths = as_steps(x, lengths)
        if self.embedding is not None:
            x = self.dropout(self.embedding(x))
        h = self.dropout(self._pooled(x, lengths))
        for layer in self.dense:
            h = self.dropout(self.activation(layer(h)))
        logits: Tensor = self.output(h).float()
        return logits

    def _pooled(self, x_BTF: Tensor, lengths: Tensor) -> Tensor:
        h_BTH = self._states(x_BTF, lengths)
        match self.pool:
            case "mean":
                return pool_mean(h_BTH, step_mask(lengths, h_BTH.shape[1]))
            case "max":
                return pool_max(h_BTH, step_mask(lengths, h_BTH.shape[1]))
            case _:
                return self._last(h_BTH, lengths)

    def _states(self, x_BTF: Tensor, lengths: Tensor) -> Tensor:
        if not self.rnn.bidirectional:
            # Reading forward, a row's own steps never see what is behind them: no packing needed.
            states: Tensor = self.rnn(x_BTF)[0]
            return states
        if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            return _both_ways(self.rnn, x_BTF, lengths)
        packed = pack_padded_sequence(x_BTF, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x_BTF.shape[1])
        return states

    def _last(self, h_BTH: Tensor, lengths: Tensor) -> Tensor:
        if not self.rnn.bidirectional:
            return pool_last(h_BTH, lengths)
        # Reading backward, the state that has seen the whole row is the one at its first step.
        forward, backward = h_BTH.chunk(2, dim=2)
        return torch.cat([pool_last(forward, lengths), backward[:, 0]], dim=1)


def _both_ways(rnn: nn.RNNBase, x_BTF: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, H): what a bidirectional network gives for packed rows, in operations that other libraries know too.

    Each layer reads its rows, and its rows turned around within their own lengths.
    """
    steps = torch.arange(x_BTF.shape[1], device=x_BTF.device)[None, :]
    turned_BT = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
    run: Any = torch.lstm if rnn.mode == "LSTM" else torch.gru
    for layer in range(rnn.num_layers):
        states = []
        for suffix in ("", "_reverse"):
            weights = [
                getattr(rnn, f"{name}_l{layer}{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            zeros = x_BTF.new_zeros(1, x_BTF.shape[0], rnn.hidden_size)
            start = (zeros, zeros) if rnn.mode == "LSTM" else zeros
            h_BTH = run(_turn(x_BTF, turned_BT) if suffix else x_BTF, start, weights, True, 1, 0.0, False, False, True)[
                0
            ]
            states.append(_turn(h_BTH, turned_BT) if suffix else h_BTH)
        x_BTF = torch.cat(states, dim=2)
    return x_BTF


def _turn(x_BTF: Tensor, order_BT: Tensor) -> Tensor:
    return x_BTF.gather(1, order_BT[:, :, None].expand(-1, -1, x_BTF.shape[2]))
