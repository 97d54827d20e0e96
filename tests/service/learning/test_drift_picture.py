"""Drift as a picture."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.learning.measuring import Measuring
from service.learning.picture import draw_drift
from service.learning.questions import DriftQuestion
from service.store.feedback import ModelContract
from tests.clothes import LABELS, pictures, predict
from tests.fakes import ManualClock
from tests.service.learning.support import NOW
from tests.stores import OpenStore

QUESTION = DriftQuestion("fashion", 1)


@pytest.fixture
def measuring(store: OpenStore) -> Measuring:
    store.control.crown_new_models({"fashion": {1: "a", 2: "b"}}, {"fashion": ModelContract("multiclass", LABELS)})
    return store.measuring(ManualClock(NOW))


@pytest.fixture
def answer(store: OpenStore, measuring: Measuring) -> dict[str, Any]:
    """Of pictures that are inverted."""
    predict(store, 255 - pictures(300), now=NOW)
    return measuring.answer(DriftQuestion("fashion", 1))


def test_every_distribution_is_shown_beside_the_references(answer: dict[str, Any]) -> None:
    text = draw_drift(answer, "svg").decode()
    for part in ("fashion version 1: 300 latest predictions", "estimated accuracy 0.", "Ankle boot"):
        assert part in text, part
    assert {"pixel_mean", "pixel_std", "predictions", "confidence"} <= titles(text).keys()
    assert (titles(text)["pixel_mean"], titles(text)["predictions"]) == ("drifted", "as in the reference")
    picture = Image.open(io.BytesIO(draw_drift(answer, "png")))
    assert picture.format == "PNG"
    assert np.asarray(picture.convert("L")).std() > 10


def test_an_input_may_be_named_as_a_part_is(answer: dict[str, Any]) -> None:
    answer["inputs"] = {"confidence": answer["inputs"]["pixel_mean"]}
    text = draw_drift(answer, "svg").decode()
    assert text.count("<!-- confidence: PSI") == 2


def test_what_could_not_be_compared_is_left_out(answer: dict[str, Any]) -> None:
    answer["confidence"] |= {"psi": None, "jensen_shannon": None, "reason": "the reference has no rows"}
    assert "confidence" not in titles(draw_drift(answer, "svg").decode())


def test_where_nothing_can_be_compared_the_picture_says_why(store: OpenStore, measuring: Measuring) -> None:
    assert "nothing is known yet" in draw_drift(measuring.answer(QUESTION), "svg").decode()
    predict(store, pictures(3), now=NOW, version=2)
    without = draw_drift(measuring.answer(DriftQuestion("fashion", 2)), "svg").decode()
    assert "its folder is not there" in without.replace("\n", " ")


def titles(text: str) -> dict[str, str]:
    """Of each part its verdict."""
    lines = (line.strip().removeprefix("<!-- ").removesuffix(" -->") for line in text.splitlines() if ": PSI " in line)
    return {line.partition(":")[0]: line.partition(", ")[2] for line in lines}
