"""What can be served: the checkpoints found under the model roots, and those that can't be, with the reason."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from models.inputs import InputContract
from models.manifest import BrokenCheckpoint, Manifest, parse_version
from service.domain import CHAMPION, Address, Ref
from service.errors import NotReady, UnknownAlias, UnknownModel, UnknownVersion
from service.store.base import Aliases
from service.store.feedback import ModelContract

NOT_HERE_YET = "this process has not read its files yet"
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
    """Everything found, at one time.

    `withheld`: versions that engines have and this process can't serve, with the reason; `other_aliases` are those of
    models that have only such. `unserved`: versions that are here and that engines were not told of.
    """

    models: dict[str, Model] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)
    withheld: dict[Ref, str] = field(default_factory=dict)
    other_aliases: Aliases = field(default_factory=dict)
    unserved: tuple[Version, ...] = ()

    def versions(self) -> Iterator[Version]:
        """Every version of every model."""
        return (version for model in self.models.values() for version in model.versions.values())

    def version(self, ref: Ref) -> Version | None:
        """The version of this name, where it can be served."""
        model = self.models.get(ref.model)
        return None if model is None else model.versions.get(ref.version)

    def with_aliases(self, aliases: Aliases) -> "Catalog":
        """The same versions under other aliases."""
        models = {name: replace(model, aliases=aliases.get(name, {})) for name, model in self.models.items()}
        others = {ref.model: aliases.get(ref.model, {}) for ref in self.withheld if ref.model not in models}
        return replace(self, models=models, other_aliases=others)

    def only(self, identities: Mapping[Ref, str]) -> "Catalog":
        """Those of the versions that are named, and that are what is named; what else is named is withheld."""
        models, broken = {}, list(self.broken)
        torn = {(entry.model, entry.version) for entry in self.broken}
        withheld = {
            ref: CHANGED if (ref.model, str(ref.version)) in torn else NOT_HERE_YET
            for ref in identities.keys() - {version.ref for version in self.versions()}
        }
        for model in self.models.values():
            kept = {n: v for n, v in model.versions.items() if identities.get(v.ref) == v.identity}
            changed = [v.ref for n, v in model.versions.items() if n not in kept and v.ref in identities]
            broken += [Broken(ref.model, str(ref.version), CHANGED) for ref in changed]
            withheld.update(dict.fromkeys(changed, CHANGED))
            if kept:
                models[model.name] = replace(model, versions=kept)
        unserved = tuple(version for version in self.versions() if version.ref not in identities)
        return Catalog(models, broken, withheld, unserved=unserved)

    def without(self, refs: Collection[Ref]) -> "Catalog":
        """All but these versions."""
        if not refs:
            return self
        models = {}
        for model in self.models.values():
            kept = {number: version for number, version in model.versions.items() if version.ref not in refs}
            if kept:
                models[model.name] = replace(model, versions=kept)
        return replace(self, models=models)

    def digests(self) -> dict[str, dict[int, str]]:
        """Model -> version -> sha256 of its weights."""
        return {
            name: {number: version.manifest.digest for number, version in model.versions.items()}
            for name, model in self.models.items()
        }

    def contracts(self) -> dict[str, ModelContract]:
        """Model -> what all its versions share, as far as feedback is checked against it."""
        manifests = {name: model.example.manifest for name, model in self.models.items()}
        return {name: ModelContract(manifest.task, tuple(manifest.labels)) for name, manifest in manifests.items()}

    def model(self, name: str) -> Model:
        """Raises UnknownModel."""
        model = self.models.get(name)
        if model is None:
            raise UnknownModel(name, sorted(self.models))
        return model

    def refs(self, model: str) -> list[Ref]:
        """A model's versions, whether or not this process can serve them; none where there is no such model."""
        found = self.models.get(model)
        served = [version.ref for version in found.versions.values()] if found is not None else []
        return sorted([*served, *(ref for ref in self.withheld if ref.model == model)])

    def named(self, address: Address) -> Ref:
        """The version that an address names, whether or not this process can serve it.

        Raises UnknownModel, UnknownVersion or UnknownAlias.
        """
        name = address.model
        model = self.models.get(name)
        if model is None and not self.refs(name):
            raise UnknownModel(name, sorted(self.models), self._broken(name))
        if address.version is not None:
            ref = Ref(name, parse_version(address.version) or 0)
            if self.version(ref) is None and ref not in self.withheld:
                known = [str(known.version) for known in self.refs(name)]
                raise UnknownVersion(name, address.version, known, self._broken(name, address.version))
            return ref
        aliases = model.aliases if model is not None else self.other_aliases.get(name, {})
        alias = address.alias or CHAMPION
        if alias not in aliases:
            raise UnknownAlias(name, alias, sorted(aliases))
        return Ref(name, aliases[alias])

    def _broken(self, model: str, version: str | None = None) -> str:
        """Why a model, or one version of it, can't be served; empty where it isn't there."""
        found = [one for one in self.broken if one.model == model and version in (None, one.version)]
        return "; ".join(f"{model}/{one.version}: {one.reason}" if one.version else one.reason for one in found[:3])

    def find(self, address: Address) -> Version:
        """The version that an address names.

        Raises UnknownModel, UnknownVersion, UnknownAlias, or NotReady where this process can't serve it.
        """
        ref = self.named(address)
        version = self.version(ref)
        if version is not None:
            return version
        reason = self.withheld.get(ref)
        if reason is None:
            alias = address.alias or CHAMPION
            reason = f"its files are missing or broken; let the alias {alias} of {ref.model} name another version"
        raise NotReady(ref, reason, passes=reason == NOT_HERE_YET)


def check_same_interface(manifest: Manifest, other: Version) -> None:
    """All versions of a model answer the same question: a client must not notice which one answers.

    Raises BrokenCheckpoint.
    """
    for what in ("task", "input", "labels"):
        if getattr(manifest, what) != getattr(other.manifest, what):
            raise BrokenCheckpoint(f"its {what} differs from that of {other.ref}, and all versions of a model share it")
