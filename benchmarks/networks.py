"""The networks that are measured, as real checkpoints with random weights, and what is sent to them."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.reviews import Reviews

Format = Literal["binary", "json"]
MAX_BATCH = 32


@dataclass(frozen=True)
class Subject:
    """A network: everything of its manifest that is not its weights."""

    name: str
    family: str
    config: dict[str, Any]
    input: dict[str, Any]
    labels: tuple[str, ...]
    task: str = "multiclass"

    def row(self) -> NDArray[Any]:
        """The row that is asked for over and over: numbers in -1..1 of six digits, or ids that are not padding."""
        random = np.random.default_rng(7)
        if self.input["dtype"] == "int64":
            ids: NDArray[Any] = random.integers(1, self.config["vocabulary"], TOKENS[self.name])
            return ids
        # Six digits as people's JSON has them: 3 x 32 x 32 of them are 29 KB.
        numbers: NDArray[Any] = random.uniform(-1, 1, self.input["shape"]).round(6).astype(np.float32)
        return numbers


TOKENS = {"lstm": 100, "transformer": 128}
_IDS = {"kind": "tensor", "shape": [-1], "dtype": "int64", "max_length": 512, "minimum": 0, "maximum": 19_999}

SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject(
            "cnn",
            "cnn",
            {"input": [3, 32, 32], "blocks": [{"channels": 32}, {"channels": 64}], "dense": [128], "outputs": 10},
            {"kind": "tensor", "shape": [3, 32, 32], "dtype": "float32"},
            tuple("0123456789"),
        ),
        Subject(
            "lstm",
            "recurrent",
            {"cell": "lstm", "vocabulary": 20_000, "embedding": 128, "hidden": 256, "layers": 2, "outputs": 2},
            _IDS,
            ("0", "1"),
        ),
        Subject(
            "transformer",
            "transformer",
            {
                "vocabulary": 20_000,
                "width": 256,
                "layers": 4,
                "heads": 8,
                "feedforward": 1024,
                "max_length": 512,
                "norm": "pre",
                "activation": "gelu",
                "outputs": 4,
            },
            _IDS,
            ("0", "1", "2", "3"),
        ),
    )
}


@dataclass(frozen=True)
class Case:
    """A network and the form in which its row is sent."""

    name: str
    subject: Subject
    format: Format

    def folder(self, networks: Path) -> Path:
        """Its checkpoint, among those that were written to `networks`."""
        return networks / self.subject.name / "1"


CASES = {
    case.name: case
    for case in (
        Case("cnn_binary", SUBJECTS["cnn"], "binary"),
        Case("cnn_json", SUBJECTS["cnn"], "json"),
        Case("lstm", SUBJECTS["lstm"], "binary"),
        Case("transformer", SUBJECTS["transformer"], "binary"),
    )
}


@dataclass(frozen=True)
class Request:
    """What is asked: a POST of `body` to `path`, and then of each of `others`, over and over."""

    path: str
    content_type: str
    body: bytes
    others: tuple[bytes, ...] = ()

    @property
    def bodies(self) -> tuple[bytes, ...]:
        return self.body, *self.others


def in_turn(path: str, content_type: str, bodies: Iterable[bytes]) -> Request:
    """One body after another; there must be one."""
    body, *others = bodies
    return Request(path, content_type, body, tuple(others))


def as_npy(row: NDArray[Any]) -> bytes:
    """The file that numpy.save writes."""
    file = io.BytesIO()
    np.save(file, row)
    return file.getvalue()


def nested(row: NDArray[Any]) -> Any:
    """Lists of the row's numbers, float32 ones with the six digits that they were made with."""
    return np.round(row.astype(np.float64), 6).tolist() if row.dtype == np.float32 else row.tolist()


def our_request(case: Case | Reviews) -> Request:
    """What Servoloop is asked."""
    if isinstance(case, Reviews):
        return in_turn(f"/v1/models/{case.model}/predict", "text/plain", (text.encode() for text in case.texts))
    row, path = case.subject.row(), f"/v1/models/{case.subject.name}/predict"
    if case.format == "binary":
        return Request(path, "application/x-npy", as_npy(row))
    body = json.dumps({"instances": [nested(row)]}, separators=(",", ":"))
    return Request(path, "application/json", body.encode())


def write_checkpoints(root: Path) -> None:
    """Write `<root>/<name>/1/` for every network, with the same random weights each time."""
    import torch  # not at the top: whoever only sends requests does not need it

    from models import checkpoint
    from models.architectures import build

    for subject in SUBJECTS.values():
        torch.manual_seed(11)
        network = build(subject.family, subject.config)
        fields = {
            "model": subject.name,
            "version": 1,
            "description": "Random weights, to measure speed.",
            "architecture": {"family": subject.family, "config": subject.config},
            "task": subject.task,
            "input": subject.input,
            "labels": list(subject.labels),
        }
        checkpoint.write(root / subject.name / "1", fields, network, dtype="float32")
