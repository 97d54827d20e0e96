from pathlib import Path
from typing import Any

import orjson
import pytest

from service.errors import Misconfigured
from service.registry.aliases import AliasFile, crown_new_models

ALIASES = {"fashion": {"champion": 2, "challenger": 3}, "house-price": {"champion": 1}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "aliases.json"


def test_what_was_written_is_read(path: Path) -> None:
    AliasFile(path).write(ALIASES)
    assert AliasFile(path).read() == ALIASES
    AliasFile(path).write({})
    assert AliasFile(path).read() == {}


def test_without_a_file_there_are_no_aliases(path: Path) -> None:
    assert AliasFile(path).read() == {}


def test_the_file_is_readable_for_people(path: Path) -> None:
    AliasFile(path).write({"b": {"champion": 1}, "a": {"champion": 2}})
    assert path.read_text().splitlines()[:3] == ["{", '  "a": {', '    "champion": 2']


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"fashion": {"champion": 1}'])
def test_a_file_that_cannot_be_read_is_the_operators_to_mend(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(Misconfigured, match=r"can't be read: .*; mend or remove it"):
        AliasFile(path).read()


def test_a_directory_in_its_place_is_the_operators_to_mend(path: Path) -> None:
    path.mkdir()
    with pytest.raises(Misconfigured, match="can't be read"):
        AliasFile(path).read()


@pytest.mark.parametrize(
    "table",
    [
        [],
        None,
        {"fashion": 1},
        {"fashion": ["champion"]},
        {"fashion": {"champion": "1"}},
        {"fashion": {"champion": 1.0}},
        {"fashion": {"champion": True}},
        {"fashion": {"champion": 0}},
        {"fashion": {"champion": None}},
        {"Fashion": {"champion": 1}},
        {"../x": {"champion": 1}},
        {"fashion": {"": 1}},
    ],
)
def test_a_malformed_table_is_the_operators_to_mend(path: Path, table: Any) -> None:
    path.write_bytes(orjson.dumps(table))
    with pytest.raises(Misconfigured, match="is malformed; expected"):
        AliasFile(path).read()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    AliasFile(path).write(ALIASES)
    impossible: Any = {"fashion": {"champion": object()}}
    with pytest.raises(TypeError):
        AliasFile(path).write(impossible)
    assert AliasFile(path).read() == ALIASES
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_fails_leaves_the_old_file_and_nothing_else(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    AliasFile(path).write(ALIASES)

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        AliasFile(path).write({})
    assert AliasFile(path).read() == ALIASES
    assert list(path.parent.iterdir()) == [path]


# Who becomes champion


def test_the_first_version_of_a_new_model_becomes_its_champion() -> None:
    assert crown_new_models({}, {"fashion": [3, 2, 10], "mood": [1]}) == {
        "fashion": {"champion": 2},
        "mood": {"champion": 1},
    }


def test_a_version_that_appears_later_moves_nothing() -> None:
    crowned = crown_new_models({}, {"fashion": [2]})
    assert crown_new_models(crowned, {"fashion": [1, 2, 3]}) == {"fashion": {"champion": 2}}


def test_a_champion_that_vanishes_is_not_replaced() -> None:
    assert crown_new_models({"fashion": {"champion": 2}}, {"fashion": [1, 3]}) == {"fashion": {"champion": 2}}


def test_a_model_without_versions_gets_no_champion() -> None:
    assert crown_new_models({}, {"fashion": []}) == {}


def test_other_aliases_stay_and_the_table_that_came_is_left_alone() -> None:
    before = {"fashion": {"challenger": 5}, "gone": {"champion": 1}}
    after = crown_new_models(before, {"fashion": [1]})
    assert after == {"fashion": {"challenger": 5, "champion": 1}, "gone": {"champion": 1}}
    assert before == {"fashion": {"challenger": 5}, "gone": {"champion": 1}}
