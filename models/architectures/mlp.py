"""Fully connected layers, down to a single one: linear regression."""

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


class MlpConfig(FamilyConfig):
    """`inputs -> hidden... -> outputs`, with the activation and dropout behind each hidden layer."""

    inputs: Size
    hidden: Sizes = ()
    activation: Activation = "relu"
    dropout: Probability = 0.0


class Mlp(Network):
    """(B, inputs) float32 -> (B, outputs). Parameters: `hidden.{i}`, `output`."""

    def __init__(self, config: MlpConfig) -> None:
        super().__init__()
        self.inputs = config.inputs
        self.outputs = config.outputs
        self.hidden, width = linear_stack(config.inputs, config.hidden)
        self.activation = ACTIVATIONS[config.activation]()
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(width, config.outputs)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return (B, outputs) float32; `lengths` plays no part."""
        expect_shape(x, self.inputs)
        for layer in self.hidden:
            x = self.dropout(self.activation(layer(x)))
        values: Tensor = self.output(x).float()
        return values
