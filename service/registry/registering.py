"""The next version of a model: its number, the versions that it has to go with, and who answers once it is there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.manifest import Manifest
from service.domain import CHAMPION, Ref
from service.registry.catalog import Version, check_same_interface
from service.registry.scanner import next_version, scan
from service.store.base import Aliases, champions


@dataclass(frozen=True, slots=True)
class NextVersion:
    """A version that is not there yet.

    `siblings`: those of its model that can be served; `named`: the one that the alias champion names now, if any.
    """

    ref: Ref
    siblings: tuple[Version, ...]
    named: int | None

    def check(self, manifest: Manifest) -> None:
        """Raises BrokenCheckpoint for a manifest that answers another question than its siblings."""
        if self.siblings:
            check_same_interface(manifest, self.siblings[0])

    @property
    def champion(self) -> int:
        """The version that answers by default once this one is there, crowned as the service will where none is yet."""
        if self.named is not None:
            return self.named
        there = [*(sibling.ref.version for sibling in self.siblings), self.ref.version]
        return champions({}, {self.ref.model: there})[self.ref.model]

    @property
    def is_champion_lost(self) -> bool:
        """Whether the champion's files are gone or broken."""
        return self.named is not None and self.named not in {sibling.ref.version for sibling in self.siblings}


def next_of(model: str, roots: Sequence[Path], aliases: Aliases, seen: Mapping[int, bool]) -> NextVersion:
    """The next version of a model; `seen` has each one that a service ever saw, and whether it was deleted.

    A number that predictions were logged under is not given again, whatever became of its files.
    """
    version = max(next_version(roots, model), 1 + max(seen, default=0))
    there = scan(roots, aliases).models.get(model)
    found = there.versions if there is not None else {}
    siblings = tuple(one for number, one in found.items() if not seen.get(number))
    return NextVersion(Ref(model, version), siblings, aliases.get(model, {}).get(CHAMPION))
