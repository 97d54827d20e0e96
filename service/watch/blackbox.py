"""What an engine is running at this moment, in shared memory: it is there to be read when the engine is not.

    sequence u64 | told to stop u8, 7 zeros | header | digest 16 bytes | version 96 bytes
    | (request id u64, row u32) ...

The engine's device thread writes it before each run; the supervisor reads it, while the engine lives to see whether a
run takes too long, and after its death to see what it died of. The sequence is odd while something is written.
"""

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Self

from service.domain import Ref

_SEQUENCE = struct.Struct("<Q")
_HEADER = struct.Struct("<B3xIdd16s96s")
_ROW = struct.Struct("<QI")
_TOLD_AT, _HEADER_AT = 8, 16
_START = _HEADER_AT + _HEADER.size
_ATTEMPTS = 100

RowId = tuple[int, int]
"""The id of a request, and the number of one of its rows."""


class Doing(IntEnum):
    """What the device's thread is at."""

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
    """Written by one thread of one process, read by another process. A context manager that closes its memory."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._max_rows = (len(memory) - _START) // _ROW.size
        self._sequence = 0

    @staticmethod
    def create(path: Path, max_rows: int) -> "BlackBox":
        """A new one, for batches of at most so many rows."""
        path.write_bytes(bytes(_START + max_rows * _ROW.size))
        return BlackBox.open(path)

    @staticmethod
    def open(path: Path) -> "BlackBox":
        """One that another process made. Raises OSError where there is none."""
        with path.open("r+b") as file:
            return BlackBox(mmap.mmap(file.fileno(), 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.close()

    def write(self, running: Running | None) -> None:
        """Say what runs from now on; None is nothing."""
        if running is None:
            self._write(_HEADER.pack(Doing.NOTHING, 0, 0.0, 0.0, b"", b""), ())
            return
        rows = running.rows[: self._max_rows]
        header = _HEADER.pack(
            *(running.doing, len(rows), running.started, running.predicted, running.digest),
            str(running.ref).encode(),
        )
        self._write(header, rows)

    def stopping(self) -> None:
        """Say that this process was told to stop: its end, whenever it comes, is nobody's fault. From any thread."""
        self._memory[_TOLD_AT] = 1

    def read(self) -> Running | None:
        """What runs; None for nothing."""
        for _ in range(_ATTEMPTS):
            before = _SEQUENCE.unpack_from(self._memory)
            running = self._read()
            if before == _SEQUENCE.unpack_from(self._memory) and before[0] % 2 == 0:
                return running
        return None  # it died, or was stopped, between two runs

    @property
    def was_told_to_stop(self) -> bool:
        return bool(self._memory[_TOLD_AT])

    def _write(self, header: bytes, rows: Sequence[RowId]) -> None:
        self._sequence += 2
        _SEQUENCE.pack_into(self._memory, 0, self._sequence - 1)
        content = header + b"".join([_ROW.pack(*row) for row in rows])
        self._memory[_HEADER_AT : _HEADER_AT + len(content)] = content
        _SEQUENCE.pack_into(self._memory, 0, self._sequence)

    def _read(self) -> Running | None:
        doing, num_rows, started, predicted, digest, name = _HEADER.unpack_from(self._memory, _HEADER_AT)
        model, _, version = name.rstrip(b"\0").decode().partition("/")
        if doing not in (Doing.BATCH, Doing.LOAD) or num_rows > self._max_rows or not version.isdigit():
            return None
        rows = tuple(_ROW.iter_unpack(self._memory[_START : _START + num_rows * _ROW.size]))
        return Running(Doing(doing), Ref(model, int(version)), started, predicted, rows, digest if any(digest) else b"")
