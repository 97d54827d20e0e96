"""What `servoloop serve` says when it is ready: where it is, what it serves, and lines to try it with."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

import service
from models.inputs import Column, ColumnsInput, ImageInput, TensorInput, TextInput
from models.preprocess.numeric import Standardize
from models.samples import sample_rows
from service.cli.output import headline
from service.registry.catalog import Catalog, Model, Version
from service.serving.contracts import describe

EXAMPLE_FOLDERS = (Path("examples"), Path(service.__file__).parent.parent / "examples")
_EXAMPLE_IMAGE = "ankle-boot.png"
# A PNG of one grey pixel: images of any size are fitted to the model's.
_GREY_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mOoBwAAgQCAfhwpxwAAAABJRU5ErkJggg=="
_SENTENCE = "A wonderful film with a great cast."
_MOST_NUMBERS = 64


def show(console: Console, url: str, catalog: Catalog) -> None:
    """Print it all, and at once: whoever reads a pipe waits for it."""
    console.print(f"Servoloop answers on {url}", style="bold", soft_wrap=True)
    if catalog.models or catalog.broken:
        console.print(overview(catalog))
    for line in suggestions(url, catalog):
        console.print(line, markup=False, soft_wrap=True)
    console.file.flush()


def overview(catalog: Catalog) -> Table:
    """One row a version, and one for each checkpoint that can't be served."""
    table = Table("model", "version", "task", "held-out metric", "state")
    for version in catalog.versions():
        table.add_row(*_row(version, catalog.models[version.ref.model]))
    for broken in catalog.broken:
        table.add_row(broken.model, broken.version, "", "", Text(f"broken: {broken.reason}", "red"))
    return table


def suggestions(url: str, catalog: Catalog, folders: Sequence[Path] = EXAMPLE_FOLDERS) -> list[str]:
    """Lines for a shell that ask each model something it takes, and where the documentation is."""
    if not catalog.models:
        return ["There are no models yet: servoloop register MODEL --weights FILE --manifest FILE"]
    questions = [f"  {_curl(url, model, folders)}" for model in catalog.models.values() if model.champion is not None]
    return ["", "Try:", *questions, "", f"All routes, with a form to try them: {url}/docs"]


def _row(version: Version, model: Model) -> tuple[str, str, str, str, str]:
    manifest = version.manifest
    metrics = {name: metric.model_dump() for name, metric in manifest.metrics.items()}
    state = "champion" if model.champion is version else "served"
    return model.name, str(version.ref.version), manifest.task, headline(metrics), state


def _curl(url: str, model: Model, folders: Sequence[Path]) -> str:
    question = _question(model.example, folders)
    if question is None:
        return f"# {model.name} takes {describe(model.contract)}: servoloop predict {model.name} FILE.npy --url {url}"
    return shlex.join(["curl", "-s", f"{url}/v1/models/{model.name}/predict", *question])


def _question(version: Version, folders: Sequence[Path]) -> list[str] | None:
    """Arguments of curl; None where a row is too large for a line."""
    contract = version.manifest.input
    match contract:
        case TextInput():
            return ["-H", "Content-Type: text/plain", "--data", _SENTENCE[: contract.max_characters]]
        case ImageInput():
            image = next((folder / _EXAMPLE_IMAGE for folder in folders if (folder / _EXAMPLE_IMAGE).is_file()), None)
            if image is None:
                return _json({"image": _GREY_PIXEL})
            return ["-H", "Content-Type: image/png", "--data-binary", f"@{image}"]
        case ColumnsInput():
            numbers = zip(contract.names, _typical_row(version, contract), strict=True)
            return _json({"columns": {name: int(x) if x.is_integer() else x for name, x in numbers}})
        case TensorInput():
            [row] = sample_rows(contract, 1)
            assert not isinstance(row, str)
            return _json(row.tolist()) if row.size <= _MOST_NUMBERS else None


def _typical_row(version: Version, contract: ColumnsInput) -> list[float]:
    """What was usual in training, where the steps tell; else the middle of each column's range."""
    match version.manifest.preprocess:
        case [Standardize(mean=mean), *_] if len(mean) == len(contract.columns):
            return [_within(column, float(f"{x:.4g}")) for column, x in zip(contract.columns, mean, strict=True)]
        case _:
            [row] = sample_rows(contract, 1)
            return [float(x) for x in row]


def _within(column: Column, x: float) -> float:
    low = -math.inf if column.minimum is None else column.minimum
    high = math.inf if column.maximum is None else column.maximum
    return min(max(x, low), high)


def _json(instance: Any) -> list[str]:
    return ["-H", "Content-Type: application/json", "--data", orjson.dumps({"instances": [instance]}).decode()]
