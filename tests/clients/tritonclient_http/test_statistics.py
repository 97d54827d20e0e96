"""What the client is told of the work that was done, against the work that it asked for."""

import time
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.clients.asked import Array
from tests.clients.tritonclient_http.tensors import inputs, tensor

SPENT = ("success", "queue", "compute_input", "compute_infer", "compute_output")


def statistics(client: Any, model: str, version: str = "1") -> dict[str, Any]:
    """Of one version."""
    (found,) = client.get_inference_statistics(model, version)["model_stats"]
    assert (found["name"], found["version"]) == (model, version)
    return found


def rows(num_rows: int) -> Array:
    return np.ones((num_rows, 4), np.float32)


def batches(found: dict[str, Any]) -> dict[int, int]:
    """How many batches ran, by their rows."""
    return {each["batch_size"]: each["compute_infer"]["count"] for each in found["batch_stats"]}


def test_counters_grow_by_what_was_asked(client: Any) -> None:
    before = statistics(client, "sensors")
    for num_rows in (1, 3, 3):
        client.infer("sensors", [tensor("input", "FP32", rows(num_rows))])
    after = statistics(client, "sensors")
    assert after["inference_count"] - before["inference_count"] == 7
    # One after another, so none shares a batch with another.
    assert after["execution_count"] - before["execution_count"] == 3
    grown = {size: count - batches(before).get(size, 0) for size, count in batches(after).items()}
    assert {size: count for size, count in grown.items() if count} == {1: 1, 3: 2}
    for name in SPENT:
        then, now = before["inference_stats"][name], after["inference_stats"][name]
        assert now["count"] - then["count"] == 3
        assert now["ns"] > then["ns"]
    for name in ("fail", "cache_hit", "cache_miss"):
        assert after["inference_stats"][name]["count"] == before["inference_stats"][name]["count"]


def test_batches_add_up_to_the_rows(client: Any) -> None:
    client.infer("sensors", [tensor("input", "FP32", rows(200))])
    found = statistics(client, "sensors")
    assert sum(size * count for size, count in batches(found).items()) == found["inference_count"]
    assert sum(batches(found).values()) == found["execution_count"]


def test_the_last_inference_was_just_now(client: Any) -> None:
    began = time.time() * 1000
    client.infer("motion", inputs("motion"))
    assert began - 1 <= statistics(client, "motion")["last_inference"] <= time.time() * 1000 + 1


def test_what_was_refused_is_not_counted(client: Any) -> None:
    before = statistics(client, "sensors")
    with pytest.raises(InferenceServerException):
        client.infer("sensors", [tensor("input", "FP32", np.ones((1, 5), np.float32))])
    assert statistics(client, "sensors") == before


def test_memory_is_that_of_the_weights_at_least(client: Any) -> None:
    (memory,) = statistics(client, "sentiment")["memory_usage"]
    assert memory["type"] in ("CPU", "GPU")
    assert memory["byte_size"] > 4 * 1000


def test_a_version_counts_for_itself(client: Any) -> None:
    before = statistics(client, "clothes", "1"), statistics(client, "clothes", "2")
    client.infer("clothes", inputs("clothes"), model_version="2")
    after = statistics(client, "clothes", "1"), statistics(client, "clothes", "2")
    assert [now["inference_count"] - then["inference_count"] for then, now in zip(before, after, strict=True)] == [0, 3]


def test_all_models_are_told_together(client: Any) -> None:
    named = [(each["name"], each["version"]) for each in client.get_inference_statistics()["model_stats"]]
    assert {("clothes", "1"), ("clothes", "2"), ("sentiment", "1")} <= set(named)
    assert len(named) == len(set(named))
    of_model = client.get_inference_statistics("clothes")["model_stats"]
    assert [each["version"] for each in of_model] == ["1", "2"]
