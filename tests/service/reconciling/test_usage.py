"""What the supervisor remembers of versions between two decisions."""

from service.domain import Precision, Ref
from service.reconciling.usage import Usage
from service.wire.report import DeviceReport, ReplicaReport, Report

A, B = Ref("a", 1), Ref("b", 1)
IDENTITIES = {A: "identity of a/1", B: "identity of b/1"}


def report(
    *refs: Ref, idle: float | None = None, num_bytes: int = 40, precision: Precision = Precision.FLOAT32
) -> Report:
    replicas = {ref: ReplicaReport(num_bytes, 0, precision, idle) for ref in refs}
    return Report(DeviceReport("cpu", 1000, ("cpu",)), replicas, frozenset(), frozenset())


def test_who_waits_is_owed_since_the_first_time_until_it_is_loaded() -> None:
    usage = Usage()
    for now in (10.0, 11.0, 12.0):
        usage.want(A, now)
        usage.learn([], IDENTITIES, now)
    assert (usage.owed, usage.asked) == ({A: 10.0}, {A: 12.0})
    usage.learn([(report(A), 12.5)], IDENTITIES, 12.5)
    assert usage.owed == {}
    assert usage.asked == {A: 12.0}
    usage.want(A, 20.0)
    assert usage.owed == {A: 20.0}, "it waits anew, should it have gone meanwhile"


def test_who_has_not_asked_for_two_seconds_has_gone() -> None:
    usage = Usage()
    usage.want(A, 10.0)
    usage.want(B, 11.0)
    usage.learn([], IDENTITIES, 11.9)
    assert usage.owed == {A: 10.0, B: 11.0}
    usage.learn([], IDENTITIES, 12.0)
    assert usage.owed == {B: 11.0}


def test_when_a_version_was_asked_for_is_what_was_said_last_by_anybody() -> None:
    usage = Usage()
    usage.learn([(report(A, idle=3.0), 10.0), (report(A, idle=1.0), 9.5)], IDENTITIES, 10.0)
    assert usage.asked == {A: 8.5}
    usage.learn([(report(A, idle=4.0), 11.0), (report(B), 11.0)], IDENTITIES, 11.0)
    assert usage.asked == {A: 8.5}, "nobody asked for the other, and the first was asked for later elsewhere"


def test_a_version_is_loaded_since_it_was_first_reported_anywhere_without_a_break() -> None:
    usage = Usage()
    usage.learn([(report(A), 1.0)], IDENTITIES, 1.0)
    usage.learn([(report(A), 2.0), (report(A, B), 2.0)], IDENTITIES, 2.0)
    assert usage.loaded_at == {A: 1.0, B: 2.0}
    usage.learn([(report(B), 3.0)], IDENTITIES, 3.0)
    usage.learn([(report(A, B), 4.0)], IDENTITIES, 4.0)
    assert usage.loaded_at == {A: 4.0, B: 2.0}


def test_what_a_replica_takes_is_the_most_it_ever_took_in_its_precision() -> None:
    usage = Usage()
    for num_bytes, precision in ((40, Precision.FLOAT32), (50, Precision.FLOAT32), (20, Precision.BFLOAT16)):
        usage.learn([(report(A, num_bytes=num_bytes, precision=precision), 1.0)], IDENTITIES, 1.0)
    usage.learn([(report(A, num_bytes=45), 1.0)], IDENTITIES, 1.0)
    usage.learn([(report(B), 1.0)], {A: "identity of a/1"}, 1.0)
    identity = IDENTITIES[A]
    assert usage.measured == {(identity, Precision.FLOAT32): 50, (identity, Precision.BFLOAT16): 20}
