"""What waits to become durable: pure bookkeeping, bounded in records and in bytes."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

from service.store.base import Input

_GATHER_SECONDS, _LEAST_GATHER_SECONDS = 0.035, 0.005
# What gathering and a commit may take together; another commit may run before.
_DURABLE_SECONDS = 0.07


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """Bounds of the records that one process holds, and of those that it sends at once.

    The default holds some seconds of full load while the recorder is replaced. `full_group_records` is how many are
    worth a commit of their own, and wait for no others.
    """

    max_records: int = 50_000
    max_bytes: int = 64 << 20
    max_group_records: int = 1_000
    full_group_records: int = 400
    max_groups_sent: int = 4

    def __post_init__(self) -> None:
        if min(astuple(self)) < 1:
            raise ValueError(f"the log's bounds must be positive, got {self}")


class Offer(NamedTuple):
    """A record, encoded, and the input that is kept with it."""

    record: bytes
    input: Input | None = None

    @property
    def num_bytes(self) -> int:
        return len(self.record) + (0 if self.input is None else len(self.input.data))


@dataclass(frozen=True, slots=True)
class Group:
    """What is sent together; `offered` is when the oldest was, on the queue's clock."""

    number: int
    offers: Sequence[Offer]
    offered: float


class RecordQueue:
    """Records leave only when they are acknowledged: until then they count, and may be sent again."""

    def __init__(self, policy: LogPolicy, clock: Callable[[], float]) -> None:
        self._policy = policy
        self._clock = clock
        self._waiting: deque[tuple[Offer, float]] = deque()
        self._sent: dict[int, Group] = {}
        self._unsent: deque[Group] = deque()
        self._next_number = 0
        self._num_bytes = 0
        self._num_records = 0

    def __len__(self) -> int:
        """Records that are not acknowledged."""
        return self._num_records

    def offer(self, offer: Offer) -> bool:
        """Take a record in, or say that there is no room for it."""
        policy = self._policy
        if self._num_records >= policy.max_records or self._num_bytes + offer.num_bytes > policy.max_bytes:
            return False
        self._waiting.append((offer, self._clock()))
        self._num_records += 1
        self._num_bytes += offer.num_bytes
        return True

    @property
    def has_room_for_inputs(self) -> bool:
        """Half of the room is for records alone: they are what must not be lost."""
        return 2 * self._num_bytes <= self._policy.max_bytes

    @property
    def has_full_group(self) -> bool:
        """Whether `take` would give enough records to be worth a commit."""
        policy = self._policy
        return len(self._waiting) >= policy.full_group_records and len(self._sent) < policy.max_groups_sent

    def take(self) -> Iterator[Group]:
        """What shall be sent now: as many groups as may be under way at a time, the oldest first."""
        while len(self._sent) < self._policy.max_groups_sent and (self._unsent or self._waiting):
            group = self._unsent.popleft() if self._unsent else self._gather()
            self._sent[group.number] = group
            yield group

    def acknowledge(self, number: int) -> Group | None:
        """Let go of a group; None where it is not under way."""
        group = self._sent.pop(number, None)
        if group is not None:
            self._num_records -= len(group.offers)
            self._num_bytes -= sum(offer.num_bytes for offer in group.offers)
        return group

    def lose(self) -> None:
        """The connection is gone: what was under way will be sent again."""
        self._unsent.extendleft(reversed(self._sent.values()))
        self._sent.clear()

    def _gather(self) -> Group:
        count = min(len(self._waiting), self._policy.max_group_records)
        taken = [self._waiting.popleft() for _ in range(count)]
        self._next_number += 1
        return Group(self._next_number, [offer for offer, _ in taken], taken[0][1])


class Pace:
    """For how many `seconds` records gather before they are sent.

    A commit costs as much as a hundred records do: the longer they gather, the less they cost. But all shall be durable
    within 100 ms. On a busy machine much of that goes by before a commit ends, and as much may before it begins, while
    another one runs: the longer the last group took, the shorter the next ones gather.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sent: dict[int, float] = {}
        self.seconds = _GATHER_SECONDS

    def sent(self, number: int) -> None:
        """A group left."""
        self._sent[number] = self._clock()

    def acknowledged(self, number: int) -> None:
        """It is durable now."""
        took = self._clock() - self._sent.pop(number)
        self.seconds = min(max(_DURABLE_SECONDS - took, _LEAST_GATHER_SECONDS), _GATHER_SECONDS)

    def lost(self) -> None:
        """What was under way will be sent again."""
        self._sent.clear()
