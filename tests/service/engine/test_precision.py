"""Promise 1 with a lower precision: a row's answer is its own, within a wider tolerance."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.architectures import build
from models.checkpoint_files import CheckpointFiles
from models.inputs import ImageInput, TextInput
from models.manifest import BrokenCheckpoint
from models.preprocess import Preprocessor, Tensors
from models.preprocess.tensors import Array
from models.samples import sample_rows
from service.domain import Precision, Ref
from service.engine.replica import Replica
from service.settings import SHIPPED_CHECKPOINTS
from service.wire.report import Wanted
from tests import checkpoints
from tests.service.engine.networks import MAX_STEPS, NETWORKS, TOKENS, VECTORS, manifest_of, rows_for

TOLERANCE_FP32, TOLERANCE_BF16 = 1e-5, 2e-2  # of the logits' scale
CPU = torch.device("cpu")
WORDS = ("a", "long", "dull", "film", "I", "loved", "and", "hated", "with", "great", "actors", "but", "no", "story")
SHIPPED = ("fashion", "sentiment", "sentiment-lstm", "house-price")


@cache
def lower_of(name: str) -> Replica:
    contract, architecture = NETWORKS[name]
    torch.manual_seed(0)
    network = build(architecture["family"], architecture["config"])
    return Replica(manifest_of(contract, architecture), network, CPU, Precision.BFLOAT16)


def assert_the_same(found: Array, expected: Array, tolerance: float) -> None:
    """Within the tolerance of the answers' scale, and of the same label where another isn't as near as that."""
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)
    if expected.shape[1] > 1:
        ordered = np.sort(expected, axis=1)
        clear = ordered[:, -1] - ordered[:, -2] > 2 * tolerance * scale
        assert (found.argmax(axis=1) == expected.argmax(axis=1))[clear].all()


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=15)
@given(lengths=st.lists(st.integers(1, MAX_STEPS), min_size=2, max_size=12), seed=st.integers(0, 2**32 - 1))
def test_with_bfloat16_a_rows_answer_is_the_same_alone_and_in_any_batch(
    name: str, lengths: list[int], seed: int
) -> None:
    contract, replica = NETWORKS[name][0], lower_of(name)
    rows, ragged = rows_for(contract, lengths, seed), contract in (TOKENS, VECTORS)
    alone = np.concatenate([replica.run([row], ragged=ragged)[0] for row in rows])
    assert_the_same(replica.run(rows, ragged=ragged)[0], alone, TOLERANCE_BF16)


@cache
def shipped(name: str, precision: Precision) -> Replica:
    replica = Replica.load(Wanted(Ref(name, 1), SHIPPED_CHECKPOINTS / name / "1", precision=precision), CPU)
    replica.warm_up()
    return replica


def prepared(name: str, num_rows: int) -> tuple[list[Array], bool]:
    """Held-out rows as the network is given them; of texts, the words of a sentence in many lengths."""
    files = CheckpointFiles(SHIPPED_CHECKPOINTS / name / "1")
    preprocess, rng = Preprocessor(files.manifest.preprocess, files.read), np.random.default_rng(1)
    match files.manifest.input:
        case TextInput():
            raw: Any = [" ".join(rng.choice(WORDS, size=count)) for count in rng.integers(1, 120, size=num_rows)]
        case ImageInput() as image:
            raw = rng.integers(0, 256, size=(num_rows, *image.shape), dtype=np.uint8)
        case _ as contract:
            raw = sample_rows(contract, num_rows)
            raw = raw * rng.uniform(0.8, 1.2, size=raw.shape)  # type: ignore[union-attr,operator]
    tensors = preprocess(raw)
    return tensors.rows(), tensors.lengths is not None


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.BFLOAT16])
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_checkpoints_answer_each_row_the_same_alone_and_in_a_batch(name: str, precision: Precision) -> None:
    replica = shipped(name, precision)
    rows, ragged = prepared(name, 32)
    alone = np.concatenate([replica.run([row], ragged=ragged)[0] for row in rows])
    tolerance = TOLERANCE_FP32 if precision is Precision.FLOAT32 else TOLERANCE_BF16
    for count in (32, 17, 3):
        assert_the_same(replica.run(rows[:count], ragged=ragged)[0], alone[:count], tolerance)


@pytest.mark.parametrize("name", SHIPPED)
def test_bfloat16_answers_like_float32_only_less_exactly(name: str) -> None:
    rows, ragged = prepared(name, 32)
    exact, _ = shipped(name, Precision.FLOAT32).run(rows, ragged=ragged)
    mixed, _ = shipped(name, Precision.BFLOAT16).run(rows, ragged=ragged)
    assert mixed.dtype == np.float32
    assert not np.array_equal(mixed, exact)  # it is not float32 under another name
    assert_the_same(mixed, exact, 5e-2)


def test_with_a_lower_precision_weights_stay_float32() -> None:
    replica = shipped("fashion", Precision.BFLOAT16)
    assert {parameter.dtype for parameter in replica._compiled.network.parameters()} == {torch.float32}
    assert replica.num_bytes == shipped("fashion", Precision.FLOAT32).num_bytes


def test_float16_is_for_gpus(tmp_path: Path) -> None:
    checkpoints.write_vector(tmp_path)
    with pytest.raises(BrokenCheckpoint, match="float16 needs a GPU, and this engine's device is cpu; choose bfloat16"):
        Replica.load(Wanted(Ref("sensors", 1), tmp_path / "sensors" / "1", precision=Precision.FLOAT16), CPU)


class OnlyFloat32(nn.Module):
    """A network with a step that knows no lower precision."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        hidden = self.layer(x)
        if hidden.dtype != torch.float32:
            raise RuntimeError("not implemented for 'BFloat16'")
        return hidden


def test_what_cannot_run_with_the_precision_fails_its_warm_up_with_the_reason() -> None:
    network: Any = OnlyFloat32()
    samples = [Tensors(np.zeros((1, 5), np.float32))]
    replica = Replica(manifest_of(*NETWORKS["mlp"]), network, CPU, Precision.BFLOAT16, samples)
    with pytest.raises(BrokenCheckpoint, match="failed on a sample input: not implemented for 'BFloat16'"):
        replica.warm_up()
