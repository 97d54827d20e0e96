"""What a model's next version is, before it is there."""

import shutil
from pathlib import Path

import pytest

from models.manifest import BrokenCheckpoint, Manifest
from service.domain import Ref
from service.registry.registering import next_of
from tests import checkpoints


@pytest.fixture
def written(tmp_path: Path) -> Manifest:
    """Of version 2, beside version 4."""
    manifest = checkpoints.write_vector(tmp_path, version=2)
    checkpoints.write_vector(tmp_path, version=4)
    return manifest


def test_the_first_version_goes_with_anything_and_becomes_the_champion(tmp_path: Path) -> None:
    manifest = checkpoints.write_vector(tmp_path)
    coming = next_of("new", [tmp_path], {}, {})
    coming.check(manifest)
    assert (coming.ref, coming.siblings, coming.champion) == (Ref("new", 1), (), 1)
    assert not coming.is_champion_lost


@pytest.mark.parametrize(("seen", "version"), [({}, 5), ({4: False}, 5), ({2: False, 7: True}, 8)])
def test_its_number_is_one_that_was_never_given(
    tmp_path: Path, written: Manifest, seen: dict[int, bool], version: int
) -> None:
    assert next_of("sensors", [tmp_path], {}, seen).ref == Ref("sensors", version)


def test_it_has_to_answer_the_question_that_its_siblings_answer(tmp_path: Path, written: Manifest) -> None:
    coming = next_of("sensors", [tmp_path], {}, {})
    coming.check(written)
    with pytest.raises(BrokenCheckpoint, match="all versions of a model share it"):
        coming.check(checkpoints.write_text(tmp_path))


def test_versions_that_were_deleted_are_no_siblings_whatever_lies_there(tmp_path: Path, written: Manifest) -> None:
    coming = next_of("sensors", [tmp_path], {}, {2: True, 4: False})
    assert [sibling.ref.version for sibling in coming.siblings] == [4]
    coming = next_of("sensors", [tmp_path], {}, {2: True, 4: True})
    assert (coming.siblings, coming.champion) == ((), 5)


@pytest.mark.parametrize(("aliases", "champion"), [({}, 2), ({"sensors": {"champion": 4}}, 4)])
def test_the_champion_stays_or_is_the_one_that_the_service_will_crown(
    tmp_path: Path, written: Manifest, aliases: dict[str, dict[str, int]], champion: int
) -> None:
    coming = next_of("sensors", [tmp_path], aliases, {})
    assert (coming.champion, coming.is_champion_lost) == (champion, False)


@pytest.mark.parametrize("gone", ["4", ""], ids=["it alone", "all of the model"])
def test_a_champion_whose_files_are_gone_stays_champion(tmp_path: Path, written: Manifest, gone: str) -> None:
    shutil.rmtree(tmp_path / "sensors" / gone)
    coming = next_of("sensors", [tmp_path], {"sensors": {"champion": 4}}, {2: False, 4: False})
    assert (coming.ref.version, coming.champion, coming.is_champion_lost) == (5, 4, True)
