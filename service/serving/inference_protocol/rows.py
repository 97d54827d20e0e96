"""From the tensors of a request to rows: prepared ones, which the network takes, or raw ones, to be preprocessed."""

from collections.abc import Sequence

import numpy as np

from models.inputs import ColumnsInput, ImageInput, InputContract, TensorInput
from models.preprocess import RawRows, Tensors
from models.preprocess.tensors import Array
from service.errors import UnprocessableInput
from service.serving.allowance import Allowance
from service.serving.contracts import NumericInput, checked_batch, checked_picture, checked_rows, checked_text, join
from service.serving.inference_protocol.datatypes import BYTES
from service.serving.inference_protocol.request import InputTensor
from service.serving.interface import Interface, TensorSpec


def chosen_input(inputs: Sequence[InputTensor], interface: Interface) -> tuple[InputTensor, TensorSpec]:
    """The one input that was sent, and what is known of it. Raises UnprocessableInput."""
    known = {spec.name: spec for spec in interface.inputs}
    for index, one in enumerate(inputs):
        if one.name not in known:
            what, field = f"there is no input {one.name!r:.50}", f"inputs[{index}].name"
            raise UnprocessableInput(what, field=field, expected=_described(interface))
    if len(inputs) > 1:
        raise UnprocessableInput(
            "there are two inputs", field="inputs", expected=f"exactly one: {_described(interface)}"
        )
    return inputs[0], known[inputs[0].name]


def _described(interface: Interface) -> str:
    return " or ".join(f"{spec.name} ({spec.datatype} {list(spec.shape)})" for spec in interface.inputs)


def prepared_rows(sent: InputTensor, contract: TensorInput, max_rows: int, allowance: Allowance) -> Tensors:
    """Rows as the network takes them. Raises UnprocessableInput, and what the allowance raises."""
    array = _numbers(sent)
    if contract.variable and array.ndim == len(contract.shape) + 1 and array.shape[1] <= contract.max_length:
        # Sequences of one length lie packed as they are.
        checked = checked_rows(array, _of_length(contract, array.shape[1])) if len(array) <= max_rows else None
        if checked is not None:
            lengths = np.full(len(checked), checked.shape[1], np.int32)
            return Tensors(checked.reshape(-1, *checked.shape[2:]), lengths)
    rows = _batch(array, sent, contract, max_rows, allowance)
    return Tensors(rows) if isinstance(rows, np.ndarray) else Tensors.packed(rows)


def raw_rows(sent: InputTensor, contract: InputContract, max_rows: int, allowance: Allowance) -> RawRows:
    """Rows as the model's contract says. Raises UnprocessableInput, and what the allowance raises."""
    if isinstance(contract, ColumnsInput | TensorInput):
        return _batch(_numbers(sent), sent, contract, max_rows, allowance)
    if not isinstance(sent.elements, list):
        raise UnprocessableInput(f"elements are of type {sent.datatype}", field=sent.field, expected=BYTES)
    if len(sent.elements) != sent.shape[0]:
        expected = "[rows] or [rows, 1]: one element for each row"
        raise UnprocessableInput(f"the shape is {list(sent.shape)}", field=sent.field, expected=expected)
    _check_count(len(sent.elements), max_rows, sent.field)
    rows: list[str | Array] = []
    for index, element in enumerate(sent.elements):
        allowance.check()
        field = f"{sent.field}[{index}]"
        if isinstance(contract, ImageInput):
            rows.append(checked_picture(element, field, contract, allowance))
        else:
            rows.append(checked_text(_text(element, field), field, contract))
    return join(rows, contract)


def _batch(
    array: Array, sent: InputTensor, contract: NumericInput, max_rows: int, allowance: Allowance
) -> Array | list[Array]:
    if array.ndim < 2:
        expected = "one dimension for the rows, and those of a row behind it"
        raise UnprocessableInput(f"the shape is {list(array.shape)}", field=sent.field, expected=expected)
    return checked_batch(array, sent.field, contract, max_rows, allowance)


def _numbers(sent: InputTensor) -> Array:
    if isinstance(sent.elements, list):
        raise UnprocessableInput(f"elements are of type {BYTES}", field=sent.field, expected="numbers")
    return sent.elements


def _check_count(num_rows: int, max_rows: int, field: str) -> None:
    if num_rows > max_rows:
        raise UnprocessableInput(f"there are {num_rows} rows", field=field, expected=f"at most {max_rows}")


def _text(element: bytes, field: str) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        raise UnprocessableInput(f"byte {error.start} is not UTF-8", field=field, expected="text in UTF-8") from None


def _of_length(contract: TensorInput, length: int) -> TensorInput:
    return contract.model_copy(update={"shape": [length, *contract.shape[1:]]})
