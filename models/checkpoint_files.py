"""Whether a checkpoint's files are what its manifest says: digests, sizes, the header of the weights. Without torch."""

import hashlib
import math
import os
from pathlib import Path
from typing import Any

from models import strict_json
from models.manifest import MANIFEST, MAX_MANIFEST_BYTES, WEIGHTS, BrokenCheckpoint, Manifest, parse_manifest

_DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
# A hundred bytes a tensor: more than the largest networks have.
_MAX_HEADER_BYTES = 16 << 20


class CheckpointFiles:
    """The files of one checkpoint folder, read only as far as its manifest vouches for them."""

    def __init__(self, folder: Path) -> None:
        """Raises BrokenCheckpoint where the manifest is missing, too large, or wrong."""
        self.folder = folder
        data = self._bytes(MANIFEST, MAX_MANIFEST_BYTES)
        self.identity = hashlib.sha256(data).hexdigest()
        """The sha256 of the manifest's bytes; since the manifest names its files' digests, that of the checkpoint."""
        self.manifest = parse_manifest(data)

    def verify(self) -> int:
        """Check everything that can be checked without building the network; the number of its weights' elements.

        Raises BrokenCheckpoint.
        """
        for name in self.manifest.files:
            if name != WEIGHTS:
                self.read(name)
        return sum(math.prod(shape) for _, shape in check_safetensors(self.read(WEIGHTS)).values())

    def read(self, name: str) -> bytes:
        """The bytes of a declared file, checked against its size and digest. Raises BrokenCheckpoint."""
        entry = self.manifest.files.get(name)
        if entry is None:
            raise BrokenCheckpoint(f"{name} is not declared in {MANIFEST}")
        data = self._bytes(name, entry.size)
        if len(data) != entry.size:
            raise BrokenCheckpoint(f"{name} has {len(data)} bytes, {MANIFEST} says {entry.size}")
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise BrokenCheckpoint(f"{name} is not the file that {MANIFEST} names: its sha256 differs")
        return data

    def _bytes(self, name: str, limit: int) -> bytes:
        path = self.folder / name
        if path.is_symlink() and _resolve(path).parent != self.folder.resolve():
            raise BrokenCheckpoint(f"{name} is a link that leads out of the checkpoint")
        if path.exists() and not path.is_file():
            raise BrokenCheckpoint(f"{name} is no regular file")  # opening a pipe would wait for its writer
        try:
            with path.open("rb") as file:
                # Never ask for what a manifest claims: the claim may be past all memory. So may a file with holes.
                size = os.fstat(file.fileno()).st_size
                if min(limit, size) > _memory_bytes():
                    raise BrokenCheckpoint(f"{name} has {size} bytes, more than this machine's memory")
                data = file.read(min(limit, size) + 1)
        except FileNotFoundError:
            raise BrokenCheckpoint(f"{name} is missing") from None
        except OSError as error:
            raise BrokenCheckpoint(f"{name} can't be read: {error.strerror}") from None
        if len(data) > limit:
            raise BrokenCheckpoint(f"{name} is larger than the {limit} bytes expected")
        return data


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _resolve(path: Path) -> Path:
    """Where a link leads. Raises BrokenCheckpoint where it leads nowhere."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # links that lead to one another, by Python's version
        raise BrokenCheckpoint(f"{path.name} is a link that leads nowhere") from None


def verify(folder: Path) -> Manifest:
    """Check everything that can be checked without building the network. Raises BrokenCheckpoint."""
    files = CheckpointFiles(folder)
    files.verify()
    return files.manifest


def check_safetensors(data: bytes) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Check a safetensors file's header against its bytes: every tensor inside, none overlapping, nothing left over.

    Returns name -> (dtype, shape). Raises BrokenCheckpoint.
    """
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, _MAX_HEADER_BYTES):
        raise BrokenCheckpoint(f"{WEIGHTS}: the header's length points past the end of the file")
    try:
        header = strict_json.loads(data[8 : 8 + size])
    except ValueError as error:
        raise BrokenCheckpoint(f"{WEIGHTS}: this is no safetensors file, its header is {error}") from None
    if not isinstance(header, dict):
        raise BrokenCheckpoint(f"{WEIGHTS}: the header is no JSON object")
    header.pop("__metadata__", None)
    tensors = {name: _tensor(name, entry) for name, entry in header.items()}
    end = 0
    for name, (_, _, begin, stop) in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if begin != end:
            raise BrokenCheckpoint(f"{WEIGHTS}: {name} begins at byte {begin} where {end} was expected")
        end = stop
    if end != len(data) - 8 - size:
        raise BrokenCheckpoint(f"{WEIGHTS}: tensors end at byte {end}, the data at {len(data) - 8 - size}")
    return {name: (dtype, shape) for name, (dtype, shape, _, _) in tensors.items()}


def _tensor(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    try:
        dtype, shape, (begin, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        width = _DTYPE_BYTES[dtype]
    except (KeyError, TypeError, ValueError):
        raise BrokenCheckpoint(f"{WEIGHTS}: the header's entry for {name} is malformed") from None
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, stop)):
        raise BrokenCheckpoint(f"{WEIGHTS}: the header's numbers for {name} are not whole and positive")
    count = width
    for dimension in shape:
        count *= dimension
    if stop - begin != count:
        raise BrokenCheckpoint(f"{WEIGHTS}: {name} spans {stop - begin} bytes, its shape and dtype need {count}")
    return dtype, shape, begin, stop
