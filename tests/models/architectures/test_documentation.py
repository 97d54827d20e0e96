"""docs/checkpoints.md says of the families what is so."""

import json
import re
from pathlib import Path

import pytest

from models.architectures import FamilyConfig, build
from models.architectures.cnn import BlockConfig, CnnConfig
from models.architectures.mlp import MlpConfig
from models.architectures.recurrent import RecurrentConfig
from models.architectures.transformer import TransformerConfig

PAGE = (Path(__file__).parents[3] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
SECTIONS: dict[str, type[FamilyConfig]] = {
    "cnn": CnnConfig,
    "recurrent": RecurrentConfig,
    "transformer": TransformerConfig,
    "mlp": MlpConfig,
}


def section(family: str) -> str:
    found = re.search(rf"^### {family}\n(.*?)(?=^###? |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("family", SECTIONS)
def test_every_example_builds(family: str) -> None:
    examples = re.findall(r"```json\n(.*?)```", section(family), re.DOTALL)
    assert examples
    for example in examples:
        build(family, json.loads(example))


@pytest.mark.parametrize("family", SECTIONS)
def test_every_key_is_documented(family: str) -> None:
    documented = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*)\|", section(family), re.MULTILINE))))
    keys = set(SECTIONS[family].model_fields) | (set(BlockConfig.model_fields) if family == "cnn" else set())
    assert keys <= documented


@pytest.mark.parametrize("family", SECTIONS)
def test_every_default_is_the_documented_one(family: str) -> None:
    fields = {**SECTIONS[family].model_fields, **(BlockConfig.model_fields if family == "cnn" else {})}
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| (`[^`]*`|required|none) \|", section(family), re.MULTILINE)
    assert rows
    for key, default in rows:
        if default == "required":
            assert fields[key].is_required()
        elif default != "none":
            stated = json.loads(default.strip("`"))
            actual = fields[key].default
            assert stated == (list(actual) if isinstance(actual, tuple) else actual)


@pytest.mark.parametrize("family", SECTIONS)
def test_every_parameter_name_is_documented(family: str) -> None:
    text = section(family)
    for example in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        for name in build(family, json.loads(example)).state_dict():
            owner = re.sub(r"\.\d+\.", ".{i}.", name)
            owner = re.sub(r"_l\d+", "_l{k}", owner)
            assert owner in text or f"{owner.rpartition('.')[0]}.weight" in text, name
