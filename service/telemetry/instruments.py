"""The instruments, bound to a registry that is handed in.

Several processes answer as one through prometheus-client's multiprocess mode: each writes files named after its slot
(http-0, engine-0), not its process id, into a folder that the supervisor made. A restarted process goes on counting
in its slot's files, so nothing is counted twice and nothing is left behind.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from copy import copy

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, multiprocess, values
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from service.domain import Ref, Rollout
from service.telemetry.tally import Counts, TalliedHistogram, Tally

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST

_STAGE_BUCKETS = (
    1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10,
)  # fmt: skip
_LATENCY_BUCKETS = tuple(0.0005 * 2**i for i in range(17))  # 0.5 ms to 32.8 s
_LOAD_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 600)
_ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_GROUP_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096)


def use_slot(slot: str) -> None:
    """Make this process write its metrics as `slot`. Call before any instrument is made."""
    if MULTIPROCESS_DIR in os.environ:
        values.ValueClass = values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]


def forget_gauges(slot: str) -> None:
    """Take back what a process that ended said of its present state: nothing waits in a queue that is gone."""
    multiprocess.mark_process_dead(slot)  # type: ignore[no-untyped-call]


def expose(registry: CollectorRegistry, gone: Collection[Ref] = ()) -> bytes:
    """The Prometheus text of all processes, or of `registry` alone where there is only one.

    Series of versions that are `gone` are left out: their files stay until the service ends, but nobody asks for them.
    """
    if MULTIPROCESS_DIR in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(_Without(registry, {(ref.model, str(ref.version)) for ref in gone}) if gone else registry)


class _Without(CollectorRegistry):
    """Another registry, but for the series of some versions."""

    def __init__(self, registry: CollectorRegistry, versions: set[tuple[str, str]]) -> None:
        super().__init__()
        self._registry = registry
        self._versions = versions

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            kept = copy(metric)
            kept.samples = [
                sample
                for sample in metric.samples
                if (sample.labels.get("model"), sample.labels.get("version")) not in self._versions
            ]
            yield kept


class HttpTelemetry:
    """What http processes measure: each request's share by way of the `tally`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.tally = Tally(registry)
        self._versions: dict[Ref, VersionMeasures] = {}
        self._shown_rollouts: set[tuple[str, int, str]] = set()
        self.requests = Counter(
            "servoloop_requests",
            "Prediction requests answered, by outcome: ok, or the error's kind.",
            ["model", "version", "outcome"],
            registry=registry,
        )
        self.request_duration = TalliedHistogram(
            "servoloop_request_duration_seconds",
            "From the request's headers to its answer.",
            ["model", "version"],
            buckets=_LATENCY_BUCKETS,
            registry=registry,
        )
        self.stage_duration = TalliedHistogram(
            "servoloop_stage_duration_seconds",
            "Time of a request's stages: parse, preprocess, queue, compute, encode.",
            ["model", "stage"],
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.rows = Counter("servoloop_rows", "Rows answered.", ["model", "version", "outcome"], registry=registry)
        self.resent = Counter(
            "servoloop_requests_resent", "Requests sent again after their engine was lost.", registry=registry
        )
        self.shared_forwards = Counter(
            "servoloop_shared_forwards",
            "Requests answered without a forward of their own: in_flight, or kept from an earlier one.",
            ["model", "version", "how"],
            registry=registry,
        )
        self.fallbacks = Counter(
            "servoloop_canary_fallbacks",
            "Requests that were for a challenger and went to the champion: not_here, not_ready, prepared, or the "
            "error's kind.",
            ["model", "version", "reason"],
            registry=registry,
        )
        self.mirrored = Counter(
            "servoloop_mirrored_requests",
            "Requests that a shadow was to compute, by outcome: ok, not_here, not_ready, prepared, left_out where too "
            "many were under way, or the error's kind.",
            ["model", "version", "outcome"],
            registry=registry,
        )
        self.rollout_share = Gauge(
            "servoloop_rollout_share",
            "The share of a model's requests that a version on trial is wanted to answer or to compute.",
            ["model", "version", "stage"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.log_dropped = Counter(
            "servoloop_log_dropped_records",
            "Predictions answered but not logged: queue_full, unencodable, refused, undelivered.",
            ["reason"],
            registry=registry,
        )
        self.inputs_dropped = Counter(
            "servoloop_inputs_dropped",
            "Inputs that were chosen to be kept, and let go because too much waits to be durable.",
            registry=registry,
        )
        self.log_queued = Gauge(
            "servoloop_log_queued_records",
            "Predictions that are not durable yet.",
            registry=registry,
            multiprocess_mode="sum",
        )
        self.log_lag = Histogram(
            "servoloop_log_lag_seconds",
            "From a prediction's answer to its being durable, for the oldest of each group sent.",
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )

        # What isn't even an item never comes to the recorder, which counts the others.
        self.refused_feedback = _feedback_events(registry).labels("rejected")

    def show_rollouts(self, rollouts: Iterable[Rollout]) -> None:
        """What is on trial from now on, and nothing else: series can't be taken back, so they are 0."""
        shown = {(one.model, one.version, one.stage.value): one.in_effect for one in rollouts}
        for labels in self._shown_rollouts - shown.keys():
            self.rollout_share.labels(*labels).set(0.0)
        for labels, share in shown.items():
            self.rollout_share.labels(*labels).set(share)
        self._shown_rollouts |= shown.keys()

    def of(self, ref: Ref) -> "VersionMeasures":
        """What is measured of a version's every request."""
        measures = self._versions.get(ref)
        if measures is None:
            measures = self._versions[ref] = VersionMeasures(self, ref)
        return measures


class VersionMeasures:
    """The series of one version that every request adds to, found once."""

    def __init__(self, telemetry: HttpTelemetry, ref: Ref) -> None:
        self._telemetry = telemetry
        self._ref = ref
        tally, stages = telemetry.tally, telemetry.stage_duration
        self.duration = tally.times(telemetry.request_duration, ref.model, ref.version)
        self.rows = tally.counts(telemetry.rows, ref.model, ref.version, "ok")
        self.failed_rows = tally.counts(telemetry.rows, ref.model, ref.version, "failed")
        self.parse = tally.times(stages, ref.model, "parse")
        self.preprocess = tally.times(stages, ref.model, "preprocess")
        self.queue = tally.times(stages, ref.model, "queue")
        self.compute = tally.times(stages, ref.model, "compute")
        self.encode = tally.times(stages, ref.model, "encode")

    def requests(self, outcome: str) -> Counts:
        """Those with this outcome: ok, or an error's kind."""
        return self._telemetry.tally.counts(self._telemetry.requests, self._ref.model, self._ref.version, outcome)

    def shared(self, how: str) -> Counts:
        """Those without a forward of their own: in_flight, or kept from an earlier one."""
        return self._telemetry.tally.counts(self._telemetry.shared_forwards, self._ref.model, self._ref.version, how)


class EngineTelemetry:
    """What engine processes measure."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["model", "version"]
        self.batch_rows = Histogram(
            "servoloop_batch_rows", "Rows of an executed batch.", labels, buckets=_ROW_BUCKETS, registry=registry
        )
        self.batch_duration = Histogram(
            "servoloop_batch_duration_seconds",
            "Assembly and forward of a batch.",
            labels,
            buckets=_STAGE_BUCKETS,
            registry=registry,
        )
        self.elements = Counter(
            "servoloop_batch_elements", "Sequence elements executed, padding included.", labels, registry=registry
        )
        self.padding = Counter(
            "servoloop_padding_elements", "Sequence elements that were only padding.", labels, registry=registry
        )
        self.queue_rows = Gauge(
            "servoloop_queue_rows", "Rows waiting.", labels, registry=registry, multiprocess_mode="livesum"
        )
        self.dropped = Counter(
            "servoloop_dropped_rows",
            "Rows dropped before they reached the device: deadline, cancelled, queue_full, queue_bytes, overloaded.",
            [*labels, "reason"],
            registry=registry,
        )
        self.deadline_misses = Counter(
            "servoloop_deadline_misses",
            "Requests that could not be answered in time: found before their batch was assembled, or after it ran.",
            [*labels, "when"],
            registry=registry,
        )
        self.queue_age = Gauge(
            "servoloop_queue_age_seconds",
            "How long the oldest row has waited.",
            labels,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.cap_reductions = Counter(
            "servoloop_batch_cap_reductions",
            "Batches made smaller for a while because memory did not suffice.",
            labels,
            registry=registry,
        )
        self.replicas = Gauge(
            "servoloop_replicas",
            "Versions that are loaded and warm.",
            labels,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.resident_bytes = Gauge(
            "servoloop_resident_bytes",
            "Memory of a device that a loaded version takes, as far as is measured.",
            [*labels, "device"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.memory_budget = Gauge(
            "servoloop_memory_budget_bytes",
            "Memory of a device that is for loaded versions.",
            ["device"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.device_free = Gauge(
            "servoloop_device_free_bytes",
            "Memory of a device that nobody uses.",
            ["device"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.load_duration = Histogram(
            "servoloop_load_seconds",
            "From the beginning of a load to the first batch that may run on it, for those that succeeded.",
            labels,
            buckets=_LOAD_BUCKETS,
            registry=registry,
        )
        self.loads = Counter(
            "servoloop_loads",
            "Loads by outcome: ok, failed, or reloaded where the version was loaded before.",
            [*labels, "outcome"],
            registry=registry,
        )
        self.unloads = Counter("servoloop_unloads", "Versions unloaded.", labels, registry=registry)


def _feedback_events(registry: CollectorRegistry) -> Counter:
    return Counter(
        "servoloop_feedback_events",
        "Feedback: joined, pending, duplicate, conflict, rejected, or joined_later: what had been pending.",
        ["outcome"],
        registry=registry,
    )


class RecorderTelemetry:
    """What the recorder measures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.written = Counter("servoloop_log_written_records", "Predictions made durable.", registry=registry)
        self.expired = Counter(
            "servoloop_log_expired_records", "Predictions deleted because they were too old.", registry=registry
        )
        self.inputs = Counter("servoloop_inputs_written", "Inputs of predictions made durable.", registry=registry)
        self.expired_inputs = Counter(
            "servoloop_inputs_expired",
            "Inputs deleted because they were too old, or the oldest of too many.",
            registry=registry,
        )
        self.feedback = _feedback_events(registry)
        self.orphaned = Counter(
            "servoloop_feedback_orphaned_events",
            "Feedback whose prediction did not become known in time.",
            registry=registry,
        )
        self.expired_feedback = Counter(
            "servoloop_feedback_expired_events", "Feedback deleted because it was too old.", registry=registry
        )
        self.group_records = Histogram(
            "servoloop_log_group_records",
            "Predictions committed together.",
            buckets=_GROUP_BUCKETS,
            registry=registry,
        )
        self.commit_duration = Histogram(
            "servoloop_log_commit_seconds", "Time of one commit.", buckets=_STAGE_BUCKETS, registry=registry
        )


class SupervisorTelemetry:
    """What the supervisor measures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.restarts = Counter(
            "servoloop_process_restarts",
            "Processes started again after they ended, by cause: crash, device, hang, silent, outside.",
            ["slot", "cause"],
            registry=registry,
        )
        self.quarantined = Counter(
            "servoloop_quarantined_inputs",
            "Inputs that are refused since engines died of them.",
            ["model", "version"],
            registry=registry,
        )
        self.evictions = Counter(
            "servoloop_evictions",
            "Versions unloaded to make room for others.",
            ["model", "version"],
            registry=registry,
        )
        self.withdrawn = Counter(
            "servoloop_versions_withdrawn",
            "Versions taken out since engines died again and again while running them.",
            ["model", "version"],
            registry=registry,
        )
