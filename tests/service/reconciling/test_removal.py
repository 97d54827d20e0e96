import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from service.domain import Ref
from service.reconciling.removal import remove_files


def write(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_a_version_goes_and_others_stay(tmp_path: Path) -> None:
    write(tmp_path, "m/1")
    other = write(tmp_path, "m/2")
    remove_files(tmp_path, Ref("m", 1))
    assert list((tmp_path / "m").iterdir()) == [other]
    assert (other / "manifest.json").exists()


def test_with_its_last_version_a_models_folder_goes(tmp_path: Path) -> None:
    write(tmp_path, "m/1")
    remove_files(tmp_path, Ref("m", 1))
    assert not (tmp_path / "m").exists()


def test_what_is_gone_already_is_no_fault(tmp_path: Path) -> None:
    remove_files(tmp_path, Ref("m", 1))
    write(tmp_path, "m/2")
    remove_files(tmp_path, Ref("m", 1))
    assert (tmp_path / "m" / "2").exists()


def test_what_a_removal_that_was_cut_short_left_is_taken_along(tmp_path: Path) -> None:
    write(tmp_path, "m/.removed-1")
    write(tmp_path, "m/2")
    remove_files(tmp_path, Ref("m", 2))
    assert not (tmp_path / "m").exists()


def test_of_a_link_the_link_alone_is_removed(tmp_path: Path) -> None:
    elsewhere = write(tmp_path, "elsewhere/1")
    (tmp_path / "root" / "m").mkdir(parents=True)
    (tmp_path / "root" / "m" / "1").symlink_to(elsewhere)
    remove_files(tmp_path / "root", Ref("m", 1))
    assert (elsewhere / "manifest.json").exists()
    assert not (tmp_path / "root" / "m").exists()


def test_what_can_t_be_removed_is_a_fault_until_it_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "m/1")
    other = write(tmp_path, "m/2")
    usual = os.unlink

    def refuse(path: Any, *more: Any, **options: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "unlink", refuse)
    for _ in range(3):
        with pytest.raises(PermissionError):
            remove_files(tmp_path, Ref("m", 1))
    monkeypatch.setattr(os, "unlink", usual)
    remove_files(tmp_path, Ref("m", 1))
    assert list((tmp_path / "m").iterdir()) == [other]


def test_what_can_t_be_removed_of_one_version_keeps_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = write(tmp_path, "m/.removed-1")
    write(tmp_path, "m/2")
    usual = shutil.rmtree

    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if path != left:
            usual(path)
        elif not ignore_errors:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    remove_files(tmp_path, Ref("m", 2))
    assert list((tmp_path / "m").iterdir()) == [left]
