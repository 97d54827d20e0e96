"""Evaluations as pictures."""

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import NotSupported
from service.learning.evaluator import Evaluator
from service.learning.picture import Form
from service.learning.picture import draw_evaluation as draw
from service.learning.questions import Question
from tests.service.learning.support import HOUR, NOW, predict
from tests.stores import OpenStore, a_record, an_event


def evaluated(evaluator: Evaluator, model: str = "fashion") -> dict[str, Any]:
    return evaluator.evaluate(Question(model, since=NOW - 3 * HOUR, buckets=3))


@pytest.fixture
def labelled(store: OpenStore) -> OpenStore:
    for hours, label in ((2.5, "Bag"), (2.5, "Coat"), (0.5, "Bag")):
        predict(store, NOW - hours * HOUR, label)
    return store


def test_a_png_shows_something(labelled: OpenStore, evaluator: Evaluator) -> None:
    picture = Image.open(io.BytesIO(draw(evaluated(evaluator), "png")))
    assert picture.format == "PNG"
    assert picture.width > 3 * 300
    assert np.asarray(picture.convert("L")).std() > 10


def test_an_svg_names_its_parts(labelled: OpenStore, evaluator: Evaluator) -> None:
    text = draw(evaluated(evaluator), "svg").decode()
    for part in ("was (row), taken for (column)", "reliability", "accuracy over time", "accuracy 0.667", "Coat"):
        assert part in text, part


def test_a_regression_shows_residuals(store: OpenStore, evaluator: Evaluator) -> None:
    record = a_record(model="rent", outputs={"value": 3.0}, made=NOW - 60)
    store.predictions.append([record])
    store.feedback.add([an_event(prediction_id=record.id, value=5.0)], {})
    text = draw(evaluated(evaluator, "rent"), "svg").decode()
    for part in ("residuals", "mae over time", "mae 2"):
        assert part in text, part


@pytest.mark.parametrize("form", ["png", "svg"])
def test_where_nothing_is_known_the_picture_says_so(store: OpenStore, evaluator: Evaluator, form: Form) -> None:
    drawn = draw(evaluator.evaluate(Question("rent")), form)
    assert form == "png" or "nothing is known yet" in drawn.decode()


def test_many_labels_are_drawn_without_names(evaluator: Evaluator, labelled: OpenStore) -> None:
    evaluation = evaluated(evaluator)
    names = [f"label {number}" for number in range(30)]
    evaluation["confusion_matrix"] = {"labels": names, "counts": np.eye(30, dtype=int).tolist()}
    assert "label 7" not in draw(evaluation, "svg").decode()


def test_the_same_evaluation_gives_the_same_picture(labelled: OpenStore, evaluator: Evaluator) -> None:
    evaluation = evaluated(evaluator)
    assert draw(evaluation, "png") == draw(evaluation, "png")


def test_without_matplotlib_a_picture_is_not_supported(
    labelled: OpenStore, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NotSupported, match=r"servoloop\[plots\]"):
        draw(evaluated(evaluator), "png")
