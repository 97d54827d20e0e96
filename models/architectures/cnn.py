"""Convolutional classifier: blocks of convolution, activation and pooling, then dense layers."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from models.architectures.common import (
    ACTIVATIONS,
    Activation,
    FamilyConfig,
    Network,
    Probability,
    Size,
    Sizes,
    expect_shape,
    linear_stack,
)


class BlockConfig(BaseModel):
    """Convolution, batch norm (if any), activation, max pooling (if any), dropout; in that order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: Size
    kernel: Annotated[int, Field(gt=0, le=63)] = 3
    padding: Annotated[int, Field(ge=0, le=63)] | Literal["same"] = 1
    stride: Annotated[int, Field(gt=0, le=63)] = 1
    pool: Annotated[int, Field(ge=0, le=63)] = 2
    batch_norm: bool = False
    dropout: Probability = 0.0
    activation: Activation = "relu"

    @model_validator(mode="after")
    def _same_keeps_the_size(self) -> Self:
        if self.padding == "same" and self.stride != 1:
            raise ValueError(f'padding "same" needs stride 1, got stride {self.stride}')
        return self

    def out_size(self, size: int) -> int:
        """Return the height (or width) that leaves the block when `size` enters it."""
        if self.padding != "same":
            size = (size + 2 * self.padding - self.kernel) // self.stride + 1
        return size // self.pool if self.pool > 1 else size


class CnnConfig(FamilyConfig):
    """Blocks on an image of `input` = (channels, height, width), then dense layers with ReLU and dropout."""

    input: tuple[Size, Size, Size]
    blocks: Annotated[tuple[BlockConfig, ...], Field(max_length=64)]
    dense: Sizes = (128,)
    dropout: Probability = 0.0

    def map_shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width) of what the dense layers read. Raises ValueError when nothing is left."""
        channels, height, width = self.input
        for i, block in enumerate(self.blocks):
            before = (height, width)
            channels, height, width = block.channels, block.out_size(height), block.out_size(width)
            if min(height, width) < 1:
                raise ValueError(f"blocks.{i} leaves nothing of a {before[0]} x {before[1]} map")
        return channels, height, width

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        self.map_shape()
        return self


class Block(nn.Module):
    """(B, C, H, W) -> (B, channels, H', W'). Parameters: `conv`, and `norm` with batch norm."""

    def __init__(self, in_channels: int, config: BlockConfig) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, config.channels, config.kernel, config.stride, config.padding)
        self.norm = nn.BatchNorm2d(config.channels) if config.batch_norm else nn.Identity()
        self.activation = ACTIVATIONS[config.activation]()
        self.pool = nn.MaxPool2d(config.pool) if config.pool > 1 else nn.Identity()
        # Whole channels: neighbouring pixels of a map carry nearly the same value.
        self.dropout = nn.Dropout2d(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map."""
        x = self.pool(self.activation(self.norm(self.conv(x))))
        dropped: Tensor = self.dropout(x)
        return dropped


class Cnn(Network):
    """(B, C, H, W) float32 -> (B, outputs). Parameters: `blocks.{i}.conv`, `blocks.{i}.norm`, `dense.{i}`, `output`."""

    def __init__(self, config: CnnConfig) -> None:
        super().__init__()
        self.input = config.input
        self.outputs = config.outputs
        channels = [config.input[0], *(block.channels for block in config.blocks)]
        self.blocks = nn.ModuleList(Block(n, block) for n, block in zip(channels, config.blocks, strict=False))
        map_channels, height, width = config.map_shape()
        self.dense, features = linear_stack(map_channels * height * width, config.dense)
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(features, config.outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return (B, outputs) float32; `lengths` plays no part."""
        expect_shape(x, *self.input)
        for block in self.blocks:
            x = block(x)
        x = self.dropout(x.flatten(start_dim=1))
        for layer in self.dense:
            x = self.dropout(self.activation(layer(x)))
        logits: Tensor = self.output(x).float()
        return logits
