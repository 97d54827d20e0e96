"""Which version answers, and how its rows are prepared."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from models.checkpoint_files import CheckpointFiles
from models.manifest import Manifest
from models.prepared import prepared_input
from models.preprocess import Preprocessor
from service.domain import Address, Ref, Rollout
from service.errors import NotReady
from service.registry.catalog import Catalog, Version
from service.serving.interface import Interface, interface_of
from service.store.base import Aliases, State

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A version as the path of a prediction needs it."""

    ref: Ref
    identity: str
    manifest: Manifest
    preprocess: Preprocessor
    interface: Interface


class Trial(NamedTuple):
    """A challenger that some of its model's requests are for; no `target` where this process can't serve it."""

    rollout: Rollout
    target: Target | None


class Router:
    """Chooses among the versions of a catalog; each one's tokenizer and tables are read once, when it is new.

    A request is routed once, by one look at `catalog`, which is replaced as a whole: no answer mixes versions.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._aliases = {name: model.aliases for name, model in catalog.models.items()}
        self._targets = _prepared(catalog, {})
        self._chosen_from = catalog
        self._chosen: dict[Address, Target] = {}
        self._rollouts: Mapping[str, Rollout] = {}
        self._trials: dict[Address, Trial] = {}

    def prepare(self, catalog: Catalog) -> dict[Ref, Target]:
        """What `use` needs beside a catalog. Takes its time, and may be called in any thread."""
        return _prepared(catalog, self._targets)

    def use(self, catalog: Catalog, targets: dict[Ref, Target]) -> None:
        """Route what comes from now on among these versions; what is under way keeps its own."""
        self._targets = targets
        self.catalog = catalog.with_aliases(self._followable(catalog))
        self._trials = self._trials_now()

    def use_state(self, state: State) -> None:
        """Route what comes from now on by the store's aliases and rollouts; what is under way keeps its version.

        An alias moves here once its version is here: it may be so new that this process has not read it yet.
        """
        self._aliases, self._rollouts = state.aliases, state.rollouts
        self.catalog = self.catalog.with_aliases(self._followable(self.catalog))
        self._trials = self._trials_now()

    def _followable(self, catalog: Catalog) -> Aliases:
        names = [*catalog.models, *(ref.model for ref in catalog.withheld)]
        return {name: self._aliases_of(name) for name in names}

    def _aliases_of(self, name: str) -> dict[str, int]:
        before = self.catalog.models[name].aliases if name in self.catalog.models else {}
        aliases = dict(self._aliases.get(name, {}))
        for alias, version in aliases.items():
            old = before.get(alias)
            if Ref(name, version) not in self._targets and old is not None and Ref(name, old) in self._targets:
                aliases[alias] = old
        return aliases

    def _trials_now(self) -> dict[Address, Trial]:
        """By the only addresses that they concern: who names a version or an alias gets that."""
        return {
            Address(model): Trial(rollout, self._targets.get(rollout.ref))
            for model, rollout in self._rollouts.items()
            if rollout.in_effect > 0
        }

    def trial(self, address: Address) -> Trial | None:
        """What may answer or compute in place of what `choose` gives; mostly None."""
        return self._trials.get(address) if self._trials else None

    def choose(self, address: Address) -> Target:
        """The version that an address names: without a version or an alias, the champion.

        Raises UnknownModel, UnknownVersion, UnknownAlias or NotReady.
        """
        if self._chosen_from is not self.catalog:
            self._chosen_from, self._chosen = self.catalog, {}
        target = self._chosen.get(address)
        if target is None:
            ref = self.catalog.find(address).ref
            target = self._targets.get(ref)
            if target is None:
                raise NotReady(ref, "its preprocessing could not be loaded")
            self._chosen[address] = target
        return target


def _prepared(catalog: Catalog, known: Mapping[Ref, Target]) -> dict[Ref, Target]:
    """A target for each version; those that are known are not made again."""
    targets = {}
    for version in catalog.versions():
        target = known.get(version.ref)
        if target is not None and target.identity == version.identity:
            targets[version.ref] = target
            continue
        try:
            targets[version.ref] = _target(version)
        except Exception as error:  # noqa: BLE001  whatever one version holds, the others serve
            log.error("can't prepare input", extra={"ref": str(version.ref), "reason": str(error)})
    return targets


def _target(version: Version) -> Target:
    read = CheckpointFiles(version.folder).read
    manifest = version.manifest
    preprocess = Preprocessor(manifest.preprocess, read)
    interface = interface_of(manifest, prepared_input(manifest.input, manifest.preprocess, preprocess))
    return Target(version.ref, version.identity, manifest, preprocess, interface)
