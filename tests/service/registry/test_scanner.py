"""Checkpoints that come, go and change under a running service. A look stands for a second."""

import os
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from models.checkpoint_files import CheckpointFiles
from models.manifest import MANIFEST, WEIGHTS
from service.domain import Ref
from service.registry import scanner
from service.registry.catalog import Catalog
from service.registry.scanner import Scanner
from tests import checkpoints

ALL = ["clothes/1", "clothes/2", "mood/1", "rent/1"]


def refs(catalog: Catalog) -> list[str]:
    return [str(version.ref) for version in catalog.versions()]


def reasons(catalog: Catalog) -> dict[str, str]:
    return {f"{broken.model}/{broken.version}": broken.reason for broken in catalog.broken}


def told_changed(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The versions of which the log says that their files changed, each time that it does."""
    return [line.__dict__["ref"] for line in caplog.records if line.msg.startswith("a checkpoint was changed")]


def change(folder: Path, **fields: Any) -> None:
    facts = orjson.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(orjson.dumps({**facts, **fields}))


@pytest.fixture
def scan(root: Path) -> Scanner:
    """One that has looked once."""
    scan = Scanner([root])
    assert refs(scan.scan()) == ALL
    return scan


@pytest.fixture
def verified(scan: Scanner, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are read from now on."""
    folders: list[str] = []
    usual = CheckpointFiles.verify

    def verify(files: CheckpointFiles) -> int:
        folders.append("/".join(files.folder.parts[-2:]))
        return usual(files)

    monkeypatch.setattr(CheckpointFiles, "verify", verify)
    return folders


def test_what_did_not_change_is_not_read_again(
    scan: Scanner, verified: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    first = scan.scan()
    assert scan.scan() is first
    assert (verified, scan.number, told_changed(caplog)) == ([], 1, [])


def test_an_empty_root_counts_as_a_first_result(tmp_path: Path) -> None:
    scan = Scanner([tmp_path / "nothing"])
    assert (scan.scan(), scan.number) == (Catalog(), 1)
    checkpoints.write_columns(tmp_path / "nothing")
    scan.scan()
    assert refs(scan.scan()) == ["rent/1"]


def test_a_version_carries_the_digest_of_its_manifest(scan: Scanner, root: Path) -> None:
    for version in scan.scan().versions():
        assert version.identity == CheckpointFiles(version.folder).identity
    assert len({version.identity for version in scan.scan().versions()}) == 4


# What comes


def test_a_new_version_is_there_once_it_looked_the_same_twice(scan: Scanner, root: Path, verified: list[str]) -> None:
    checkpoints.write_image(root, version=3)
    assert (refs(scan.scan()), scan.number) == (ALL, 1)
    assert (refs(scan.scan()), scan.number) == (["clothes/1", "clothes/2", "clothes/3", "mood/1", "rent/1"], 2)
    assert verified == ["clothes/3"]


def test_a_new_model_is_found(scan: Scanner, root: Path) -> None:
    checkpoints.write_vector(root)
    scan.scan()
    assert refs(scan.scan()) == [*ALL, "sensors/1"]


def test_what_is_being_copied_in_is_neither_read_nor_called_broken(
    scan: Scanner, root: Path, tmp_path: Path, verified: list[str]
) -> None:
    checkpoints.write_image(tmp_path / "draft", version=3)
    draft, folder = tmp_path / "draft" / "clothes" / "3", root / "clothes" / "3"
    folder.mkdir()
    data = (draft / WEIGHTS).read_bytes()
    for share in range(5):
        (folder / WEIGHTS).write_bytes(data[: share * len(data) // 4])
        assert reasons(scan.scan()) == {}
    shutil.copy(draft / MANIFEST, folder)
    assert reasons(scan.scan()) == {}
    assert verified == []
    assert "clothes/3" in refs(scan.scan())
    assert verified == ["clothes/3"]


def test_a_hidden_or_temporary_folder_is_no_version(scan: Scanner, root: Path, verified: list[str]) -> None:
    for name in (".3.tmp", "3.tmp", ".hidden", "03"):
        shutil.copytree(root / "clothes" / "1", root / "clothes" / name)
    scan.scan()
    assert (refs(scan.scan()), scan.number, verified) == (ALL, 1, [])


def test_what_is_broken_is_said_and_read_once(scan: Scanner, root: Path) -> None:
    shutil.copytree(root / "clothes" / "2", root / "clothes" / "3")
    for _ in range(3):
        catalog = scan.scan()
    assert reasons(catalog) == {"clothes/3": "the manifest says clothes/2, the folder clothes/3"}
    assert scan.number == 2


def test_what_was_broken_and_is_repaired_is_taken_up(root: Path) -> None:
    weights = root / "rent" / "1" / WEIGHTS
    data = weights.read_bytes()
    weights.write_bytes(data[:-1])
    scan = Scanner([root])
    assert list(reasons(scan.scan())) == ["rent/1"]
    weights.write_bytes(data)
    assert list(reasons(scan.scan())) == ["rent/1"]
    catalog = scan.scan()
    assert (refs(catalog), reasons(catalog), scan.number) == (ALL, {}, 2)


def test_what_could_not_be_read_is_tried_at_every_look(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = Scanner([root])
    with monkeypatch.context() as patch:

        def refuse(*_: Any) -> None:
            raise OSError(5, "Input/output error", "/secret")

        patch.setattr(scanner, "CheckpointFiles", refuse)
        assert set(reasons(scan.scan()).values()) == {"the folder can't be read: Input/output error"}
    scan.scan()
    assert refs(scan.scan()) == ALL


def test_a_newcomer_that_differs_from_those_served_is_refused_even_with_a_lower_number(tmp_path: Path) -> None:
    checkpoints.write_image(tmp_path, version=9)
    scan = Scanner([tmp_path])
    scan.scan()
    checkpoints.write_image(tmp_path, version=1, labels=["one", "other"])
    scan.scan()
    catalog = scan.scan()
    assert refs(catalog) == ["clothes/9"]
    assert "its labels differs from that of clothes/9" in reasons(catalog)["clothes/1"]
    shutil.rmtree(tmp_path / "clothes" / "9")
    scan.scan()
    assert refs(scan.scan()) == ["clothes/1"]


def test_a_version_that_comes_up_in_an_earlier_root_too_stays_where_it_is(root: Path, tmp_path: Path) -> None:
    scan = Scanner([tmp_path / "first", root])
    scan.scan()
    shutil.copytree(root / "mood", tmp_path / "first" / "mood")
    scan.scan()
    catalog = scan.scan()
    assert catalog.models["mood"].versions[1].folder == (root / "mood" / "1").resolve()
    assert reasons(catalog) == {"mood/1": "mood/1 is there already, in another model root"}


# What changes


def test_a_version_whose_files_change_stays_as_it_was(
    scan: Scanner, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = scan.scan()
    change(root / "mood" / "1", description="another one")
    for _ in range(4):
        assert scan.scan() is before
    assert (told_changed(caplog), scan.number) == (["mood/1"], 1)


def test_a_version_whose_weights_break_stays_as_it_was(
    scan: Scanner, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "mood" / "1" / WEIGHTS).write_bytes(b"")
    scan.scan()
    assert refs(scan.scan()) == ALL
    assert told_changed(caplog) == ["mood/1"]


def test_what_is_changed_back_has_not_changed(scan: Scanner, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = root / "mood" / "1" / MANIFEST
    data = path.read_bytes()
    for content, times in ((b"{}", 1), (data, 1), (b"{}", 2)):
        path.write_bytes(content)
        scan.scan()
        scan.scan()
        assert told_changed(caplog) == ["mood/1"] * times


def test_a_folder_that_is_touched_or_given_a_note_has_not_changed(
    scan: Scanner, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.utime(root / "mood" / "1" / WEIGHTS)
    (root / "mood" / "1" / "NOTES").write_text("a fine one")
    scan.scan()
    scan.scan()
    assert told_changed(caplog) == []


# What goes


def test_a_version_whose_folder_is_gone_leaves_after_two_looks(scan: Scanner, root: Path) -> None:
    shutil.rmtree(root / "clothes" / "2")
    shutil.rmtree(root / "rent")
    assert (refs(scan.scan()), scan.number) == (ALL, 1)
    assert (refs(scan.scan()), scan.number) == (["clothes/1", "mood/1"], 2)


def test_a_version_that_is_away_for_one_look_stays(scan: Scanner, root: Path, verified: list[str]) -> None:
    (root / "rent" / "1").rename(root / "away")
    assert refs(scan.scan()) == ALL
    (root / "away").rename(root / "rent" / "1")
    for _ in range(3):
        assert refs(scan.scan()) == ALL
    assert (verified, scan.number) == ([], 1)


def test_a_changed_version_that_is_gone_and_comes_again_is_a_new_one(
    scan: Scanner, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change(root / "mood" / "1", description="another one")
    scan.scan()
    scan.scan()
    (root / "mood").rename(root / ".mood")
    scan.scan()
    scan.scan()
    (root / ".mood").rename(root / "mood")
    scan.scan()
    assert scan.scan().models["mood"].versions[1].manifest.description == "another one"
    assert told_changed(caplog) == ["mood/1"]
    change(root / "mood" / "1", description="a third one")
    scan.scan()
    scan.scan()
    assert told_changed(caplog) == ["mood/1", "mood/1"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(116, "Stale file handle")])
def test_a_root_that_cant_be_listed_keeps_what_it_had(
    scan: Scanner, root: Path, error: OSError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:

        def refuse(_: Path) -> None:
            raise error

        patch.setattr(scanner, "_model_folders", refuse)
        for _ in range(4):
            assert refs(scan.scan()) == ALL
    assert caplog.text.count("a model root can't be read") == 1
    shutil.rmtree(root / "rent")
    scan.scan()
    assert "rent/1" not in refs(scan.scan())


def test_a_root_that_is_gone_keeps_what_it_had(scan: Scanner, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    root.rename(root.parent / "elsewhere")
    for _ in range(4):
        assert refs(scan.scan()) == ALL
    assert caplog.text.count("a model root can't be read") == 1


def test_the_empty_folder_that_an_unmounted_disk_leaves_is_not_taken_for_an_empty_root(
    scan: Scanner, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scan._devices, root, -1)
    root.rename(root.parent / "elsewhere")
    root.mkdir()
    for _ in range(4):
        assert refs(scan.scan()) == ALL


def test_a_models_folder_that_cant_be_listed_keeps_its_versions(
    scan: Scanner, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = scanner._version_folders

    def refuse(model: Path) -> list[Path]:
        if model.name == "clothes":
            raise PermissionError(13, "Permission denied", str(model))
        return usual(model)

    monkeypatch.setattr(scanner, "_version_folders", refuse)
    for _ in range(3):
        catalog = scan.scan()
    assert refs(catalog) == ALL
    assert reasons(catalog) == {"clothes/": "the model's folder can't be read: Permission denied"}


def test_what_is_distrusted_is_read_anew(scan: Scanner, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = scan.scan().models["mood"].versions[1].identity
    shutil.rmtree(root / "mood" / "1")
    checkpoints.write_text(root, max_characters=50)
    scan.scan()
    assert scan.scan().models["mood"].versions[1].identity == before
    scan.distrust(Ref("mood", 1))
    scan.scan()
    assert scan.scan().models["mood"].versions[1].identity != before
    assert told_changed(caplog) == ["mood/1"]
    change(root / "mood" / "1", description="a third one")
    scan.scan()
    scan.scan()
    assert told_changed(caplog) == ["mood/1", "mood/1"]
