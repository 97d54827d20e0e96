"""What versions are compared with, out of their checkpoints."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.checkpoint_files import CheckpointFiles
from service.domain import Ref
from service.learning.references import References, Watched
from service.settings import SHIPPED_CHECKPOINTS
from service.store.base import Form, Input
from tests import checkpoints
from tests.fakes import ManualClock

FASHION = Ref("fashion", 1)


def an_input(row: Any, form: Form = "npy") -> Input:
    if isinstance(row, str):
        return Input("id", "mood", form, "uniform", 1.0, row.encode())
    file = io.BytesIO()
    np.save(file, row)
    return Input("id", "fashion", form, "uniform", 1.0, file.getvalue())


def watched(model: str) -> Watched:
    found = References([SHIPPED_CHECKPOINTS], ManualClock()).of(Ref(model, 1))
    assert isinstance(found, Watched)
    return found


def test_pictures_are_watched_by_their_pixels() -> None:
    rows = [np.full((1, 28, 28), value, np.uint8) for value in (10, 30)]
    found = watched("fashion").features([an_input(row) for row in rows])
    assert {name: values.tolist() for name, values in found.items()} == {"pixel_mean": [10, 30], "pixel_std": [0, 0]}


def test_texts_are_watched_by_characters_and_tokens() -> None:
    found = watched("sentiment").features([an_input("What a film!", "text"), an_input("Good", "text")])
    assert found["characters"].tolist() == [12, 4]
    assert found["tokens"][0] > found["tokens"][1] >= 1


def test_columns_are_watched_by_their_names() -> None:
    found = watched("house-price")
    width = len(CheckpointFiles(SHIPPED_CHECKPOINTS / "house-price" / "1").manifest.input.names)  # type: ignore[union-attr]
    values = found.features([an_input(np.arange(width, dtype=float))])
    assert set(values) == set(found.reference.inputs)
    assert values["lotsize"].tolist() == [0.0]


def test_a_version_without_a_reference_is_looked_at_again_later(tmp_path: Path) -> None:
    clock = ManualClock()
    references = References([tmp_path, SHIPPED_CHECKPOINTS], clock)
    assert references.of(Ref("fashion", 7)) == "its reference can't be read: its folder is not there"
    (tmp_path / "fashion").mkdir()
    (tmp_path / "fashion" / "7").symlink_to(SHIPPED_CHECKPOINTS / "fashion" / "1")
    assert isinstance(references.of(Ref("fashion", 7)), str)
    clock.advance(61)
    assert isinstance(references.of(Ref("fashion", 7)), Watched)


def test_a_checkpoint_need_have_none(tmp_path: Path) -> None:
    checkpoints.write_one_of_each(tmp_path)
    model = sorted(folder.name for folder in tmp_path.iterdir())[0]
    assert References([tmp_path], ManualClock()).of(Ref(model, 1)) == "its checkpoint has no reference.json"


def test_one_that_is_wrong_is_said_to_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "fashion" / "1"
    folder.mkdir(parents=True)
    for file in (SHIPPED_CHECKPOINTS / "fashion" / "1").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "reference.json").write_bytes(b"{" + b" " * 9)
    references = References([tmp_path], ManualClock())
    assert "its reference can't be read: reference.json has 10 bytes" in str(references.of(FASHION))
    references.of(FASHION)
    assert caplog.text.count("reference can't be read") == 1
