"""What an engine is told of its predecessors, and tells to those who ask it for predictions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from service.domain import Ref
from service.watch.blackbox import RowId
from service.watch.evidence import Death, Verdicts


@dataclass(frozen=True, slots=True)
class History:
    """`suspects`: by incarnation, the rows that an engine may have died of.

    `quarantined` names inputs by their digests, each with the version that it was given to.
    """

    incarnation: int = 0
    suspects: Mapping[int, frozenset[RowId]] = field(default_factory=dict)
    quarantined: Mapping[bytes, Ref] = field(default_factory=dict)
    withdrawn: Mapping[Ref, str] = field(default_factory=dict)

    @staticmethod
    def of(incarnation: int, deaths: Iterable[Death], verdicts: Verdicts) -> "History":
        """What is known when an engine starts."""
        suspects = {death.incarnation: frozenset(death.suspects) for death in deaths if death.suspects}
        return History(incarnation, suspects, dict(verdicts.quarantined), dict(verdicts.withdrawn))

    def pardon(self, ref: Ref) -> "History":
        """The same without what is held against one version and its inputs."""
        quarantined = {digest: of for digest, of in self.quarantined.items() if of != ref}
        withdrawn = {each: reason for each, reason in self.withdrawn.items() if each != ref}
        return replace(self, quarantined=quarantined, withdrawn=withdrawn)

    def to_meta(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "incarnation": self.incarnation,
            "suspects": {str(number): sorted(rows) for number, rows in self.suspects.items()},
            "quarantined": {digest.hex(): str(ref) for digest, ref in self.quarantined.items()},
            "withdrawn": {str(ref): reason for ref, reason in self.withdrawn.items()},
        }

    @staticmethod
    def from_meta(meta: Mapping[str, Any]) -> "History":
        """Raises KeyError, TypeError or ValueError for what is no history."""
        return History(
            meta["incarnation"],
            {int(n): frozenset((row[0], row[1]) for row in rows) for n, rows in meta["suspects"].items()},
            {bytes.fromhex(digest): Ref.parse(name) for digest, name in dict(meta["quarantined"]).items()},
            {Ref.parse(name): reason for name, reason in meta["withdrawn"].items()},
        )

    def to_bytes(self) -> bytes:
        return orjson.dumps(self.to_meta())

    @staticmethod
    def from_bytes(data: bytes) -> "History":
        return History.from_meta(orjson.loads(data))
