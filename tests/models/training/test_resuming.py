"""A training that is killed and goes on ends with the bytes of one that was not."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models.architectures import build
from models.checkpoint import to_bytes
from models.preprocess import Preprocessor
from models.preprocess.numeric import Scale
from models.training.augment import ImageAugmentation
from models.training.batches import Rows
from models.training.losses import LossConfig
from models.training.optim import OptimizerConfig, ScheduleConfig
from models.training.resuming import Keeper, OtherTraining, Stopped, TrainingState
from models.training.trainer import LoopConfig, Objective, Progress, Trainer, reproducible

NONE = np.zeros(0, np.int64)


class Killed(Exception):
    """Stands for a process that ends without warning."""


def picture_training(rng: np.random.Generator) -> tuple[Trainer, Rows, Rows]:
    """A CNN with batch norm, dropout and augmentation, in bfloat16."""
    images, labels = rng.integers(0, 256, (60, 1, 6, 6), np.uint8), rng.integers(0, 2, 60)
    halve = Preprocessor([Scale(factor=1 / 255)], {}.__getitem__)
    train = Rows(images[:48], labels[:48], halve, ImageAugmentation(flip=0.5, crop=1, rotate=10))
    blocks = [{"channels": 4, "batch_norm": True, "dropout": 0.2}]
    network = build("cnn", {"input": [1, 6, 6], "blocks": blocks, "dense": [8], "dropout": 0.3, "outputs": 2})
    optimizer = OptimizerConfig(kind="adamw", learning_rate=0.02, l1=1e-5, l2=0.01, gradient_clip=1.0)
    loop = LoopConfig(epochs=4, batch_size=8, precision="bfloat16", patience=2)
    objective = Objective(LossConfig(kind="cross_entropy").build(NONE, 2), lambda x, y: float((x.argmax(1) == y).sum()))
    made = Trainer(network, objective, loop, optimizer, ScheduleConfig(kind="one_cycle"), torch.device("cpu"))
    return made, train, Rows(images[48:], labels[48:], halve)


def word_training(rng: np.random.Generator) -> tuple[Trainer, Rows, Rows]:
    """A two-layer LSTM with dropout between them, over sequences with token dropout, by SGD with momentum."""
    texts = [rng.integers(2, 20, length) for length in rng.integers(1, 12, 60)]
    labels, plain = rng.integers(0, 2, 60), Preprocessor([], {}.__getitem__)
    train = Rows(texts[:48], labels[:48], plain, token_dropout=0.2, weights=rng.random(48))
    config = {"cell": "lstm", "vocabulary": 20, "embedding": 4, "hidden": 4, "layers": 2, "dropout": 0.3, "outputs": 1}
    objective = Objective(LossConfig(kind="bce").build(NONE, 2), lambda x, y: -float((x[:, 0] - y).abs().sum()))
    optimizer, loop = OptimizerConfig(kind="sgd", learning_rate=0.5), LoopConfig(epochs=4, batch_size=8)
    network = build("recurrent", config)
    made = Trainer(network, objective, loop, optimizer, ScheduleConfig(kind="cosine"), torch.device("cpu"))
    return made, train, Rows(texts[48:], labels[48:], plain)


TRAININGS = {"pictures": picture_training, "words": word_training}


def train(name: str, keeper: Keeper | None = None, on_progress: Callable[[Progress], None] = lambda _: None) -> bytes:
    with reproducible(7) as rng:
        made, rows, validation = TRAININGS[name](np.random.default_rng(0))
        made.fit(rows, validation, rng, on_progress, keeper)
    return to_bytes(made.network.state_dict(), "float32")


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("kept_every", [0.0, 1e9])  # after each batch; after each epoch
@pytest.mark.parametrize("seed", [0, 1])
def test_a_training_that_is_killed_again_and_again_ends_with_the_same_bytes(
    name: str, kept_every: float, seed: int, tmp_path: Path
) -> None:
    kills = np.random.default_rng(seed)
    for _ in range(40):
        left = int(kills.integers(2, 9))

        def count(_: Progress) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Killed

        try:
            resumed = train(name, Keeper(tmp_path / "state", "key", every=kept_every), count)
            break
        except Killed:
            torch.rand(3)  # what other code draws in between plays no part
    assert resumed == train(name)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_that_is_told_to_stop_keeps_its_state_before(name: str, tmp_path: Path) -> None:
    steps: list[int] = []

    def keeper(most: float) -> Keeper:
        return Keeper(tmp_path / "state", "key", every=1e9, is_stopped=lambda: len(steps) >= most)

    with pytest.raises(Stopped):
        train(name, keeper(3), lambda told: steps.append(told.step))
    assert train(name, keeper(np.inf), lambda told: steps.append(told.step)) == train(name)
    assert steps[:5] == [1, 2, 3, 4, 5]


def test_a_training_that_was_over_ends_at_once(tmp_path: Path) -> None:
    steps: list[Progress] = []
    first = train("pictures", Keeper(tmp_path / "state", "key"))
    assert train("pictures", Keeper(tmp_path / "state", "key"), steps.append) == first
    assert steps == []


def test_a_state_of_another_training_is_refused_and_it_begins_anew(tmp_path: Path) -> None:
    train("pictures", Keeper(tmp_path / "state", "these data"))
    steps: list[Progress] = []
    other = Keeper(tmp_path / "state", "other data")
    train("pictures", other, steps.append)
    assert steps[0].step == 1
    assert other.refused == "it belongs to other data, another recipe or another machine"


@pytest.mark.parametrize("data", [b"", b"no state", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_broken_state_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(OtherTraining, match="can't be read"):
        TrainingState.from_bytes(data, "key")


def test_a_write_that_is_cut_short_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train("words", Keeper(tmp_path / "state", "key"))
    before = (tmp_path / "state").read_bytes()
    state = TrainingState.from_bytes(before, "key")

    def fails(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="the disk is full"):
        Keeper(tmp_path / "state", "key").keep(state)
    assert (tmp_path / "state").read_bytes() == before


SCRIPT = """
import sys
from pathlib import Path
import torch
from models.training.resuming import Keeper
from tests.models.training.test_resuming import train
torch.set_num_threads(1)
data = train("pictures", Keeper(Path(sys.argv[1]), "key", every=0), lambda told: print(told.step, flush=True))
Path(sys.argv[2]).write_bytes(data)
"""


def test_a_process_that_is_killed_is_gone_on_from_by_another(tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "state"), str(tmp_path / "weights")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])

    with start() as first:
        assert first.stdout is not None
        for _ in range(9):
            first.stdout.readline()
        first.send_signal(signal.SIGKILL)
    assert not (tmp_path / "weights").exists()
    with start() as second:
        assert second.stdout is not None
        assert int(second.stdout.readline()) > 8
        second.stdout.read()
    assert (tmp_path / "weights").read_bytes() == train("pictures")
