"""What can be served: the checkpoints found under the model roots, and those that can't be, with the reason."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.manifest import BrokenCheckpoint, InputContract, Manifest, parse_version
from service.domain import CHAMPION, Address, Ref
from service.errors import NotReady, UnknownAlias, UnknownModel, UnknownVersion
from service.store.base import Aliases

CHANGED = "its files changed while the service runs; register them as a new version, or restart the service"


@dataclass(frozen=True, slots=True)
class Version:
    """A checkpoint whose manifest and files have been verified; `identity` is the sha256 of manifest.json.

    `num_bytes`: what its weights take in memory, as float32 whatever they are stored as.
    """

    ref: Ref
    folder: Path
    manifest: Manifest
    identity: str
    num_bytes: int = 0


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

    def only(self, identities: Mapping[Ref, str]) -> "Catalog":
        """Those of the versions that are named, and that are what is named."""
        models, broken = {}, list(self.broken)
        for model in self.models.values():
            kept = {n: v for n, v in model.versions.items() if identities.get(v.ref) == v.identity}
            changed = [v.ref for n, v in model.versions.items() if n not in kept and v.ref in identities]
            broken += [Broken(ref.model, str(ref.version), CHANGED) for ref in changed]
            if kept:
                models[model.name] = replace(model, versions=kept)
        return Catalog(models, broken)

    def without(self, refs: Collection[Ref]) -> "Catalog":
        """All but these versions."""
        if not refs:
            return self
        models = {}
        for model in self.models.values():
            kept = {number: version for number, version in model.versions.items() if version.ref not in refs}
            if kept:
                models[model.name] = replace(model, versions=kept)
        return Catalog(models, self.broken)

    def digests(self) -> dict[str, dict[int, str]]:
        """Model -> version -> sha256 of its weights."""
        return {
            name: {number: version.manifest.digest for number, version in model.versions.items()}
            for name, model in self.models.items()
        }

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


def check_same_interface(manifest: Manifest, other: Version) -> None:
    """All versions of a model answer the same question: a client must not notice which one answers.

    Raises BrokenCheckpoint.
    """
    for what in ("task", "input", "labels"):
        if getattr(manifest, what) != getattr(other.manifest, what):
            raise BrokenCheckpoint(f"its {what} differs from that of {other.ref}, and all versions of a model share it")
