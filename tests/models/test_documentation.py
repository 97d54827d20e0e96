"""docs/checkpoints.md says of manifests what is so. tests/end_to_end/test_documentation.py runs its worked examples."""

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from models.inputs import Column, ColumnsInput, ImageInput, TensorInput, TextInput
from models.manifest import Manifest, Metric, Target
from models.preprocess.images import CenterCrop, Grayscale, Resize
from models.preprocess.numeric import Normalize, Pad, Scale, Standardize, Truncate
from models.preprocess.text import Tokenize, Vocabulary

PAGE = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
SECTIONS: dict[str, list[type[BaseModel]]] = {
    "manifest.json": [Manifest, Target, Metric],
    "Input contracts": [ImageInput, TextInput, TensorInput, ColumnsInput, Column],
    "Preprocess steps": [
        *(Scale, Normalize, Standardize, Grayscale, Resize, CenterCrop, Truncate, Pad),
        *(Tokenize, Vocabulary),
    ],
}


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def rows(title: str) -> list[list[str]]:
    """Of the tables of keys, the cells of each row: names, type, default, meaning."""
    tables = re.findall(r"^\|[^\n]*\| default \|[^\n]*\n\|[- |]+\n((?:\|[^\n]*\n)+)", section(title), re.MULTILINE)
    lines = (line.strip("|").split(" | ") for table in tables for line in table.splitlines())
    return [[cell.strip(" |") for cell in line[-4:]] for line in lines]


@pytest.mark.parametrize("title", SECTIONS)
def test_every_key_has_its_row(title: str) -> None:
    documented = {name for row in rows(title) for name in re.findall(r"`(\w+)`", row[0])}
    for kind in SECTIONS[title]:
        assert kind.model_fields.keys() - {"step", "kind"} <= documented


@pytest.mark.parametrize("title", SECTIONS)
def test_every_default_is_the_documented_one(title: str) -> None:
    fields: dict[str, list[object]] = {}
    for kind in SECTIONS[title]:
        for name, field in kind.model_fields.items():
            fields.setdefault(name, []).append("required" if field.is_required() else field.default)
    for keys, _, default, _ in rows(title):
        names = re.findall(r"`(\w+)`", keys)
        stated = [json.loads(text) for text in re.findall(r"`([^`]*)`", default)] or [default]
        for name, value in zip(names, stated * (len(names) // len(stated)), strict=True):
            assert (None if value == "none" else value) in fields[name], name


def test_every_step_is_described() -> None:
    for kind in SECTIONS["Preprocess steps"]:
        assert f"`{kind.model_fields['step'].default}`" in section("Preprocess steps")
