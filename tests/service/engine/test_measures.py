import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.domain import Deadline, Ref
from service.engine.measures import ReplicaMeasures
from service.engine.requests import Request
from service.engine.runner import Fill
from service.errors import DeadlineExceeded, NotReady, Overloaded, QueueFull, ServoloopError
from service.telemetry.instruments import EngineTelemetry
from service.wire.statistics import Spent, StageSeconds
from tests.fakes import sample

REF = Ref("m", 1)
LABELS = {"model": "m", "version": "1"}
STAGES = StageSeconds(input=0.125, infer=0.5, output=0.25)


@pytest.fixture
def measures(registry: CollectorRegistry) -> ReplicaMeasures:
    return ReplicaMeasures(EngineTelemetry(registry), REF)


def request(*, arrived: float, failed: int = 0) -> Request:
    """Of two rows, all of which have run."""
    made = Request(REF, Tensors(np.zeros((2, 1), np.float32)), Deadline(9.0), arrived, lambda _: None)
    made.failures = dict.fromkeys(range(failed), "it failed")
    return made


def series(registry: CollectorRegistry) -> set[str]:
    """The names of the metrics that say something of a version."""
    return {metric.name for metric in registry.collect() for each in metric.samples if "model" in each.labels}


def test_no_series_is_there_before_its_first_value(registry: CollectorRegistry, measures: ReplicaMeasures) -> None:
    assert series(registry) == set()
    measures.depth(3)
    assert series(registry) == {"servoloop_queue_rows"}
    measures.batch(2, 0.5, Fill(8, 3))
    assert series(registry) == {
        "servoloop_queue_rows",
        "servoloop_batch_rows",
        "servoloop_batch_duration_seconds",
        "servoloop_batch_elements",
        "servoloop_padding_elements",
    }


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (QueueFull(REF, 4, 4), "queue_full"),
        (QueueFull(REF, 80, 100, unit="bytes"), "queue_bytes"),
        (Overloaded(REF, wait=3.0), "overloaded"),
        (DeadlineExceeded(REF, "the queue"), "deadline"),
    ],
)
def test_what_was_refused_is_counted_by_rows_and_reason(
    registry: CollectorRegistry, measures: ReplicaMeasures, error: ServoloopError, reason: str
) -> None:
    measures.refused(error, 3)
    assert sample(registry, "servoloop_dropped_rows_total", {**LABELS, "reason": reason}) == 3
    missed = sample(registry, "servoloop_deadline_misses_total", {**LABELS, "when": "before"})
    assert missed == (1 if reason == "deadline" else 0)


def test_who_asks_what_is_being_unloaded_is_not_counted(registry: CollectorRegistry, measures: ReplicaMeasures) -> None:
    measures.refused(NotReady(REF, "it is being unloaded"), 3)
    assert series(registry) == set()


def test_of_what_is_gone_nothing_is_loaded_and_nothing_waits(
    registry: CollectorRegistry, measures: ReplicaMeasures
) -> None:
    gauges = ("replicas", "queue_rows", "queue_age_seconds")
    measures.installed(2)
    measures.age(0.5)
    assert [sample(registry, f"servoloop_{gauge}", LABELS) for gauge in gauges] == [1, 2, 0.5]
    measures.gone()
    assert [sample(registry, f"servoloop_{gauge}", LABELS) for gauge in gauges] == [0, 0, 0]


def test_a_batchs_time_is_told_by_its_stages(measures: ReplicaMeasures) -> None:
    stages = measures.batch(2, 1.0, Fill(2, 0, input_seconds=0.125, infer_seconds=0.75))
    assert stages == StageSeconds(input=0.125, infer=0.75, output=0.125)
    assert measures.statistics.batches[2].infer == Spent(1, 750_000_000)


def test_clocks_that_disagree_make_no_time_negative(measures: ReplicaMeasures) -> None:
    assert measures.batch(2, 0.5, Fill(2, 0, input_seconds=0.25, infer_seconds=0.5)).output == 0.0


def test_every_request_that_gets_no_answer_is_counted_once(measures: ReplicaMeasures) -> None:
    measures.refused(QueueFull(REF, 4, 4), 3)
    measures.refused(DeadlineExceeded(REF, "the queue"), 3)
    measures.late(3, 0.5)
    measures.answered([request(arrived=1.0, failed=2)], 1.25, 1.25, STAGES)
    assert measures.statistics.fail == Spent(4, 750_000_000)
    assert measures.statistics.success == Spent(0, 0)


def test_requests_that_one_batch_answers_are_counted_with_its_stages(measures: ReplicaMeasures) -> None:
    requests = [request(arrived=1.0), request(arrived=1.5, failed=1), request(arrived=1.75, failed=2)]
    measures.answered(requests, started=2.0, now=3.0, stages=STAGES)
    assert measures.statistics.success == Spent(2, 3_500_000_000)
    assert measures.statistics.queue == Spent(2, 1_500_000_000)
    assert measures.statistics.fail == Spent(1, 1_250_000_000)
    assert measures.statistics.stages.infer == Spent(2, 1_000_000_000)
