"""Many clients at once."""

import asyncio

import pytest

from tests.end_to_end.connection import connect
from tests.end_to_end.service import Service

CLIENTS, REQUESTS = 200, 5
WORDS = ["good", "bad", "boring", "brilliant", "moving", "awful", "long", "funny"]


def text_of(client: int) -> str:
    """A text that no other client sends."""
    marks = [WORDS[(client >> bit) % len(WORDS)] for bit in (0, 3, 6)]
    return f"It was {marks[0]}, {marks[1]} and {marks[2]}. " * (1 + client % 3)


async def one_client(port: int, number: int) -> list[tuple[int, float]]:
    """Status and probability of a client's requests, one after another."""
    body = {"instances": [text_of(number)], "parameters": {"return_probabilities": True}}
    answers = []
    async with connect(port) as connection:
        for _ in range(REQUESTS):
            status, answer = await connection.post("/v1/models/sentiment/predict", body)
            answers.append((status, answer["predictions"][0]["probabilities"]["positive"] if status == 200 else -1))
    return answers


async def test_two_hundred_clients_are_batched_without_an_error_and_each_gets_its_own_answer(service: Service) -> None:
    def executed() -> tuple[float, float]:
        return tuple(service.metric(f"servoloop_batch_rows_{part}", model="sentiment") for part in ("sum", "count"))

    expected = [
        one["probabilities"]["positive"]
        for one in service.predict("sentiment", [text_of(n) for n in range(CLIENTS)], return_probabilities=True)
    ]
    rows_before, batches_before = executed()
    answers = await asyncio.gather(*(one_client(service.port, number) for number in range(CLIENTS)))
    rows, batches = executed()

    assert {status for mine in answers for status, _ in mine} == {200}
    assert rows - rows_before == CLIENTS * REQUESTS
    assert (rows - rows_before) / (batches - batches_before) > 4
    for mine, want in zip(answers, expected, strict=True):
        assert [probability for _, probability in mine] == pytest.approx([want] * REQUESTS, abs=1e-5)


async def test_models_of_every_kind_answer_at_the_same_time(service: Service) -> None:
    instances = {
        "clothes": [[0] * 28] * 28,
        "mood": "it was good",
        "codes": [1, 2, 3],
        "sensors": [1, 2, 3, 4],
        "motion": [[1, 2, 3]],
        "rent": {"columns": {"area": 50, "rooms": 2}},
    }
    alone = {model: service.predict(model, [instance]) for model, instance in instances.items()}

    async def ask(model: str) -> None:
        async with connect(service.port) as connection:
            for _ in range(5):
                status, answer = await connection.post(f"/v1/models/{model}/predict", {"instances": [instances[model]]})
                assert (status, answer["model"]) == (200, model)
                assert answer["predictions"][0].get("label") == alone[model][0].get("label")

    await asyncio.gather(*(ask(model) for model in instances for _ in range(5)))
