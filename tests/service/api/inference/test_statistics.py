from typing import Any

import httpx
import pytest

from service.domain import Ref
from service.wire.statistics import StageSeconds, Statistics
from tests.service.api.inference.support import error_of
from tests.service.api.support import CountingEngine

MOOD, CLOTHES = Ref("mood", 1), Ref("clothes", 2)


@pytest.fixture
def counted(engine: CountingEngine) -> Statistics:
    """Of a version that ran one batch of three rows, for a request of two and one of one."""
    statistics = Statistics(num_bytes={"cpu": 4096, "cuda:1": 8192})
    stages = StageSeconds(input=0.001, infer=0.002, output=0.003)
    statistics.ran(3, stages, now_ms=1_700_000_000_123)
    statistics.answered(2, 0.75, 0.375, stages)
    statistics.fail.add(0.125)
    engine.counted = {MOOD: statistics, CLOTHES: Statistics()}
    return statistics


async def statistics_of(client: httpx.AsyncClient, path: str) -> list[dict[str, Any]]:
    response = await client.get(f"/v2/models{path}/stats")
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["model_stats"]
    return found


@pytest.mark.usefixtures("counted")
async def test_what_engines_counted_is_told(client: httpx.AsyncClient) -> None:
    def spent(count: int, ms: int) -> dict[str, int]:
        return {"count": count, "ns": ms * 1_000_000}

    (found,) = await statistics_of(client, "/mood/versions/1")
    assert found == {
        "name": "mood",
        "version": "1",
        "last_inference": 1_700_000_000_123,
        "inference_count": 3,
        "execution_count": 1,
        "inference_stats": {
            "success": spent(2, 750),
            "fail": spent(1, 125),
            "queue": spent(2, 375),
            "compute_input": spent(2, 2),
            "compute_infer": spent(2, 4),
            "compute_output": spent(2, 6),
            "cache_hit": spent(0, 0),
            "cache_miss": spent(0, 0),
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": 3,
                "compute_input": spent(1, 1),
                "compute_infer": spent(1, 2),
                "compute_output": spent(1, 3),
            }
        ],
        "memory_usage": [
            {"type": "CPU", "id": 0, "byte_size": 4096},
            {"type": "GPU", "id": 1, "byte_size": 8192},
        ],
    }


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    ("path", "refs"),
    [
        ("", [("clothes", "2"), ("mood", "1")]),
        ("/clothes", [("clothes", "2")]),
        ("/clothes/versions/candidate", [("clothes", "2")]),
        ("/clothes/versions/1", [("clothes", "1")]),
        ("/rent", []),
    ],
)
async def test_they_are_told_by_model_and_version(
    client: httpx.AsyncClient, path: str, refs: list[tuple[str, str]]
) -> None:
    assert [(one["name"], one["version"]) for one in await statistics_of(client, path)] == refs


async def test_a_version_that_isnt_there(client: httpx.AsyncClient) -> None:
    response = await client.get("/v2/models/mood/versions/7/stats")
    assert response.status_code == 404
    assert error_of(response).startswith("there is no version of mood named '7'")
