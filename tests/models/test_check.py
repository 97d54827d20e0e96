"""Checking a checkpoint by building it."""

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
import torch
from torch import Tensor

from models.architectures import Network, build
from models.check import check, main, warm_up
from models.manifest import BrokenCheckpoint, Manifest
from tests import checkpoints


@pytest.mark.parametrize(
    "write",
    [
        checkpoints.write_image,
        checkpoints.write_text,
        checkpoints.write_vector,
        checkpoints.write_steps,
        checkpoints.write_ids,
        checkpoints.write_columns,
    ],
)
def test_a_sample_of_every_kind_of_input_is_answered(tmp_path: Path, write: Callable[[Path], Manifest]) -> None:
    manifest = write(tmp_path)
    network = build(manifest.architecture.family, manifest.architecture.config)
    assert check(tmp_path / manifest.model / "1") == sum(p.numel() for p in network.parameters())


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints.write_columns(tmp_path)
    assert main([str(tmp_path / "rent" / "1")]) == 0
    assert capsys.readouterr().out == "3 parameters; a sample row is answered with finite numbers\n"


def test_the_command_gives_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == "manifest.json is missing\n"


class Faulty(Network):
    """Answers whatever it is told to."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.outputs = 1
        self._answer = answer

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self._answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (torch.full((1, 1), torch.nan), "NaN or infinity"),
        (torch.zeros(1, 2), r"shape \(1, 2\), expected \(1, 1\)"),
    ],
)
def test_a_network_that_answers_wrongly_is_refused(tmp_path: Path, answer: Tensor, reason: str) -> None:
    manifest = checkpoints.write_columns(tmp_path)
    with pytest.raises(BrokenCheckpoint, match=reason):
        warm_up(Faulty(answer), manifest, lambda _: b"")


def test_steps_that_do_not_lead_to_the_network_are_found(tmp_path: Path) -> None:
    checkpoints.write_image(tmp_path, "small", preprocess=[{"step": "resize", "height": 8, "width": 8}])
    with pytest.raises(BrokenCheckpoint, match=r"can't be computed: input must have shape \(B, 1, 28, 28\)"):
        check(tmp_path / "small" / "1")


@pytest.mark.parametrize(
    ("words", "step", "largest"),
    [({"good": 10}, {}, 10), ({"good": 2}, {"unknown": 12}, 12), ({"good": 2}, {"empty": 11}, 11)],
)
def test_ids_that_the_network_has_no_vector_for_are_refused(
    tmp_path: Path, words: dict[str, int], step: dict[str, int], largest: int
) -> None:
    checkpoints.write(
        tmp_path,
        "mood",
        files={"words.json": orjson.dumps(words)},
        architecture={
            "family": "recurrent",
            "config": {"cell": "gru", "vocabulary": 10, "embedding": 2, "hidden": 2, "outputs": 1},
        },
        task="binary",
        input={"kind": "text"},
        preprocess=[{"step": "vocabulary", "file": "words.json", "max_length": 64, **step}],
        labels=["bad", "good"],
    )
    with pytest.raises(BrokenCheckpoint, match=f"ids up to {largest}.* at least {largest + 1}, one more"):
        check(tmp_path / "mood" / "1")
