"""What /metrics counted between two instants."""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, dict[str, str], float]


class Snapshot:
    """What /metrics said at one time."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    @staticmethod
    def of(url: str) -> "Snapshot":
        """What a service says now."""
        families = text_string_to_metric_families(httpx.get(f"{url}/metrics", trust_env=False).text)
        return Snapshot([(one.name, one.labels, one.value) for family in families for one in family.samples])

    def value(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that carry these labels."""
        return sum(v for sample, given, v in self._samples if sample == name and labels.items() <= given.items())

    def bounds(self, histogram: str, **labels: str) -> list[float]:
        """The upper bounds of its buckets."""
        name = f"{histogram}_bucket"
        found = {given["le"] for one, given, _ in self._samples if one == name and labels.items() <= given.items()}
        return sorted(float(one) for one in found)


@dataclass(frozen=True)
class Difference:
    """What was counted between two snapshots."""

    before: Snapshot
    after: Snapshot

    def value(self, name: str, **labels: str) -> float:
        """By how much it grew."""
        return self.after.value(name, **labels) - self.before.value(name, **labels)

    def mean_ms(self, histogram: str, **labels: str) -> float:
        """Milliseconds; 0 where nothing was counted."""
        count = self.value(f"{histogram}_count", **labels)
        return round(1000 * self.value(f"{histogram}_sum", **labels) / count, 3) if count else 0.0

    def percent_over(self, histogram: str, bucket: float, **labels: str) -> float:
        """`bucket` is one of the histogram's bounds."""
        count = self.value(f"{histogram}_count", **labels)
        within = self.value(f"{histogram}_bucket", le=str(bucket), **labels)
        return round(100 * (1 - within / count), 2) if count else 0.0

    def quantile_ms(self, histogram: str, share: float, **labels: str) -> float:
        """Milliseconds, taken to lie evenly within a bucket, as Prometheus does; 0 where nothing was counted."""
        count, below, bottom = self.value(f"{histogram}_count", **labels), 0.0, 0.0
        for bound in self.after.bounds(histogram, **labels):
            # As it is written in the text: whole numbers have ".0", and the last one is "+Inf".
            text = "+Inf" if bound == float("inf") else str(bound)
            within = self.value(f"{histogram}_bucket", le=text, **labels)
            if within >= share * count and within > below:
                if text == "+Inf":
                    break
                return round(1000 * (bottom + (bound - bottom) * (share * count - below) / (within - below)), 3)
            below, bottom = within, bound
        return round(1000 * bottom, 3)
