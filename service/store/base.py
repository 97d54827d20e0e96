"""What the store keeps, and the few verbs to read and change it.

Control state is what the service shall do: models, the versions seen, aliases and their history, under one growing
revision. The prediction log is what it did. Both may lie in SQLite or in PostgreSQL; nothing here knows which.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from uuid_utils import UUID

from service.domain import CHAMPION, Loading, Precision, Ref, Wish

Aliases = dict[str, dict[str, int]]
"""Model -> alias -> version."""

Found = Mapping[str, Mapping[int, str]]
"""Model -> version -> digest of its weights: what lies on disk."""

Role = Literal["answered", "shadow"]


@dataclass(frozen=True, slots=True)
class State:
    """All aliases and wishes as they were at one revision.

    `wishes` has the versions of which something else than the default is wanted. `deleted` versions are served no
    more, and their numbers are not used again; `to_remove` are those of them whose files may still be there.
    """

    revision: int
    aliases: Aliases
    wishes: Mapping[Ref, Wish] = field(default_factory=dict)
    deleted: frozenset[Ref] = frozenset()
    to_remove: frozenset[Ref] = frozenset()


@dataclass(frozen=True, slots=True)
class WishChange:
    """What an operator wants changed of a wish; None leaves it.

    `load` makes auto of unloaded, and leaves what is pinned so. `reload` has it loaded anew, and so has a precision
    that it did not have. With `in_use_too` a version may be unloaded that an alias names.
    """

    loading: Loading | None = None
    replicas: int | None = None
    precision: Precision | None = None
    load: bool = False
    reload: bool = False
    in_use_too: bool = False


@dataclass(frozen=True, slots=True)
class AliasMove:
    """An alias got another version. `previous` is None where it was new; `time` in seconds since 1970."""

    model: str
    alias: str
    version: int
    previous: int | None
    actor: str
    reason: str
    time: float
    revision: int


class Record(NamedTuple):
    """One prediction as it was made. `latency` in seconds, from the request's arrival to its answer.

    `role` shadow: computed beside the prediction `paired_with`, and never returned. `propensity` is the probability
    with which routing chose this version. A tuple, because every prediction makes one in each of two processes, and a
    frozen dataclass takes several times as long to make and to encode.
    """

    id: str
    model: str
    version: int
    digest: str
    outputs: Mapping[str, Any]
    latency: float
    principal: str
    request_id: str
    tags: Mapping[str, str]
    role: Role = "answered"
    paired_with: str | None = None
    propensity: float = 1.0
    external_id: str | None = None
    key: str | None = None

    @property
    def time(self) -> float:
        """When it was made, in seconds since 1970 and exact to the millisecond: its id says so."""
        return milliseconds_of(self.id) / 1000


@dataclass(frozen=True, slots=True)
class Filters:
    """Which records are wanted; None wants all. `since` (included) and `until` (excluded) in seconds since 1970."""

    model: str | None = None
    version: int | None = None
    external_id: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, the newest first. `cursor` asks for those after them; None where there are no more."""

    records: list[Record]
    cursor: str | None


class ControlReader(Protocol):
    """Each verb raises StoreUnavailable while the store can't be read."""

    def revision(self) -> int: ...

    def state(self) -> State: ...

    def aliases(self) -> Aliases: ...

    def history(self, model: str, *, limit: int = 100) -> list[AliasMove]:
        """The moves of a model's aliases, the newest first."""
        ...


class Control(ControlReader, Protocol):
    """Each change is one transaction that also raises the revision; what changes nothing raises nothing."""

    def move_alias(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove:
        """Let an alias name another version, with a row of history.

        Where it names that version already, the move that brought it there is returned. Raises UnknownModel,
        UnknownVersion, AliasMoved where it does not name the `expected` version, or VersionUnloaded.
        """
        ...

    def change_wish(self, ref: Ref, change: WishChange) -> Wish:
        """What is wanted of a version from now on.

        Raises UnknownModel, UnknownVersion, VersionInUse where a version that an alias names shall be unloaded, or
        VersionUnloaded where one that stays unloaded shall be loaded anew.
        """
        ...

    def delete_version(self, ref: Ref) -> None:
        """Serve a version no more. Raises UnknownModel, UnknownVersion, or VersionInUse where an alias names it."""
        ...

    def delete_model(self, model: str, numbers: Collection[int]) -> None:
        """Serve these versions of a model no more, and forget its aliases. Raises UnknownModel.

        Others that were seen keep their numbers: one may lie in a root that is not mounted now, and be nobody's to
        delete.
        """
        ...

    def note_removed(self, ref: Ref) -> None:
        """The files of a deleted version are gone."""
        ...

    def crown_new_models(self, found: Found) -> Aliases:
        """Remember the versions found on disk, and make the lowest of a model without a champion its champion.

        Versions that were deleted are none, whatever lies there.
        """
        ...

    def import_aliases(self, aliases: Aliases) -> None:
        """Take over aliases that were kept elsewhere, for models that have none here yet."""
        ...


class PredictionReader(Protocol):
    """Each verb raises StoreUnavailable while the store can't be read."""

    def get(self, prediction_id: str) -> Record | None: ...

    def list(self, filters: Filters, *, limit: int, cursor: str | None = None) -> Page: ...


class Predictions(PredictionReader, Protocol):
    """What the recorder alone may do."""

    def append(self, records: Sequence[Record]) -> None:
        """Make records durable, all or none; those whose id is there already are left as they are.

        Raises StoreUnavailable where trying again later may help.
        """
        ...

    def delete_older_than(self, time: float, *, limit: int) -> int:
        """Delete up to `limit` records that were made before `time`, the oldest first; how many there were."""
        ...


def champions(aliases: Aliases, found: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The lowest version of each model found that has no champion yet: the first version of a new model becomes it."""
    return {
        model: min(versions) for model, versions in found.items() if versions and CHAMPION not in aliases.get(model, {})
    }


def milliseconds_of(prediction_id: str) -> int:
    """When a UUIDv7 was made, in milliseconds since 1970: its first 48 bits."""
    return UUID(prediction_id).int >> 80


def lowest_id(time: float) -> str:
    """No UUIDv7 made at `time` (seconds since 1970) or later is lower than this, and none made before is higher."""
    milliseconds = min(max(round(time * 1000), 0), (1 << 48) - 1)
    return str(UUID(int=milliseconds << 80))
