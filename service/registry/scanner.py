"""Looks through the model roots: once, or again and again while checkpoints come and go."""

import contextlib
import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.checkpoint_files import CheckpointFiles
from models.manifest import BrokenCheckpoint, is_name, parse_version
from service.domain import Ref
from service.registry.catalog import Broken, Catalog, Model, Version, check_same_interface
from service.store.base import Aliases

log = logging.getLogger(__name__)

# A checkpoint may be on its way in or out: what looked the same, or was gone, in so many looks in a row is so.
_STEADY_LOOKS = 2
_BYTES_AN_ELEMENT = 4

_Facts = tuple[int, ...]
_Look = tuple[_Facts, tuple[tuple[str, _Facts], ...]]
_Place = tuple[int, str, int]


def scan(roots: Sequence[Path], aliases: Aliases) -> Catalog:
    """Look through `<root>/<model>/<version>/` and verify what is there; what is broken keeps no other from serving."""
    return Scanner(roots).scan().with_aliases(aliases)


def next_version(roots: Sequence[Path], model: str) -> int:
    """One more than the model's highest version, broken ones included, in any root that can be read."""
    numbers = [0]
    for root in roots:
        with contextlib.suppress(OSError, RuntimeError):
            models = [folder for folder in _model_folders(root) if folder.name == model]
            numbers += [int(folder.name) for found in models for folder in _version_folders(found)]
    return 1 + max(numbers)


@dataclass(slots=True)
class _Folder:
    """What is known of one version's folder. `place` sorts it: its root's number, model and version."""

    place: _Place
    root: Path
    path: Path
    look: _Look | None = None
    looks: int = 0
    """How many in a row were like `look`."""
    misses: int = 0
    """How many in a row did not find it."""
    verified: _Look | None = None
    """The look that `outcome` belongs to."""
    outcome: Version | str | None = None
    """The version, or why it is broken; None before it was verified."""


class Scanner:
    """Call `scan` every second or so, never twice at the same time.

    What is new or repaired is verified once it has stopped changing, and not read again after that. A version in the
    catalog stays there as it was first verified, whatever becomes of its files (checkpoints are immutable), until its
    folder is gone. Where a root or a model's folder can't be listed, what was found in it is kept.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._folders: dict[Path, _Folder] = {}
        self._catalog: Catalog | None = None
        self._served: dict[Path, Version] = {}
        self._changed: set[Path] = set()
        """Those of `_served` that hold something else by now, or something broken."""
        self._number = 0
        self._unreadable: set[Path] = set()
        self._devices: dict[Path, int] = {}

    @property
    def number(self) -> int:
        """How often versions or what is broken were found to be different; the first scan makes it 1."""
        return self._number

    def scan(self) -> Catalog:
        """Look once. The catalog names no aliases; it is the same object until something changes."""
        is_first = self._catalog is None
        broken = self._look()
        for folder in self._folders.values():
            is_steady = is_first or folder.looks >= _STEADY_LOOKS
            if is_steady and not folder.misses and folder.look != folder.verified:
                self._verify(folder)
        catalog = self._assemble(broken)
        if self._catalog is None or catalog != self._catalog:
            self._catalog = catalog
            self._number += 1
        return self._catalog

    def distrust(self, ref: Ref) -> None:
        """Have a version read anew: others found something else under its name.

        Whoever looks seldom may not have seen that its folder was gone for a while, and came back as another.
        """
        for path in [path for path, version in self._served.items() if version.ref == ref]:
            del self._served[path]
            self._folders.pop(path, None)

    def _look(self) -> dict[_Place, Broken]:
        """Note what every folder looks like; returns the models whose folders can't be listed."""
        broken: dict[_Place, Broken] = {}
        seen: set[Path] = set()
        unlisted: set[Path] = set()
        for number, root in enumerate(self._roots):
            models = self._models(root)
            if models is None:
                unlisted.add(root)
            for model in models or []:
                try:
                    paths = _version_folders(model)
                except FileNotFoundError:  # it was removed this very moment
                    continue
                except (OSError, RuntimeError) as error:
                    unlisted.add(model)
                    reason = f"the model's folder can't be read{_why(error)}"
                    broken[number, model.name, 0] = Broken(model.name, "", reason)
                    continue
                for path in paths:
                    seen.add(path)
                    place = (number, model.name, int(path.name))
                    folder = self._folders.setdefault(path, _Folder(place, root, path))
                    look = _look_at(path)
                    folder.looks = folder.looks + 1 if look == folder.look else 1
                    folder.look, folder.misses = look, 0
        for folder in list(self._folders.values()):
            if folder.path not in seen and folder.root not in unlisted and folder.path.parent not in unlisted:
                folder.misses += 1
                folder.looks = 0
                if folder.misses >= _STEADY_LOOKS:
                    del self._folders[folder.path]
        return broken

    def _models(self, root: Path) -> list[Path] | None:
        """The models' folders in a root; None where they can't be listed, which is logged once."""
        is_known = any(folder.root == root for folder in self._folders.values())
        try:
            models, device = _model_folders(root), root.stat().st_dev
            if is_known and not models and device != self._devices[root]:
                raise OSError(None, "its file system is not mounted")  # what is left is the folder to mount it on
        except (OSError, RuntimeError) as error:
            if isinstance(error, FileNotFoundError) and not is_known:
                return []
            if root not in self._unreadable:
                log.error("a model root can't be read", extra={"root": root.name, "reason": _why(error)})
            self._unreadable.add(root)
            return None
        self._unreadable.discard(root)
        self._devices[root] = device
        return models

    def _verify(self, folder: _Folder) -> None:
        folder.verified = folder.look
        outcome: Version | str
        try:
            outcome = _check(folder.root, folder.path)
        except BrokenCheckpoint as error:
            outcome = str(error)
        except (OSError, RuntimeError) as error:
            outcome = f"the folder can't be read{_why(error)}"
            folder.verified = None  # that may pass without a trace in the folder
        served = self._served.get(folder.path)
        if served is None:
            folder.outcome = outcome
        elif isinstance(outcome, Version) and outcome.identity == served.identity:
            self._changed.discard(folder.path)
        elif folder.path not in self._changed:
            self._changed.add(folder.path)
            reason = outcome if isinstance(outcome, str) else "its manifest is another one"
            what = {"ref": str(served.ref), "reason": reason}
            log.warning("a checkpoint was changed; it is served as it was, or not at all, until a restart", extra=what)

    def _assemble(self, broken: dict[_Place, Broken]) -> Catalog:
        """Those that are served already, and the newcomers that go with them."""
        found: dict[str, dict[int, Version]] = {}
        served: dict[Path, Version] = {}
        for folder in sorted(self._folders.values(), key=lambda one: (one.path not in self._served, one.place)):
            if folder.outcome is None:
                continue
            _, model, number = folder.place
            try:
                if isinstance(folder.outcome, str):
                    raise BrokenCheckpoint(folder.outcome)
                if folder.path not in self._served:
                    _check_goes_with(folder.outcome, found.get(model, {}))
            except BrokenCheckpoint as error:
                broken[folder.place] = Broken(model, folder.path.name, str(error))
            else:
                found.setdefault(model, {})[number] = served[folder.path] = folder.outcome
        self._served = served
        self._changed &= served.keys()
        models = {name: Model(name, dict(sorted(versions.items())), {}) for name, versions in sorted(found.items())}
        return Catalog(models, [broken[place] for place in sorted(broken)])


def _model_folders(root: Path) -> list[Path]:
    """Ascending; a name that is no model's is somebody else's. Raises OSError or RuntimeError."""
    return sorted(folder for folder in root.iterdir() if is_name(folder.name) and folder.is_dir())


def _version_folders(model: Path) -> list[Path]:
    """Ascending by number; a name that is no version's is somebody else's. Raises OSError or RuntimeError."""
    numbers = {parse_version(folder.name): folder for folder in model.iterdir()}
    return [numbers[number] for number in sorted(n for n in numbers if n is not None)]


def _look_at(folder: Path) -> _Look:
    """What changes when a file does, without reading any."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # no folder, or a link that leads nowhere
        names = []
    return _facts(folder), tuple((name, _facts(folder / name)) for name in names)


def _facts(path: Path) -> _Facts:
    """Of a file, and of what it leads to where it is a link."""
    facts: _Facts = ()
    for follow in (False, True):
        try:
            status = path.stat(follow_symlinks=follow)
        except OSError as error:
            return (*facts, error.errno or 0)
        facts += (status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode, status.st_uid, status.st_gid)
        if not stat.S_ISLNK(status.st_mode):
            break
    return facts


def _why(error: Exception) -> str:
    # Its own text may hold paths.
    return f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""


def _check(root: Path, folder: Path) -> Version:
    """Verify one folder by itself. Raises BrokenCheckpoint, OSError or RuntimeError."""
    try:
        real = folder.resolve()
        real.stat()
    except (OSError, RuntimeError):  # links that lead to one another, by Python's version
        raise BrokenCheckpoint("the folder is a link that leads nowhere, or it can't be read") from None
    if not real.is_relative_to(root.resolve()):
        raise BrokenCheckpoint("the folder is a link that leads out of its model root")
    if not real.is_dir():
        raise BrokenCheckpoint("this is no folder")
    files = CheckpointFiles(real)
    num_elements = files.verify()
    manifest = files.manifest
    ref = Ref(folder.parent.name, int(folder.name))
    if (manifest.model, manifest.version) != (ref.model, ref.version):
        raise BrokenCheckpoint(f"the manifest says {manifest.model}/{manifest.version}, the folder {ref}")
    return Version(ref, real, manifest, files.identity, _BYTES_AN_ELEMENT * num_elements)


def _check_goes_with(version: Version, siblings: dict[int, Version]) -> None:
    """Raises BrokenCheckpoint for a version that the model has already, or that differs from its others."""
    if version.ref.version in siblings:
        raise BrokenCheckpoint(f"{version.ref} is there already, in another model root")
    for other in siblings.values():
        check_same_interface(version.manifest, other)
