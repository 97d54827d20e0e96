"""What can be served: the checkpoints found under the model roots, and those that can't be, with the reason."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.manifest import BrokenCheckpoint, InputContract, Manifest, is_name, parse_version, verify
from service.domain import CHAMPION, Address, Ref
from service.errors import NotReady, UnknownAlias, UnknownModel, UnknownVersion
from service.store.base import Aliases

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Version:
    """A checkpoint whose manifest and files have been verified."""

    ref: Ref
    folder: Path
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Broken:
    """A folder that looks like a version and can't be served; `version` is "" for a model's whole folder."""

    model: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Model:
    """A name clients call. All its versions share task, labels and input contract."""

    name: str
    versions: dict[int, Version]
    aliases: dict[str, int]

    @property
    def champion(self) -> Version | None:
        """The version that answers by default; None where it is missing or broken."""
        return self.versions.get(self.aliases.get(CHAMPION, 0))

    @property
    def example(self) -> Version:
        """Any version: for what they all share."""
        return self.champion or next(iter(self.versions.values()))

    @property
    def contract(self) -> InputContract:
        return self.example.manifest.input


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything found, at one time."""

    models: dict[str, Model] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)

    def versions(self) -> Iterator[Version]:
        """Every version of every model."""
        return (version for model in self.models.values() for version in model.versions.values())

    def with_aliases(self, aliases: Aliases) -> "Catalog":
        """The same versions under other aliases."""
        models = {name: replace(model, aliases=aliases.get(name, {})) for name, model in self.models.items()}
        return Catalog(models, self.broken)

    def model(self, name: str) -> Model:
        """Raises UnknownModel."""
        model = self.models.get(name)
        if model is None:
            raise UnknownModel(name, sorted(self.models))
        return model

    def find(self, address: Address) -> Version:
        """The version that an address names.

        Raises UnknownModel, UnknownVersion, UnknownAlias, or NotReady where an alias names a version that is broken.
        """
        model = self.model(address.model)
        if address.version is not None:
            version = model.versions.get(parse_version(address.version) or 0)
            if version is None:
                raise UnknownVersion(model.name, address.version, [str(number) for number in model.versions])
            return version
        alias = address.alias or CHAMPION
        if alias not in model.aliases:
            raise UnknownAlias(model.name, alias, sorted(model.aliases))
        number = model.aliases[alias]
        if number not in model.versions:
            raise NotReady(Ref(model.name, number), "its checkpoint is missing or broken")
        return model.versions[number]


def scan(roots: Sequence[Path], aliases: Aliases) -> Catalog:
    """Look through `<root>/<model>/<version>/` and verify what is there; what is broken keeps no other from serving."""
    found: dict[str, dict[int, Version]] = {}
    broken: list[Broken] = []
    for root, model_folder in [(place, folder) for place in roots for folder in _model_folders(place)]:
        model = model_folder.name
        try:
            folders = _version_folders(model_folder)
        except (OSError, RuntimeError) as error:
            broken.append(Broken(model, "", f"the model's folder can't be read{_why(error)}"))
            continue
        for folder in folders:
            try:
                checked = _check(root, folder, found.get(model, {}))
            except BrokenCheckpoint as error:
                broken.append(Broken(model, folder.name, str(error)))
            except (OSError, RuntimeError) as error:
                broken.append(Broken(model, folder.name, f"the folder can't be read{_why(error)}"))
            else:
                found.setdefault(model, {})[checked.ref.version] = checked
    models = {name: Model(name, dict(sorted(v.items())), aliases.get(name, {})) for name, v in sorted(found.items())}
    return Catalog(models, broken)


def check_same_interface(manifest: Manifest, other: Version) -> None:
    """All versions of a model answer the same question: a client must not notice which one answers.

    Raises BrokenCheckpoint.
    """
    for what in ("task", "input", "labels"):
        if getattr(manifest, what) != getattr(other.manifest, what):
            raise BrokenCheckpoint(f"its {what} differs from that of {other.ref}, and all versions of a model share it")


def next_version(roots: Sequence[Path], model: str) -> int:
    """One more than the model's highest version, broken ones included, in any root."""
    models = (folder for root in roots for folder in _model_folders(root) if folder.name == model)
    return 1 + max((int(folder.name) for found in models for folder in _version_folders(found)), default=0)


def _model_folders(root: Path) -> list[Path]:
    """Ascending; a name that is no model's is somebody else's."""
    try:
        return sorted(folder for folder in root.iterdir() if is_name(folder.name) and folder.is_dir())
    except FileNotFoundError:
        return []
    except (OSError, RuntimeError) as error:
        log.error("a model root can't be read", extra={"root": root.name, "reason": _why(error)})
        return []


def _version_folders(model: Path) -> list[Path]:
    """Ascending by number; a name that is no version's is somebody else's. Raises OSError."""
    numbers = {parse_version(folder.name): folder for folder in model.iterdir()}
    return [numbers[number] for number in sorted(n for n in numbers if n is not None)]


def _why(error: Exception) -> str:
    # Its own text may hold paths.
    return f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""


def _check(root: Path, folder: Path, siblings: dict[int, Version]) -> Version:
    try:
        real = folder.resolve()
        real.stat()
    except (OSError, RuntimeError):  # links that lead to one another, by Python's version
        raise BrokenCheckpoint("the folder is a link that leads nowhere, or it can't be read") from None
    if not real.is_relative_to(root.resolve()):
        raise BrokenCheckpoint("the folder is a link that leads out of its model root")
    if not real.is_dir():
        raise BrokenCheckpoint("this is no folder")
    manifest = verify(real)
    ref = Ref(folder.parent.name, int(folder.name))
    if (manifest.model, manifest.version) != (ref.model, ref.version):
        raise BrokenCheckpoint(f"the manifest says {manifest.model}/{manifest.version}, the folder {ref}")
    if ref.version in siblings:
        raise BrokenCheckpoint(f"{ref} is there already, in another model root")
    for other in siblings.values():
        check_same_interface(manifest, other)
    return Version(ref, real, manifest)
