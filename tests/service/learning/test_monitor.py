"""What is known of versions without labels, over a real store and the references of the shipped checkpoints."""

import functools
from pathlib import Path

import numpy as np
import pytest

from service.domain import Ref
from service.errors import UnknownModel
from service.learning.measuring import Measuring
from service.learning.questions import DriftQuestion
from service.store.feedback import ModelContract
from tests import clothes
from tests.clothes import LABELS, kept, pictures
from tests.fakes import ManualClock
from tests.service.learning.support import NOW
from tests.stores import OpenStore, a_record, an_event, open_store

FASHION = Ref("fashion", 1)
predict = functools.partial(clothes.predict, now=NOW)


@pytest.fixture
def store(tmp_path: Path) -> OpenStore:
    opened = open_store(tmp_path)
    opened.control.crown_new_models({"fashion": {1: "a", 2: "b"}}, {"fashion": ModelContract("multiclass", LABELS)})
    return opened


@pytest.fixture
def measuring(store: OpenStore) -> Measuring:
    return store.measuring(ManualClock(NOW))


def test_ordinary_pictures_have_not_drifted(store: OpenStore, measuring: Measuring) -> None:
    predict(store, pictures(500))
    answer = measuring.answer(DriftQuestion("fashion", 1))
    assert (answer["n"], answer["drifted"], answer["reference"]) == (500, False, {"rows": 10_000})
    assert set(answer["inputs"]) == {"pixel_mean", "pixel_std"}
    assert answer["inputs"]["pixel_mean"]["n"] == 500
    assert answer["predictions"]["labels"] == list(LABELS)
    assert answer["window"]["from"] < answer["window"]["to"]


def test_inverted_pictures_have(store: OpenStore, measuring: Measuring) -> None:
    predict(store, pictures(600))
    assert measuring.answer(DriftQuestion("fashion", 1))["drifted"] is False
    predict(store, 255 - pictures(500), seed=1)
    answer = measuring.answer(DriftQuestion("fashion", 1))
    assert (answer["drifted"], answer["inputs"]["pixel_mean"]["drifted"]) == (True, True)
    assert answer["predictions"]["drifted"] is False
    # All of the last hundred are inverted, and too few to say anything of.
    answer = measuring.answer(DriftQuestion("fashion", 1, rows=100))
    assert (answer["n"], answer["drifted"]) == (100, None)


def test_each_input_is_read_once(store: OpenStore, measuring: Measuring, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    read = store.predictions.inputs
    monkeypatch.setattr(store.predictions, "inputs", lambda ids: asked.extend(ids) or read(ids))
    first = predict(store, pictures(250))
    for _ in range(2):
        measuring.answer(DriftQuestion("fashion", 1))
    assert sorted(asked) == sorted(first)
    # Asked of few, it still knows the others.
    assert measuring.answer(DriftQuestion("fashion", 1, rows=10))["inputs"]["pixel_mean"]["n"] == 10
    more = predict(store, pictures(30), seed=1)
    assert measuring.answer(DriftQuestion("fashion", 1))["inputs"]["pixel_mean"]["n"] == 280
    assert sorted(asked) == sorted([*first, *more])


def test_inputs_that_came_prepared_are_no_pictures(store: OpenStore, measuring: Measuring) -> None:
    predict(store, pictures(1))
    prepared = a_record(made=NOW, outputs={"label": "Bag", "index": 8, "probability": 0.5})
    store.predictions.append([prepared], [kept(prepared.id, np.zeros((1, 28, 28), np.float32), form="prepared")])
    assert measuring.answer(DriftQuestion("fashion", 1))["inputs"]["pixel_mean"]["n"] == 1


def test_without_predictions_nothing_is_said(measuring: Measuring) -> None:
    answer = measuring.answer(DriftQuestion("fashion", 1))
    assert (answer["n"], answer["window"], answer["drifted"], answer["inputs"]) == (0, None, None, {})
    assert (answer["predictions"], answer["estimated_accuracy"]) == (None, None)


def test_a_version_without_a_reference_says_so(store: OpenStore, measuring: Measuring) -> None:
    predict(store, pictures(300), version=2)
    answer = measuring.answer(DriftQuestion("fashion", 2))
    assert answer["reference"] == {"rows": 0, "reason": "its reference can't be read: its folder is not there"}
    assert (answer["drifted"], answer["predictions"]) == (None, None)
    assert answer["estimated_accuracy"]["calibrated_by"] == "none"


def test_an_unknown_model_is_none(measuring: Measuring) -> None:
    with pytest.raises(UnknownModel):
        measuring.answer(DriftQuestion("moood", 1))


def test_how_good_it_seems_is_learned_from_labels_and_scored_by_those_that_come(
    store: OpenStore, measuring: Measuring
) -> None:
    day = 86_400.0
    for count, seed, before in ((2_000, 0, 2 * day), (600, 1, 0.0)):
        ids = predict(store, pictures(0), seed=seed)
        rng = np.random.default_rng(seed)
        sure = rng.uniform(0.5, 1.0, count)
        records = [
            a_record(
                made=NOW - before - (count - index) / 100,
                outputs={"label": "Bag", "index": LABELS.index("Bag"), "probability": float(one)},
            )
            for index, one in enumerate(sure)
        ]
        store.predictions.append(records)
        # It is right half as often above one half as it says.
        hits = rng.random(count) < 0.5 + (sure - 0.5) / 2
        labelled = zip(records, hits, strict=True) if before else zip(records[:300], hits[:300], strict=True)
        store.feedback.add(
            [an_event(prediction_id=record.id, value="Bag" if hit else "Coat") for record, hit in labelled],
            store.control.contracts(),
        )
        assert ids == []
    found = measuring.answer(DriftQuestion("fashion", 1))["estimated_accuracy"]
    assert (found["calibrated_by"], found["calibration_n"], found["n"]) == ("labels", 2_000, 600)
    assert found["low"] < 0.625 < found["high"]
    assert found["value"] == pytest.approx(0.625, abs=0.04)
    scored = found["scored"]
    assert scored["actual"]["n"] == scored["estimated"]["n"] == 300
    assert scored["estimated"]["value"] == pytest.approx(scored["actual"]["value"], abs=0.08)


def test_what_is_shown_is_of_versions_that_predicted_lately(store: OpenStore, measuring: Measuring) -> None:
    predict(store, 255 - pictures(300), right=0.9)
    measuring.catch_up()
    [standing], [unlabelled] = measuring.standings()
    assert (standing.ref, unlabelled.ref) == (FASHION, FASHION)
    assert set(standing.label_delay) == {"0.5", "0.9", "0.99"}
    assert unlabelled.distances["inputs"].drifted
    assert not unlabelled.distances["predictions"].drifted
    assert unlabelled.accuracy is not None
    value, low, high = unlabelled.accuracy
    assert 0 <= low < value < high <= 1


def test_of_few_predictions_nothing_is_shown(store: OpenStore, measuring: Measuring) -> None:
    predict(store, pictures(50))
    _, [unlabelled] = measuring.standings()
    assert (unlabelled.distances, unlabelled.accuracy) == ({}, None)
