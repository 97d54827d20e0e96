"""What an engine is running at this moment, in shared memory: it is there to be read when the engine is not.

    lanes u32 | rows u32, of a lane at most | told to stop u8, 7 zeros
    for each lane: sequence u64 | header | digest 16 bytes | version 96 bytes | (request id u64, row u32) ...

Each of the engine's threads that compute has a lane, and writes it before each run; the last lane is the loader's. The
supervisor reads them, while the engine lives to see whether a run takes too long, and after its death to see what it
died of. A lane's sequence is odd while something is written.
"""

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Self

from service.domain import Ref

_SIZES = struct.Struct("<II")
_SEQUENCE = struct.Struct("<Q")
_HEADER = struct.Struct("<B3xIdd16s96s")
_ROW = struct.Struct("<QI")
_TOLD_AT, _LANES_AT = 8, 16
_ROWS_AT = _SEQUENCE.size + _HEADER.size

RowId = tuple[int, int]
"""The id of a request, and the number of one of its rows."""


class Doing(IntEnum):
    """What a thread that computes is at."""

    NOTHING = 0
    BATCH = 1
    LOAD = 2


@dataclass(frozen=True, slots=True)
class Running:
    """A run on the device: since when (monotonic clock), and what it is expected to take, in seconds.

    `digest` names the input where it is the only one and was suspected before; it is empty otherwise.
    """

    doing: Doing
    ref: Ref
    started: float
    predicted: float = 0.0
    rows: tuple[RowId, ...] = ()
    digest: bytes = b""


class BlackBox:
    """Written by one process, each lane by one thread, and read by another. A context manager: it closes its memory."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self.lanes, max_rows = _SIZES.unpack_from(memory)
        self._lanes = [_Lane(memory, _LANES_AT + lane * _lane_bytes(max_rows), max_rows) for lane in range(self.lanes)]

    @staticmethod
    def create(path: Path, max_rows: int, lanes: int = 1) -> "BlackBox":
        """A new one, for so many runs at once of at most so many rows."""
        head = _SIZES.pack(lanes, max_rows)
        path.write_bytes(head + bytes(_LANES_AT - len(head) + lanes * _lane_bytes(max_rows)))
        return BlackBox.open(path)

    @staticmethod
    def open(path: Path) -> "BlackBox":
        """One that another process made. Raises OSError where there is none."""
        with path.open("r+b") as file:
            return BlackBox(mmap.mmap(file.fileno(), 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._memory.close()

    def write(self, running: Running | None, lane: int = 0) -> None:
        """Say what runs in a lane from now on; None is nothing."""
        self._lanes[lane].write(running)

    def stopping(self) -> None:
        """Say that this process was told to stop: its end, whenever it comes, is nobody's fault. From any thread."""
        self._memory[_TOLD_AT] = 1

    def read(self) -> tuple[Running, ...]:
        """What runs, in the order of the lanes."""
        return tuple([running for lane in self._lanes if (running := lane.read()) is not None])

    @property
    def was_told_to_stop(self) -> bool:
        return bool(self._memory[_TOLD_AT])


def _lane_bytes(max_rows: int) -> int:
    return -(-(_ROWS_AT + max_rows * _ROW.size) // _SEQUENCE.size) * _SEQUENCE.size


class _Lane:
    """The part of a box that one thread writes."""

    def __init__(self, memory: mmap.mmap, start: int, max_rows: int) -> None:
        self._memory = memory
        self._start = start
        self._end = start + _lane_bytes(max_rows)
        self._max_rows = max_rows
        self._sequence = 0

    def write(self, running: Running | None) -> None:
        if running is None:
            self._write(_HEADER.pack(Doing.NOTHING, 0, 0.0, 0.0, b"", b""), ())
            return
        rows = running.rows[: self._max_rows]
        header = _HEADER.pack(
            *(running.doing, len(rows), running.started, running.predicted, running.digest),
            str(running.ref).encode(),
        )
        self._write(header, rows)

    def read(self) -> Running | None:
        """What runs; None for nothing, and where this changes while it is read."""
        (before,) = _SEQUENCE.unpack_from(self._memory, self._start)
        content = self._memory[self._start + _SEQUENCE.size : self._end]
        (after,) = _SEQUENCE.unpack_from(self._memory, self._start)
        if before != after or before % 2:
            return None
        try:
            return self._parse(content)
        except ValueError:  # what the engine died of had written over its memory
            return None

    def _write(self, header: bytes, rows: Sequence[RowId]) -> None:
        self._sequence += 2
        _SEQUENCE.pack_into(self._memory, self._start, self._sequence - 1)
        content, at = header + b"".join([_ROW.pack(*row) for row in rows]), self._start + _SEQUENCE.size
        self._memory[at : at + len(content)] = content
        _SEQUENCE.pack_into(self._memory, self._start, self._sequence)

    def _parse(self, content: bytes) -> Running | None:
        """Raises ValueError for what was never written here."""
        doing, num_rows, started, predicted, digest, name = _HEADER.unpack_from(content)
        if doing == Doing.NOTHING:
            return None
        if num_rows > self._max_rows:
            raise ValueError(f"{num_rows} rows in a lane of {self._max_rows}")
        ref = Ref.parse(name.rstrip(b"\0").decode())
        rows = tuple(_ROW.iter_unpack(content[_HEADER.size : _HEADER.size + num_rows * _ROW.size]))
        return Running(Doing(doing), ref, started, predicted, rows, digest if any(digest) else b"")
