"""From windows to the ratios that are claimed."""

import pytest

from benchmarks.compare import missing, ratios
from benchmarks.limits import Limits, Noop, Offline, bound
from benchmarks.load import Window
from benchmarks.networks import CASES
from benchmarks.pairing import Pair, Setting
from benchmarks.report import cores


def windows(*rates: float, p50_ms: float = 1, p99_ms: float = 1) -> list[Window]:
    return [Window(64, rate, p50_ms, p99_ms, p99_ms, 0, 100, 10, 500) for rate in rates]


def pair(peer: str, ours: list[Window], theirs: list[Window], alone: float, p99: float) -> Pair:
    return Pair(
        peer,
        "cnn_binary",
        Setting(1, 2, 1),
        [],
        ours,
        theirs,
        windows(1, p50_ms=1),
        windows(1, p50_ms=alone),
        100,
        windows(1, p99_ms=1),
        windows(1, p99_ms=p99),
    )


LIMITS = Limits(
    offline=[Offline("cnn", "eager fp32", 1, cores(), 5000, 200), Offline("cnn", "eager fp32", cores(), 1, 9000, 110)],
    noop=[Noop("cnn_binary", 12_416, 15_000, 60, 30)],
    bounds={},
    failed={},
)


def test_the_bound_is_all_cores_time_over_what_a_row_must_cost() -> None:
    found = bound(CASES["cnn_binary"], LIMITS.offline, LIMITS.noop)
    assert found.rows_per_second == pytest.approx(cores() * 1e6 / (110 + 60 + 30))


def test_the_best_peer_is_the_one_that_leaves_us_least() -> None:
    limits = Limits(LIMITS.offline, LIMITS.noop, {"cnn_binary": bound(CASES["cnn_binary"], *LIMITS_PARTS)}, {})
    strong = pair("strong", windows(300, 320, 5000), windows(160, 150, 170), alone=4, p99=8)
    weak = pair("weak", windows(320, 320, 320), windows(10, 10, 10), alone=2, p99=100)
    found = ratios([weak, strong], limits)
    assert found["cnn_binary"] == pytest.approx(320 / 160)
    # Latency alone is against whoever is quickest there.
    assert found["single_cnn"] == pytest.approx(1 / 2)
    assert found["p99_at_half_cnn_binary"] == pytest.approx(1 / 8)
    assert found["bound_cnn_binary"] == pytest.approx(320 / limits.bounds["cnn_binary"].rows_per_second)
    assert found["lstm"] is None


def test_the_ratios_have_the_same_names_whatever_was_measured() -> None:
    nothing = ratios([], LIMITS)
    assert [name for name in nothing if not name.startswith("p99_at_half_")] == [
        *("cnn_binary", "cnn_json", "lstm", "transformer"),
        *("bound_cnn_binary", "bound_lstm", "bound_transformer"),
        *("single_cnn", "single_transformer"),
    ]
    assert set(nothing.values()) == {None}


def test_a_peer_that_was_not_measured_is_named_for_each_case() -> None:
    pairs = [pair("strong", windows(3), windows(1), alone=4, p99=8)]
    assert missing(pairs, ["strong", "weak"], ["cnn_binary", "lstm"]) == {
        "cnn_binary": ["weak"],
        "lstm": ["strong", "weak"],
    }
    assert missing(pairs, ["strong"], ["cnn_binary"]) == {}


LIMITS_PARTS = (LIMITS.offline, LIMITS.noop)
