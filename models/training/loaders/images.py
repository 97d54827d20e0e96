"""Images: Fashion-MNIST, CIFAR-10, and folders of one's own."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.preprocess import BrokenImage, decode_image
from models.preprocess.images import Fit
from models.training.data import Array, RawData
from models.training.loaders.registry import MissingData, existing, register


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


@register("image-folder")
def image_folder(
    folder: str, labels: Sequence[str], channels: int, height: int, width: int, fit: Fit = "stretch"
) -> RawData:
    """PNG, JPEG and WebP files in one subfolder a label: (n, channels, height, width) uint8.

    Files are decoded as serving decodes an upload; those that can't be are broken.
    """
    images, targets, broken = [], [], 0
    for index, label in enumerate(labels):
        for file in sorted(existing(Path(folder) / label).iterdir()):
            try:
                image = decode_image(file.read_bytes(), channels=channels, height=height, width=width, fit=fit)
            except BrokenImage:
                broken += 1
                continue
            images.append(image)
            targets.append(index)
    rows = np.array(images, np.uint8).reshape(-1, channels, height, width)
    return RawData(Path(folder).name, rows, np.array(targets, np.int64), broken=broken)
