"""What a checkpoint says of itself, and whether that is true: schema, digests, sizes, safetensors header.

A checkpoint is the folder `<root>/<model>/<version>/`; docs/checkpoints.md describes it for those who write one.
"""

import hashlib
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from models import strict_json
from models.preprocess import Step
from models.preprocess.text import FileName, Tokenize, Vocabulary

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
MAX_MANIFEST_BYTES = 4 << 20
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

_NAME = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")
_VERSION = re.compile(r"[1-9][0-9]{0,8}\Z")

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Task = Literal["multiclass", "binary", "multilabel", "regression", "embedding"]


# The whole numbers up to here are exact as float64, which bounds are.
_EXACT = 1 << 53
# Of a row, or of a step of a sequence: 256 MB.
_MOST_ELEMENTS = 1 << 26


_LONGEST_REASON = 2000


class BrokenCheckpoint(ValueError):
    """A checkpoint that must not be served; the text is its reason."""

    def __init__(self, reason: str) -> None:
        # A reason quotes the checkpoint, which may be megabytes of one word.
        super().__init__(reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]}...")


def is_name(text: str) -> bool:
    """Whether `text` may name a model or an alias."""
    return _NAME.match(text) is not None


def parse_version(text: str) -> int | None:
    """The version number that `text` spells, or None: versions are positive whole numbers without leading zeros."""
    return int(text) if _VERSION.match(text) else None


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageInput(_Value):
    """Pixels 0..255 of one picture. Files of other sizes are brought to this one as `fit` says."""

    kind: Literal["image"] = "image"
    channels: Literal[1, 3]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    fit: Literal["stretch", "contain", "cover"] = "stretch"

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.height, self.width)


class TextInput(_Value):
    """One text."""

    kind: Literal["text"] = "text"
    max_characters: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000


class TensorInput(_Value):
    """Numbers of one shape; a first dimension of -1 is a sequence of any length up to `max_length`."""

    kind: Literal["tensor"] = "tensor"
    shape: Annotated[list[int], Field(min_length=1, max_length=6)]
    dtype: Literal["float32", "int64"] = "float32"
    max_length: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    minimum: FiniteFloat | None = None
    maximum: FiniteFloat | None = None

    @model_validator(mode="after")
    def _dimensions(self) -> Self:
        first, *others = self.shape
        if (first < 1 and first != -1) or any(size < 1 for size in others):
            raise ValueError(f"shape {self.shape}: sizes are positive, and only the first may be -1")
        if math.prod(others, start=1 if first == -1 else first) > _MOST_ELEMENTS:
            raise ValueError(f"shape {self.shape}: a row, or a step, has more than {_MOST_ELEMENTS} numbers")
        if self.dtype == "int64" and (self.minimum is None or self.maximum is None):
            raise ValueError("whole numbers are ids and need a minimum and a maximum, or one could lie outside a table")
        if self.dtype == "int64" and max(abs(self.minimum or 0), abs(self.maximum or 0)) > _EXACT:
            raise ValueError(f"bounds of whole numbers must lie within +-{_EXACT}, where floats are exact")
        return self

    @property
    def variable(self) -> bool:
        return self.shape[0] == -1


class Column(_Value):
    """One named number, with the range in which values are plausible."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    minimum: FiniteFloat | None = None
    maximum: FiniteFloat | None = None
    unit: str | None = None


class ColumnsInput(_Value):
    """Named numbers."""

    kind: Literal["columns"] = "columns"
    columns: Annotated[list[Column], Field(min_length=1, max_length=4096)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.names)) != len(self.columns):
            raise ValueError("column names must differ")
        return self

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


InputContract = Annotated[ImageInput | TextInput | TensorInput | ColumnsInput, Field(discriminator="kind")]


class Architecture(_Value):
    """A family and its configuration; models.architectures knows what it means."""

    family: Name
    config: dict[str, Any]


class Target(_Value):
    """What a regression predicts: value = output * std + mean."""

    name: str
    unit: str | None = None
    mean: FiniteFloat = 0.0
    std: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


class Metric(_Value):
    """A measured figure with its interval, or null and the reason why there is none."""

    value: FiniteFloat | None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n: Annotated[int, Field(ge=0)]
    reason: str | None = None


class FileEntry(_Value):
    """What a file of the checkpoint must be."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class Manifest(_Value):
    """manifest.json."""

    schema_version: Literal[1] = 1
    model: Name
    version: Annotated[int, Field(ge=1, lt=1_000_000_000)]
    description: str = ""
    architecture: Architecture
    task: Task
    input: InputContract
    preprocess: Annotated[list[Step], Field(max_length=64)] = []
    labels: list[str] = []
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    target: Target | None = None
    metrics: dict[str, Metric] = {}
    lineage: dict[str, Any] = {}
    files: dict[FileName, FileEntry]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        least = {"multiclass": 2, "binary": 2, "multilabel": 1, "regression": 0, "embedding": 0}[self.task]
        exactly = self.task in ("binary", "regression", "embedding")
        if len(self.labels) < least or (exactly and len(self.labels) != least):
            want = f"{'exactly' if exactly else 'at least'} {least}"
            raise ValueError(f"task {self.task} needs {want} labels, got {len(self.labels)}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ")
        if self.task == "regression" and self.target is None:
            raise ValueError("task regression needs a target")
        is_text, takes_text = (
            self.input.kind == "text",
            bool(self.preprocess) and _takes_text(self.preprocess[0]),
        )
        if is_text != takes_text:
            raise ValueError(
                "a text input needs tokenize or vocabulary as its first step, and only a text input has one"
            )
        missing = {WEIGHTS, *self.preprocess_files} - self.files.keys()
        if missing:
            raise ValueError(f"files lacks {', '.join(sorted(missing))}")
        if MANIFEST in self.files:
            raise ValueError(f"files can't hold {MANIFEST} itself")
        return self

    @property
    def preprocess_files(self) -> list[str]:
        """The files that preprocessing reads."""
        return [step.file for step in self.preprocess if isinstance(step, Tokenize | Vocabulary)]

    @property
    def digest(self) -> str:
        """Names the weights: the sha256 of their file."""
        return self.files[WEIGHTS].sha256

    @property
    def num_outputs(self) -> int | None:
        """How many numbers the network must give for a row; None where any will do (embedding)."""
        return {
            "multiclass": len(self.labels),
            "binary": 1,
            "multilabel": len(self.labels),
            "regression": 1,
        }.get(self.task)

    def to_json(self) -> bytes:
        """Bytes of manifest.json: stable key order, readable."""
        options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(self.model_dump(mode="json", exclude_none=True), option=options)


def _takes_text(step: Any) -> bool:
    return isinstance(step, Tokenize | Vocabulary)


def parse_manifest(data: bytes) -> Manifest:
    """Parse manifest.json. Raises BrokenCheckpoint with the first wrong field."""
    try:
        document = strict_json.loads(data)
    except ValueError as error:
        raise BrokenCheckpoint(f"{MANIFEST} is {error}") from None
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BrokenCheckpoint(f"{MANIFEST}: {where + ': ' if where else ''}{first['msg']}") from None


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
        num_elements = 0
        for name in self.manifest.files:
            data = self.read(name)
            if name == WEIGHTS:
                num_elements = sum(math.prod(shape) for _, shape in check_safetensors(data).values())
        return num_elements

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


_DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
# A hundred bytes a tensor: more than the largest networks have.
_MAX_HEADER_BYTES = 16 << 20


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
