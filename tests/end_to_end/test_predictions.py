"""What is served is what was trained: the shipped networks, on real input."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.settings import SHIPPED_CHECKPOINTS
from tests.end_to_end.directly import Direct
from tests.end_to_end.service import Service

GOOD = [
    "A wonderful film. I laughed, I cried, and I would watch it again tomorrow.",
    "One of the best movies I have ever seen, with superb acting and a brilliant script.",
    "This is a beautiful, moving and excellent story. Highly recommended!",
]
BAD = [
    "What a waste of time. The plot is stupid and the acting is awful.",
    "The worst movie I have ever seen: boring, badly written and terribly acted.",
    "Dull and pointless. I hated every minute of this terrible film.",
]
SHIPPED_MODELS = ["fashion", "sentiment", "sentiment-lstm", "house-price"]


def direct(model: str) -> Direct:
    (version,) = (SHIPPED_CHECKPOINTS / model).iterdir()
    return Direct(version)


@pytest.fixture(scope="module")
def fashion() -> Direct:
    return direct("fashion")


@pytest.fixture(scope="module")
def clothes(fashion: Direct) -> tuple[Any, Any]:
    """Rows of Fashion-MNIST's own test set, (n, 1, 28, 28) uint8, and their labels."""
    with np.load(fashion.folder / "evaluation.npz") as held_out:
        return held_out["rows"], [fashion.manifest.labels[target] for target in held_out["targets"]]


def png(row: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(row[0]).save(file, "PNG")
    return file.getvalue()


def npy(rows: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def predictions(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    return found


@pytest.mark.parametrize("model", SHIPPED_MODELS)
def test_every_shipped_model_is_ready(service: Service, model: str) -> None:
    body = service.client.get(f"/v1/models/{model}").json()
    assert body["ready"] is True
    assert body["aliases"] == {"champion": "1"}
    assert body["versions"][0]["metrics"]


def test_a_picture_of_a_garment_gets_its_label(service: Service, clothes: tuple[Any, Any]) -> None:
    rows, labels = clothes
    named = [
        predictions(
            service.client.post("/v1/models/fashion/predict", content=png(row), headers={"Content-Type": "image/png"})
        )[0]["label"]
        for row in rows[:40]
    ]
    assert sum(name == label for name, label in zip(named, labels, strict=False)) >= 34


def test_a_sample_of_the_test_set_is_about_as_often_right_as_the_manifest_says(
    service: Service, fashion: Direct, clothes: tuple[Any, Any]
) -> None:
    rows, labels = clothes
    headers = {"Content-Type": "application/x-npy"}
    served = predictions(service.client.post("/v1/models/fashion/predict", content=npy(rows), headers=headers))
    accuracy = np.mean([one["label"] == label for one, label in zip(served, labels, strict=True)])
    promised = fashion.manifest.metrics["accuracy"].value
    assert promised is not None
    assert promised >= 0.92
    # Four standard deviations of a share of that many rows.
    assert abs(accuracy - promised) < 4 * np.sqrt(promised * (1 - promised) / len(labels))


def test_garments_are_served_as_they_were_trained(service: Service, fashion: Direct, clothes: tuple[Any, Any]) -> None:
    rows = clothes[0][:60]
    expected = fashion.probabilities(rows)
    query = {"return_probabilities": "true"}
    headers = {"Content-Type": "application/x-npy"}
    served = predictions(
        service.client.post("/v1/models/fashion/predict", content=npy(rows), headers=headers, params=query)
    )
    for one, want in zip(served, expected, strict=True):
        assert one["probabilities"] == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("model", ["sentiment", "sentiment-lstm"])
def test_sentences_get_their_sentiment(service: Service, model: str) -> None:
    named = [one["label"] for one in service.predict(model, [*GOOD, *BAD])]
    assert named == ["positive"] * len(GOOD) + ["negative"] * len(BAD)


@pytest.mark.parametrize("model", ["sentiment", "sentiment-lstm"])
def test_sentences_are_served_as_they_were_trained(service: Service, model: str) -> None:
    rows = [*GOOD, *BAD, "naïve 名作", "x" * 5000, " ".join([*GOOD, *BAD] * 10), "?"]
    served = service.predict(model, rows, return_probabilities=True)
    for one, want in zip(served, direct(model).probabilities(rows), strict=True):
        assert one["probabilities"] == pytest.approx(want, abs=1e-5)


def test_a_raw_text_gets_the_answer_of_the_same_text_in_json(service: Service) -> None:
    raw = predictions(
        service.client.post(
            "/v1/models/sentiment/predict", content=GOOD[0].encode(), headers={"Content-Type": "text/plain"}
        )
    )
    (as_json,) = service.predict("sentiment", [GOOD[0]])
    assert raw[0]["label"] == as_json["label"] == "positive"
    assert raw[0]["probability"] == pytest.approx(as_json["probability"], abs=1e-5)


@pytest.mark.parametrize("lot_size", [2000, 5850, 16_200])
def test_a_house_costs_what_the_formula_says(service: Service, lot_size: int) -> None:
    house = direct("house-price")
    (step,) = house.manifest.preprocess
    target = house.manifest.target
    assert step.step == "standardize"
    assert target is not None
    weights = house.weights()
    standardised = (lot_size - step.mean[0]) / step.std[0]
    price = (weights["output.weight"].item() * standardised + weights["output.bias"].item()) * target.std + target.mean
    (served,) = service.predict("house-price", [{"columns": {"lotsize": lot_size}}])
    assert served["value"] == pytest.approx(price, rel=1e-5)
    assert 20_000 < price < 200_000


SEQUENCES = [[[0.1 * row * step, row, -step] for step in range(1 + row % 16)] for row in range(40)]
ROWS: dict[str, list[Any]] = {
    "clothes": np.random.default_rng(0).integers(0, 256, (20, 28, 28)).tolist(),
    "thumbnails": np.random.default_rng(1).integers(0, 256, (20, 3, 4, 6)).tolist(),
    "mood": [" ".join(["it was good", "not", "a bad film", "very"][: 1 + row % 4] * (1 + row % 4)) for row in range(8)],
    "codes": [[(row + step) % 10 for step in range(1 + row % 8)] for row in range(24)],
    "sensors": np.random.default_rng(2).normal(0, 20, (20, 4)).tolist(),
    "motion": SEQUENCES,
    "rent": [[30 + row, 1 + row % 9] for row in range(20)],
}


def numbers(prediction: Any) -> list[float]:
    """All numbers of a prediction, in their order."""
    match prediction:
        case dict():
            return [number for value in prediction.values() for number in numbers(value)]
        case list():
            return [number for value in prediction for number in numbers(value)]
        case int() | float():
            return [prediction]
    return []


@pytest.mark.parametrize("model", ROWS)
def test_a_row_gets_the_same_answer_alone_and_among_others(service: Service, model: str) -> None:
    rows = ROWS[model]
    together = service.predict(model, rows, return_probabilities=True)
    for row, in_batch in zip(rows, together, strict=True):
        (alone,) = service.predict(model, [row], return_probabilities=True)
        assert alone.get("label") == in_batch.get("label")
        assert numbers(alone) == pytest.approx(numbers(in_batch), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("version", "folder"), [("1", "clothes/1"), ("2", "clothes/2")])
def test_each_version_answers_with_its_own_weights(service: Service, version: str, folder: str) -> None:
    network = Direct(service.data_dir / "models" / folder)
    rows = np.array(ROWS["clothes"], np.float32)[:, None]
    response = service.client.post(
        f"/v1/models/clothes/versions/{version}/predict",
        json={"instances": ROWS["clothes"], "parameters": {"return_probabilities": True}},
    )
    assert response.json()["version"] == version
    for one, want in zip(predictions(response), network.probabilities(rows), strict=True):
        assert one["probabilities"] == pytest.approx(want, abs=1e-5)


def test_the_folder_of_examples_is_answered_with_what_its_files_are_named(service: Service) -> None:
    folder = Path(__file__).parents[2] / "examples"
    pictures = sorted(folder.glob("*.png"))
    assert pictures
    for picture in pictures:
        response = service.client.post(
            "/v1/models/fashion/predict", content=picture.read_bytes(), headers={"Content-Type": "image/png"}
        )
        label = predictions(response)[0]["label"]
        assert picture.stem == label.lower().replace(" ", "-").replace("/", "-")
