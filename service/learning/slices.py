"""How a model does on groups of its predictions, and whether it does worse on some than on the others."""

from collections.abc import Callable, Sequence
from typing import Any

from models.metrics import Estimate, difference_of_means, difference_of_proportions
from service.learning.live import Group, LiveModel, Selection
from service.learning.tasks import Rate

# Figures of fewer labels say little of a model, and much of those few.
MINIMUM_N = 30
_MOST_GROUPS = 32
_DOUBT = 0.05


def slices(
    model: LiveModel, selection: Selection, tag: str, predictions: Callable[[str], int | None]
) -> dict[str, Any]:
    """Groups by the value of a tag, as the API answers them. `predictions`: how many a slice has, where
    that is known.

    Differences are from all other rows of the selection, and hold together with 95 % (Bonferroni).
    """
    every = model.groups(selection, tag)
    told = [group for group in every if group.n >= MINIMUM_N][:_MOST_GROUPS]
    differences = [_differences(group, confidence=1 - _DOUBT / len(told)) for group in told]
    return {
        "tag": tag,
        "minimum_n": MINIMUM_N,
        "groups": [
            {
                "slice": group.name,
                "n": group.n,
                "predictions": predictions(group.name),
                "metrics": {name: one.to_dict() for name, one in group.metrics.items()},
                "differences": {name: one.to_dict() for name, one in each.items()},
            }
            for group, each in zip(told, differences, strict=True)
        ],
        "worst": _worst(told, differences),
        "suppressed": [group.name for group in every if group.n < MINIMUM_N],
        "omitted": sum(group.n >= MINIMUM_N for group in every) - len(told),
    }


def _differences(group: Group, confidence: float) -> dict[str, Estimate]:
    return {name: _difference(rate, group, confidence) for name, rate in group.rates.items()}


def _difference(rate: Rate, group: Group, confidence: float) -> Estimate:
    inside, outside = group.rows, ~group.rows
    if rate.counted is not None:
        inside, outside = inside & rate.counted, outside & rate.counted
    these, others = rate.values[inside], rate.values[outside]
    if these.dtype == bool:
        return difference_of_proportions(
            int(these.sum()), len(these), int(others.sum()), len(others), confidence=confidence
        )
    return difference_of_means(these, others, confidence=confidence)


def _worst(groups: Sequence[Group], differences: Sequence[dict[str, Estimate]]) -> dict[str, Any] | None:
    """The group with the worst main figure, and whether it is shown to be worse than the rest."""
    found: list[tuple[float, str, bool]] = []
    for group, each in zip(groups, differences, strict=True):
        name, rate = next(iter(group.rates.items()))
        value = rate.over(group.rows).value
        if value is None:
            continue
        sign = 1 if rate.is_error else -1
        difference = each[name]
        bounds = [bound for bound in (difference.low, difference.high) if bound is not None]
        found.append((sign * value, group.name, bool(bounds) and all(sign * bound > 0 for bound in bounds)))
    if not found:
        return None
    _, name, is_shown = max(found)
    return {"slice": name, "is_shown": is_shown}
