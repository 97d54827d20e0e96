from service.domain import Ref
from service.wire.frames import Kind
from service.wire.statistics import Spent, Stages, StageSeconds, Statistics, counted_frame, statistics_in

REF, OTHER = Ref("fashion", 2), Ref("mood", 1)
STAGES = StageSeconds(input=0.001, infer=0.5, output=0.25)


def busy(num_bytes: int = 100, device: str = "cpu") -> Statistics:
    """After a batch of two rows and one of one, of which one request got answers and one failed."""
    statistics = Statistics(num_bytes={device: num_bytes})
    statistics.ran(2, STAGES, now_ms=7_000)
    statistics.ran(1, STAGES, now_ms=9_000)
    statistics.answered(1, 1.0, 0.5, STAGES)
    statistics.fail.add(0.25)
    return statistics


def test_batches_are_counted_by_their_rows() -> None:
    statistics = busy()
    assert (statistics.rows, statistics.executions, statistics.last) == (3, 2, 9_000)
    assert statistics.batches[2] == statistics.batches[1]
    assert statistics.batches[2] == Stages(Spent(1, 1_000_000), Spent(1, 500_000_000), Spent(1, 250_000_000))


def test_requests_are_counted_by_what_became_of_them() -> None:
    statistics = busy()
    assert statistics.success == Spent(1, 1_000_000_000)
    assert statistics.fail == Spent(1, 250_000_000)
    assert statistics.queue == Spent(1, 500_000_000)
    assert statistics.stages == Stages(Spent(1, 1_000_000), Spent(1, 500_000_000), Spent(1, 250_000_000))


def test_several_engines_add_up() -> None:
    total = Statistics()
    for one in (busy(100), busy(10), busy(7, "cuda:1"), Statistics(last=1)):
        total.merge(one)
    assert (total.rows, total.executions, total.last) == (9, 6, 9_000)
    assert (total.success.count, total.fail.count, total.queue.count) == (3, 3, 3)
    assert total.batches[2].infer == Spent(3, 1_500_000_000)
    assert total.stages.output == Spent(3, 750_000_000)
    assert total.num_bytes == {"cpu": 110, "cuda:1": 7}


def test_they_travel_whole() -> None:
    frame = counted_frame(7, {REF: busy(), OTHER: Statistics()})
    assert (frame.kind, frame.request_id) == (Kind.COUNTED, 7)
    assert statistics_in(frame) == {REF: busy(), OTHER: Statistics()}
