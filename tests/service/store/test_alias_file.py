from pathlib import Path
from typing import Any

import orjson
import pytest

from service.errors import Misconfigured
from service.store.alias_file import import_alias_file
from tests.stores import OpenStore, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "aliases.json"


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    return open_store(tmp_path)


def test_a_file_is_taken_over_once(store: OpenStore, path: Path) -> None:
    path.write_bytes(orjson.dumps({"fashion": {"champion": 2, "trial": 3}}))
    import_alias_file(path, store.control)
    assert store.control.crown_new_models({"fashion": {1: "a", 2: "b"}}) == {"fashion": {"champion": 2, "trial": 3}}
    assert [move.reason for move in store.control.history("fashion")] == ["imported from a file"] * 2
    store.control.move_alias("fashion", "champion", 1, actor="ann", reason="")
    import_alias_file(path, store.control)
    assert store.control.aliases()["fashion"]["champion"] == 1
    assert not path.exists()


def test_where_there_is_no_file_there_is_nothing_to_take_over(store: OpenStore, path: Path) -> None:
    import_alias_file(path, store.control)
    assert store.control.state().aliases == {}


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
def test_a_malformed_table_is_the_operators_to_mend(store: OpenStore, path: Path, table: Any) -> None:
    path.write_bytes(orjson.dumps(table))
    with pytest.raises(Misconfigured, match="is malformed; expected"):
        import_alias_file(path, store.control)
    assert path.exists()
    assert store.control.aliases() == {}


def test_what_is_no_json_or_no_file_is_the_operators_to_mend(store: OpenStore, path: Path) -> None:
    path.write_bytes(b"{")
    with pytest.raises(Misconfigured, match="can't be read"):
        import_alias_file(path, store.control)
    path.unlink()
    path.mkdir()
    with pytest.raises(Misconfigured, match="can't be read"):
        import_alias_file(path, store.control)
