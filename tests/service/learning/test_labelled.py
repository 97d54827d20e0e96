"""Labelled rows, as they are sent and as checkpoints keep them."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.manifest import Manifest
from service.errors import NotSupported, UnprocessableInput
from service.learning.labelled import Labels, _truth, held_out, in_lines
from service.registry.catalog import Version
from service.registry.scanner import scan
from service.settings import SHIPPED_CHECKPOINTS
from tests import checkpoints


def manifest(model: str) -> Manifest:
    return scan([SHIPPED_CHECKPOINTS], {}).models[model].example.manifest


def with_sample(folder: Path, **arrays: Any) -> Version:
    """A version of clothes whose checkpoint has these arrays as its sample."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    checkpoints.write_image(folder, files={"evaluation.npz": file.getvalue()})
    return scan([folder], {}).models["clothes"].example


def test_labels_are_taken_by_their_names() -> None:
    code = Labels(manifest("fashion"))
    assert code.encode(["T-shirt/top", "Ankle boot"], 0).tolist() == [0, 9]
    with pytest.raises(UnprocessableInput, match=r"labels\[6\]: the model has no such label; expected one of T-shirt"):
        code.encode(["Bag", 9], 5)


@pytest.mark.parametrize("label", ["3", None, True, float("inf"), [1], 1.1e100, -(10**101)])
def test_numbers_are_numbers(label: Any) -> None:
    code = Labels(manifest("house-price"))
    assert code.encode([1, 2.5], 0).tolist() == [1.0, 2.5]
    with pytest.raises(
        UnprocessableInput, match=r"labels\[0\]: this is no label; expected a number from -1e\+100 to 1e\+100"
    ):
        code.encode([label], 0)


@pytest.mark.parametrize("target", [1.1e100, float("nan"), float("-inf")])
def test_targets_of_a_checkpoint_are_such_numbers_too(target: float) -> None:
    regression = manifest("house-price")
    assert _truth(np.array([1e100, -3.0]), regression).tolist() == [1e100, -3.0]
    with pytest.raises(ValueError, match="targets that are no numbers from"):
        _truth(np.array([1.0, target]), regression)


def test_a_checkpoint_keeps_a_sample_of_its_held_out_rows() -> None:
    version = scan([SHIPPED_CHECKPOINTS], {}).models["fashion"].example
    chunks = held_out(version, 64)
    assert sum(len(one.truth) for one in chunks) == len(np.load(version.folder / "evaluation.npz")["targets"])
    assert [one.start for one in chunks[:3]] == [0, 64, 128]
    first = np.load(io.BytesIO(chunks[0].body.data), allow_pickle=False)
    assert first.shape == (64, 1, 28, 28)


def test_texts_are_kept_too(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, rows=np.array(["good", "not good"]), targets=np.array([1, 0]))
    checkpoints.write_text(tmp_path)
    text = scan([tmp_path], {}).models["mood"].example
    with pytest.raises(NotSupported, match=r"no evaluation\.npz"):
        held_out(text, 8)
    [chunk] = held_out(with_sample(tmp_path, rows=np.array(["a", "b"]), targets=np.array([1, 0])), 8)
    assert chunk.body.data == b'{"instances":["a","b"]}'


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"rows": np.zeros((2, 1, 28, 28)), "targets": np.array([0, 10])}, "targets that are no labels"),
        ({"rows": np.zeros((2, 1, 28, 28)), "targets": np.array([0, -1])}, "targets that are no labels"),
        ({"rows": np.zeros((2, 1, 28, 28)), "targets": np.array([0])}, "2 rows and 1 targets"),
        ({"rows": np.zeros((0, 1, 28, 28)), "targets": np.zeros(0, int)}, "0 rows"),
        ({"rows": np.zeros((2, 1, 28, 28))}, "targets"),
        ({"rows": np.array([{}, {}], object), "targets": np.array([0, 1])}, "allow_pickle"),
        ({"rows": np.zeros((90_000, 28, 28), np.float64), "targets": np.zeros(90_000)}, "more than"),
    ],
)
def test_a_sample_that_is_wrong_is_not_used(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    with pytest.raises(NotSupported, match=says):
        held_out(with_sample(tmp_path, **arrays), 64)


async def test_lines_are_numbered_through_all_chunks() -> None:
    async def sent() -> AsyncIterator[bytes]:
        for number in range(5):
            yield b'{"instance": [%d], "label": "Bag"}\n\n' % number

    chunks = [one async for one in in_lines(sent(), Labels(manifest("fashion")), 2)]
    assert [(one.start, one.truth.tolist()) for one in chunks] == [(0, [8, 8]), (2, [8, 8]), (4, [8])]
    assert chunks[2].body.data == b'{"instances":[[4]]}'
