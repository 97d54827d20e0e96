"""The rows that back ends are judged by."""

from pathlib import Path

import numpy as np
import pytest

from models.checkpoint import network_of
from models.checkpoint_files import CheckpointFiles
from models.manifest import WEIGHTS, BrokenCheckpoint
from service.engine.heldout import NUM_ROWS, Rows, rows_of
from service.settings import SHIPPED_CHECKPOINTS
from tests import checkpoints
from tests.service.engine.networks import NETWORKS

CONTRACT, ARCHITECTURE = NETWORKS["mlp"]


def rows_for_model(folder: Path) -> Rows:
    files = CheckpointFiles(folder)
    return rows_of(files, network_of(files.read(WEIGHTS), files.manifest))


def test_a_held_out_sample_is_used_where_there_is_one() -> None:
    rows = rows_for_model(SHIPPED_CHECKPOINTS / "fashion" / "1")
    assert rows.source == "evaluation.npz"
    assert rows.truth is not None
    assert len(rows.rows) == len(rows.truth) == 300
    assert rows.rows[0].shape == (1, 28, 28)


def test_without_one_rows_are_drawn_that_the_input_allows(tmp_path: Path) -> None:
    checkpoints.write_one_of_each(tmp_path)
    for folder in sorted(tmp_path.glob("*/1")):
        rows = rows_for_model(folder)
        assert (len(rows.rows), rows.source, rows.truth) == (NUM_ROWS, "drawn at random", None)
    codes = rows_for_model(tmp_path / "codes" / "1")
    assert {len(row) for row in codes.rows} == set(range(1, 9))
    assert {int(number) for row in codes.rows for number in row} == set(range(1, 10))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_a_sample_that_is_none_is_a_broken_checkpoint(tmp_path: Path, data: bytes) -> None:
    checkpoints.write(
        tmp_path,
        "m",
        files={"evaluation.npz": data},
        architecture=ARCHITECTURE,
        task="multiclass",
        input=CONTRACT,
        labels=["a", "b", "c"],
    )
    with pytest.raises(BrokenCheckpoint, match=r"evaluation\.npz holds no rows with targets"):
        rows_for_model(tmp_path / "m" / "1")


def test_a_pickled_sample_is_not_opened(tmp_path: Path) -> None:
    held_out = tmp_path / "evaluation.npz"
    np.savez(held_out, rows=np.array([{"a": 1}], dtype=object), targets=np.array([0]))
    checkpoints.write(
        tmp_path,
        "m",
        files={"evaluation.npz": held_out.read_bytes()},
        architecture=ARCHITECTURE,
        task="multiclass",
        input=CONTRACT,
        labels=["a", "b", "c"],
    )
    with pytest.raises(BrokenCheckpoint, match="allow_pickle=False"):
        rows_for_model(tmp_path / "m" / "1")
