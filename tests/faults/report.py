"""What a fault showed."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """Figures to read, and promises that were kept or not."""

    fault: str
    figures: dict[str, object] = field(default_factory=dict)
    promises: dict[str, bool] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        return all(self.promises.values())


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the values lie; 0 where there are none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0
