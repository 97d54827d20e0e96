"""Files of labelled rows: lines of JSON, CSV, or numpy's .npz."""

import csv
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servoloop import Model

Row = tuple[Any, Any]
"""An instance, as the client takes it, and its label."""

_LABEL = "label"
# With or without the mark that Excel begins a file with.
_ENCODING = "utf-8-sig"


def read_labelled(path: Path, model: "Model") -> list[Row]:
    """The rows of a file, for this model. Raises OSError, or ValueError that says what is wrong and where."""
    match path.suffix.lower():
        case ".csv":
            rows = list(_from_csv(path, model))
        case ".npz":
            rows = _from_npz(path, model)
        case ".ndjson" | ".jsonl" | ".json":
            rows = list(_from_lines(path))
        case ending:
            raise ValueError(f"expected .ndjson, .jsonl, .csv or .npz, got {ending or 'no ending'}")
    if not rows:
        raise ValueError("there are no rows in it")
    return rows


def _from_lines(path: Path) -> Iterator[Row]:
    with path.open(encoding=_ENCODING) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                yield row["instance"], row[_LABEL]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f'line {number} is not {{"instance": ..., "label": ...}}') from None


def _from_csv(path: Path, model: "Model") -> Iterator[Row]:
    """Texts have one column beside the label, columns their own."""
    is_text, is_number = model.input["kind"] == "text", model.task == "regression"
    with path.open(encoding=_ENCODING, newline="") as file:
        reader = csv.DictReader(file)
        header = list(reader.fieldnames or [])
        names = [name for name in header if name != _LABEL]
        if _LABEL not in header or not names:
            what = f"the header is {', '.join(header)}" if header else "there is no header"
            raise ValueError(f"{what}; it needs a column {_LABEL} and others, with commas between them")
        if is_text and len(names) != 1:
            raise ValueError(f"texts come in one column beside {_LABEL}, it has {', '.join(names)}")
        if not is_text and model.input["kind"] != "columns":
            raise ValueError(f"rows of {model.name} don't fit into columns: use lines of JSON, or .npz")
        expected = [column["name"] for column in model.input.get("columns", [])]
        if not is_text and expected and set(names) != set(expected):
            what = f"the header is {', '.join(header)}; {model.name} takes columns"
            raise ValueError(f"{what} {', '.join(expected)}, and {_LABEL}")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"line {reader.line_num} does not have as many fields as the header: {len(header)}")
            try:
                instance: Any = row[names[0]] if is_text else {name: float(row[name]) for name in names}
                label: Any = float(row[_LABEL]) if is_number else _parts(row[_LABEL], model.task)
            except (TypeError, ValueError) as error:
                raise ValueError(f"line {reader.line_num}: {error}") from None
            yield instance, label


def _from_npz(path: Path, model: "Model") -> list[Row]:
    """`rows`, and `targets` as numbers of labels or values of a regression."""
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            rows, targets = arrays["rows"], arrays["targets"]
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"it needs arrays rows and targets: {error}") from None
    if len(rows) != len(targets):
        raise ValueError(f"it has {len(rows)} rows and {len(targets)} targets")
    names = model.labels or ()
    if model.task == "regression":
        labels: list[Any] = targets.astype(float).tolist()
    elif model.task == "multilabel":
        labels = [[names[index] for index in np.flatnonzero(target).tolist()] for target in targets]
    else:
        indices = targets.astype(int).tolist()
        wrong = next((index for index in indices if not 0 <= index < len(names)), None)
        if wrong is not None:
            raise ValueError(f"it has a target {wrong}, and {model.name} has {len(names)} labels")
        labels = [names[index] for index in indices]
    instances = [str(row) for row in rows] if rows.dtype.kind == "U" else rows.tolist()
    return list(zip(instances, labels, strict=True))


def _parts(label: str, task: str) -> str | list[str]:
    """Of multilabel models, names with semicolons between them."""
    return [part.strip() for part in label.split(";") if part.strip()] if task == "multilabel" else label
