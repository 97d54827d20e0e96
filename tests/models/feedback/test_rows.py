from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.feedback.rows import FEEDBACK_FILE, FEEDBACK_FOLDER, LabelledRows, read, row_bytes, write
from models.inputs import Column, ColumnsInput, ImageInput, InputContract, TensorInput, TextInput

IMAGE = ImageInput(channels=1, height=2, width=3)
COLUMNS = ColumnsInput(columns=[Column(name="area"), Column(name="rooms")])
STEPS = TensorInput(shape=[-1, 2])
CONTRACTS: dict[str, tuple[InputContract, Any]] = {
    "image": (IMAGE, np.arange(18, dtype=np.uint8).reshape(3, 1, 2, 3)),
    "text": (TextInput(), ["grün", "", "a\0b"]),
    "columns": (COLUMNS, np.arange(6.0).reshape(3, 2)),
    "steps": (STEPS, [np.full((n, 2), n, np.float32) for n in (1, 3, 2)]),
    "tensor": (TensorInput(shape=[2], dtype="int64", minimum=0, maximum=9), np.arange(6).reshape(3, 2)),
}


def labelled(rows: Any, **more: Any) -> LabelledRows:
    return LabelledRows.of(rows, np.array([0, 1, 0]), ["p0", "p1", "p2"], **more)


@pytest.mark.parametrize("kind", CONTRACTS)
def test_rows_are_read_as_they_were_written(kind: str, tmp_path: Path) -> None:
    contract, rows = CONTRACTS[kind]
    written = labelled(rows, weights=np.array([1, 0.5, 0]), actors=["ann", "bob", ""], sources=["app", "", "app"])
    write(tmp_path / FEEDBACK_FILE, written)
    found = read(tmp_path, contract)
    assert found.digest() == written.digest()
    assert found.ids.tolist() == ["p0", "p1", "p2"]
    assert found.weights.tolist() == [1, 0.5, 0]
    assert found.actors.tolist() == ["ann", "bob", ""]
    for one, other in zip(found.rows, rows, strict=True):
        assert np.array_equal(one, other)


def test_shards_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / FEEDBACK_FOLDER).mkdir()
    for name in ("b", "a"):
        write(tmp_path / FEEDBACK_FOLDER / f"{name}.npz", LabelledRows.of([name], np.array([0]), [f"p{name}"]))
    found = read(tmp_path, TextInput())
    assert (found.rows, found.ids.tolist()) == (["a", "b"], ["pa", "pb"])


@pytest.mark.parametrize("change", ["rows", "targets", "ids", "weights", "actors", "sources"])
def test_the_digest_names_all_that_is_said(change: str) -> None:
    plain = {"rows": ["a", "b", "c"], "targets": np.array([0, 1, 0]), "ids": ["p0", "p1", "p2"]}
    others = {
        "rows": ["ab", "", "c"],
        "targets": np.array([0, 1, 1]),
        "ids": ["p0", "p1", "p3"],
        "weights": np.array([1, 1, 0.5]),
        "actors": ["ann", "", ""],
        "sources": ["", "", "app"],
    }
    one, other = LabelledRows.of(**plain), LabelledRows.of(**{**plain, change: others[change]})  # type: ignore[arg-type]
    assert one.digest() != other.digest()


def test_pixels_that_came_as_floats_are_bytes_again(tmp_path: Path) -> None:
    write(tmp_path / FEEDBACK_FILE, labelled(np.arange(18.0).reshape(3, 1, 2, 3)))
    assert read(tmp_path, IMAGE).rows.dtype == np.uint8  # type: ignore[union-attr]
    write(tmp_path / FEEDBACK_FILE, labelled(np.arange(18.0).reshape(3, 1, 2, 3) + 0.5))
    assert read(tmp_path, IMAGE).rows.dtype == np.float32  # type: ignore[union-attr]


def test_an_input_has_the_same_bytes_however_it_is_stored() -> None:
    pixels = np.arange(6).reshape(1, 2, 3)
    assert row_bytes(pixels.astype(np.uint8), IMAGE) == row_bytes(pixels.astype(np.float64), IMAGE)
    assert row_bytes(np.array([0.0, 1.0]), COLUMNS) == row_bytes(np.array([-0.0, 1.0], np.float32), COLUMNS)
    assert row_bytes("a", TextInput()) != row_bytes("b", TextInput())


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"targets": np.zeros(1)}, "has no rows"),
        ({"rows": np.zeros((1, 3)), "targets": np.zeros(1), "ids": np.array(["a"])}, r"shape \(n, 2\), got \(1, 3\)"),
        ({"rows": np.zeros((1, 2)), "targets": np.zeros(2), "ids": np.array(["a"])}, "must all be as many"),
        ({"rows": np.array([object()]), "targets": np.zeros(1), "ids": np.array(["a"])}, "holds no labelled rows"),
    ],
)
def test_what_is_no_file_of_rows_is_refused(arrays: dict[str, Any], problem: str, tmp_path: Path) -> None:
    np.savez(tmp_path / FEEDBACK_FILE, **arrays)
    with pytest.raises(ValueError, match=problem):
        read(tmp_path, COLUMNS)


def test_bytes_that_are_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / FEEDBACK_FILE).write_bytes(b"PK no archive")
    with pytest.raises(ValueError, match="holds no labelled rows"):
        read(tmp_path, COLUMNS)


@pytest.mark.parametrize("offsets", [None, [0, 2], [1, 3], [0, 2, 1, 3]])
def test_offsets_that_lead_astray_are_refused(offsets: list[int] | None, tmp_path: Path) -> None:
    more = {} if offsets is None else {"offsets": np.array(offsets)}
    np.savez(tmp_path / FEEDBACK_FILE, rows=np.zeros(3, np.uint8), targets=np.zeros(1), ids=np.array(["a"]), **more)
    with pytest.raises(ValueError, match="offsets"):
        read(tmp_path, TextInput())
