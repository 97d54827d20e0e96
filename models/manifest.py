"""What a checkpoint says of itself.

A checkpoint is the folder `<root>/<model>/<version>/`; docs/checkpoints.md describes it for those who write one.
"""

import hashlib
import re
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from models import strict_json
from models.inputs import InputContract
from models.preprocess import Step
from models.preprocess.text import FileName, Tokenize, Vocabulary
from models.problems import problems

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
MAX_MANIFEST_BYTES = 4 << 20
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

_NAME = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")
_VERSION = re.compile(r"[1-9][0-9]{0,8}\Z")

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Task = Literal["multiclass", "binary", "multilabel", "regression", "embedding"]

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
    """A measured figure with its interval, or none and the reason why there is none."""

    value: FiniteFloat | None = None
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    n: Annotated[int, Field(ge=0)]
    reason: str | None = None


class FileEntry(_Value):
    """What a file of the checkpoint must be."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]

    @staticmethod
    def of(data: bytes) -> "FileEntry":
        """What a manifest says of a file with these bytes."""
        return FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data))


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
        return orjson.dumps(self.model_dump(exclude_none=True), option=options)


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
        raise BrokenCheckpoint(f"{MANIFEST}: {problems(error)[0]}") from None
