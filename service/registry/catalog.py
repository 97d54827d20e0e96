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
    """A folder that looks like a version and can't be served."""

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
    for root in roots:
        for folder in _version_folders(root):
            model, version = folder.parent.name, folder.name
            try:
                checked = _check(root, folder, found.get(model, {}))
            except BrokenCheckpoint as error:
                broken.append(Broken(model, version, str(error)))
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
    folders = (folder for root in roots for folder in _version_folders(root) if folder.parent.name == model)
    return 1 + max((int(folder.name) for folder in folders), default=0)


def _version_folders(root: Path) -> Iterator[Path]:
    """Ascending by model, then by version as a number; names that are no model or no version are somebody else's."""
    if not root.is_dir():
        return
    for model in sorted(root.iterdir()):
        if is_name(model.name) and model.is_dir():
            try:
                numbers = {parse_version(folder.name): folder for folder in model.iterdir()}
            except OSError as error:
                log.error("a model's folder can't be read", extra={"model": model.name, "reason": error.strerror})
                continue
            yield from (numbers[number] for number in sorted(n for n in numbers if n is not None))


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
