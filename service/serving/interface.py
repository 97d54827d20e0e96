"""The named tensors of a version: what it takes and what it answers, as the Open Inference Protocol has it."""

from dataclasses import dataclass
from typing import Literal

from models.inputs import ColumnsInput, ImageInput, InputContract, TensorInput, TextInput
from models.manifest import Manifest

Datatype = Literal["BYTES", "FP32", "FP64", "INT64"]

PREPARED = "input"
"""The tensor that the network takes, in every version; preprocessing is the caller's then."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's name, the protocol's name of its elements' type, and its shape; -1 is any size, the first of rows."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Interface:
    """`prepared` is what the network takes; where there is something to prepare, `raw` is what people have.

    One of them is sent.

    `prepared_contract` is what rows of `prepared` must be.
    """

    prepared: TensorSpec
    prepared_contract: TensorInput
    raw: TensorSpec | None
    outputs: tuple[TensorSpec, ...]

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return (self.prepared,) if self.raw is None else (self.prepared, self.raw)

    @property
    def opaque(self) -> TensorSpec:
        """The input that a body without any description is: what people have, where the version can prepare it."""
        return self.raw or self.prepared


def interface_of(manifest: Manifest, prepared: TensorInput) -> Interface:
    """`prepared` is the contract of rows once they are preprocessed."""
    takes_tensors = TensorSpec(PREPARED, _datatype(prepared), (-1, *prepared.shape))
    # A picture's file is prepared even where no step is declared: its pixels are taken out of it.
    raw = _raw(manifest.input) if manifest.preprocess or isinstance(manifest.input, ImageInput) else None
    return Interface(takes_tensors, prepared, raw, tuple(_outputs(manifest)))


def _datatype(contract: TensorInput) -> Datatype:
    return "INT64" if contract.dtype == "int64" else "FP32"


def _raw(contract: InputContract) -> TensorSpec:
    match contract:
        case TextInput():
            return TensorSpec("text", "BYTES", (-1, 1))
        case ImageInput():
            return TensorSpec("image", "BYTES", (-1, 1))
        case ColumnsInput():
            return TensorSpec("columns", "FP64", (-1, len(contract.columns)))
        case TensorInput():
            return TensorSpec("values", _datatype(contract), (-1, *contract.shape))


def _outputs(manifest: Manifest) -> list[TensorSpec]:
    num_labels = len(manifest.labels)
    match manifest.task:
        case "multiclass" | "binary":
            named = [TensorSpec("probabilities", "FP32", (-1, num_labels)), TensorSpec("label", "BYTES", (-1, 1))]
            return [*named, TensorSpec("logits", "FP32", (-1, manifest.num_outputs or -1))]
        case "multilabel":
            return [
                TensorSpec("probabilities", "FP32", (-1, num_labels)),
                TensorSpec("logits", "FP32", (-1, num_labels)),
            ]
        case "regression":
            return [TensorSpec("value", "FP64", (-1, 1))]
        case "embedding":
            return [TensorSpec("embedding", "FP32", (-1, -1))]
