"""Which version answers, and how its rows are prepared."""

import logging
from dataclasses import dataclass

from models.manifest import CheckpointFiles, Manifest
from models.preprocess import Preprocessor
from service.domain import Address, Ref
from service.errors import NotReady
from service.registry.catalog import Catalog, Version
from service.store.base import Aliases

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A version as the path of a prediction needs it."""

    ref: Ref
    manifest: Manifest
    preprocess: Preprocessor


class Router:
    """Chooses among the versions of a catalog; each one's tokenizer and tables are read once, here.

    A request is routed once, by one look at `catalog`, which is replaced as a whole: no answer mixes versions.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._targets: dict[Ref, Target] = {}
        for version in catalog.versions():
            try:
                self._targets[version.ref] = _target(version)
            except Exception as error:  # noqa: BLE001  whatever one version holds, the others serve
                log.error("can't prepare input", extra={"ref": str(version.ref), "reason": str(error)})

    def use_aliases(self, aliases: Aliases) -> None:
        """Route what comes from now on by these; what is under way keeps its version."""
        self.catalog = self.catalog.with_aliases(aliases)

    def choose(self, address: Address) -> Target:
        """Raises UnknownModel, UnknownVersion, UnknownAlias or NotReady."""
        ref = self.catalog.find(address).ref
        target = self._targets.get(ref)
        if target is None:
            raise NotReady(ref, "its preprocessing could not be loaded")
        return target


def _target(version: Version) -> Target:
    read = CheckpointFiles(version.folder).read
    return Target(version.ref, version.manifest, Preprocessor(version.manifest.preprocess, read))
