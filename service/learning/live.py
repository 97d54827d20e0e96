"""The predictions of one model of which something is known, in memory, and what that says of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models import metrics
from models.metrics import Array, Estimate
from service.learning.table import Column, Table, keys_of
from service.learning.tasks import LABELLED, UNKNOWN_LABEL, Figures, Rate, task_of
from service.store.base import Known, Role, milliseconds_of
from service.store.feedback import ModelContract

_ROLES: tuple[Role, ...] = ("answered", "shadow")
_NAN = float("nan")
# Tags may hold ids: of a model, so many names and values are told apart.
_MOST_SLICES = 256
_DELAYS = (0.5, 0.9, 0.99)
# What is older than this share of the label delays has most of the labels that it will ever get.
_MATURE_SHARE = 0.95
_LATEST_LABELS = 10_000
_MOST_REPORTS = 64


@dataclass(frozen=True, slots=True)
class Selection:
    """Which predictions are looked at; None is all. Times in seconds since 1970, `until` excluded; `slice`: a tag's
    name:value."""

    version: int | None = None
    role: Role | None = "answered"
    since: float | None = None
    until: float | None = None
    slice: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of predictions. `n` are those with a usable label, `unknown_labels` those whose label is none of
    the model's; `label_delay` is in seconds, by quantile."""

    n: int
    unknown_labels: int
    figures: Figures
    rating: Estimate
    label_delay: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Group:
    """`n` labelled predictions with one tag: their figures, the rates of all that are looked at, and which of those
    rows these are (m,)."""

    name: str
    n: int
    metrics: Mapping[str, Estimate]
    rates: Mapping[str, Rate]
    rows: Array


class LiveModel:
    """Follows what is known of a model's predictions: each may be taken again, with another label or without."""

    def __init__(self, contract: ModelContract) -> None:
        self.contract = contract
        self._task = task_of(contract)
        self._tags: dict[str, int] = {}
        self._tag_sets: dict[frozenset[int], int] = {frozenset(): 0}
        common = {
            "time": Column("i8"),
            "version": Column("i4"),
            "role": Column("i1"),
            "tags": Column("i4"),
            "state": Column("i1"),
            "received": Column("i8"),
            "rating": Column("f8", empty=_NAN),
        }
        self._table = Table({**common, **self._task.columns()})
        # Until something else is known, who asks again is told the same.
        self._reports: dict[Selection, Report] = {}
        self._maturity: float | None = None

    def __len__(self) -> int:
        return int(self._table["there"].sum())

    def take(self, known: Sequence[Known]) -> None:
        """Rows of this model, in the order in which they became known."""
        self._forget_answers()
        # A prediction may come twice: what is known last counts.
        latest = list({one.prediction_id: one for one in known}.values())
        kept: list[Known] = []
        gone: list[Known] = []
        for one in latest:
            is_gone = one.outputs is None or (one.label is None and one.rating is None)
            (gone if is_gone else kept).append(one)
        if kept:
            self._table.put(keys_of([one.prediction_id for one in kept]), self._values(kept))
        if gone:
            self._table.remove(keys_of([one.prediction_id for one in gone]))

    def forget_before(self, time: float) -> None:
        """Let go of predictions that were made before this time, in seconds since 1970."""
        self._forget_answers()
        self._table.compact(self._table["time"] >= round(time * 1000))

    def report(self, selection: Selection) -> Report:
        """All that is known of these predictions."""
        if selection not in self._reports:
            if len(self._reports) >= _MOST_REPORTS:
                self._reports.clear()
            self._reports[selection] = self._report(selection)
        return self._reports[selection]

    def _report(self, selection: Selection) -> Report:
        table, chosen = self._table, self._chosen(selection)
        rows = table.chosen(chosen & (table["state"] == LABELLED))
        ratings = table["rating"][table.chosen(chosen)]
        return Report(
            n=len(rows),
            unknown_labels=int((chosen & (table["state"] == UNKNOWN_LABEL)).sum()),
            figures=self._task.figures(table, rows),
            rating=metrics.mean(ratings[~np.isnan(ratings)]),
            label_delay={f"p{round(100 * at)}": seconds for at, seconds in self._delays(rows).items()},
        )

    def over_time(self, selection: Selection, edges: Sequence[float]) -> tuple[str, list[Estimate]]:
        """The figure by which the model is followed, between each two edges, in seconds since 1970."""
        table = self._table
        rows = table.chosen(self._chosen(selection) & (table["state"] == LABELLED))
        name, rate = next(iter(self._task.rates(table, rows).items()))
        at = np.searchsorted(edges, table["time"][rows] / 1000, side="right") - 1
        return name, [rate.over(at == index) for index in range(len(edges) - 1)]

    def groups(self, selection: Selection, tag: str) -> list[Group]:
        """Those that differ in the value of this tag, the largest first."""
        table = self._table
        rows = table.chosen(self._chosen(selection) & (table["state"] == LABELLED))
        rates = self._task.rates(table, rows)
        names = [name for name in self._tags if name.startswith(f"{tag}:")]
        members = {name: self._tagged(name)[rows] for name in names}
        return [
            Group(name, int(those.sum()), self._task.figures(table, rows[those]).metrics, rates, those)
            for name, those in sorted(members.items(), key=lambda one: (-int(one[1].sum()), one[0]))
            if those.any()
        ]

    def judged(
        self, version: int, since: float, until: float, *, most: int | None = None
    ) -> tuple[Array, Array] | None:
        """How sure a version was of what it predicted (n,), and whether that was right (n,), of labelled predictions;
        of more than `most`, of the latest.

        None for tasks in which it is not sure of one label.
        """
        table = self._table
        chosen = self._chosen(Selection(version, None, since, until)) & (table["state"] == LABELLED)
        rows = table.chosen(chosen)
        return self._task.judged(table, rows if most is None else _latest(rows, table["time"], most))

    def label_delay(self, selection: Selection) -> dict[float, float]:
        """Seconds from a prediction to its first label, by quantile."""
        return self._delays(self._table.chosen(self._chosen(selection) & (self._table["state"] == LABELLED)))

    @property
    def maturity(self) -> float | None:
        """Seconds after which a prediction has most of the labels that it will ever get, by what came lately.

        None where nothing is known.
        """
        if self._maturity is None:
            self._maturity = self._measured_maturity()
        return self._maturity

    @property
    def versions(self) -> list[int]:
        """Those of whose predictions something is known."""
        return [int(one) for one in np.unique(self._table["version"][self._table["there"]])]

    @property
    def slices(self) -> list[str]:
        """Of the predictions that something is known of: name:value."""
        return sorted(self._tags)

    def _measured_maturity(self) -> float | None:
        table = self._table
        rows = np.flatnonzero(table["there"] & (table["state"] == LABELLED))
        if not len(rows):
            return None
        rows = _latest(rows, table["received"], _LATEST_LABELS)
        return float(np.quantile(self._delays_of(rows), _MATURE_SHARE)) / 1000

    def _forget_answers(self) -> None:
        self._reports.clear()
        self._maturity = None

    def _delays(self, rows: Array) -> dict[float, float]:
        if not len(rows):
            return {}
        return dict(zip(_DELAYS, (np.quantile(self._delays_of(rows), _DELAYS) / 1000).tolist(), strict=True))

    def _delays_of(self, rows: Array) -> Array:
        """Milliseconds from each prediction to its first label, which of whole ones is found sooner; none where that
        came first."""
        delays: Array = np.maximum(self._table["received"][rows] - self._table["time"][rows], 0)
        return delays

    def _values(self, known: Sequence[Known]) -> dict[str, Array]:
        return {
            "time": np.array([milliseconds_of(one.prediction_id) for one in known], np.int64),
            "version": np.array([one.version for one in known], np.int32),
            "role": np.array([_ROLES.index(one.role) for one in known], np.int8),
            "tags": np.array([self._tag_set(one.tags or {}) for one in known], np.int32),
            "received": np.array([one.received_at or 0 for one in known], np.int64),
            "rating": np.array([_NAN if one.rating is None else one.rating for one in known], np.float64),
            **self._task.values(known),
        }

    def _tag_set(self, tags: Mapping[str, str]) -> int:
        numbers = []
        for tag in (f"{name}:{value}" for name, value in tags.items()):
            if tag not in self._tags and len(self._tags) < _MOST_SLICES:
                self._tags[tag] = len(self._tags)
            if tag in self._tags:
                numbers.append(self._tags[tag])
        return self._tag_sets.setdefault(frozenset(numbers), len(self._tag_sets))

    def _chosen(self, selection: Selection) -> Array:
        table = self._table
        chosen: Array = table["there"].copy()
        if selection.version is not None:
            chosen &= table["version"] == selection.version
        if selection.role is not None:
            chosen &= table["role"] == _ROLES.index(selection.role)
        if selection.since is not None:
            chosen &= table["time"] >= round(selection.since * 1000)
        if selection.until is not None:
            chosen &= table["time"] < round(selection.until * 1000)
        if selection.slice:
            chosen &= self._tagged(selection.slice)
        return chosen

    def _tagged(self, name: str) -> Array:
        tag = self._tags.get(name, -1)
        return np.isin(self._table["tags"], [number for tags, number in self._tag_sets.items() if tag in tags])


def _latest(rows: Array, times: Array, most: int) -> Array:
    """Of places, those with the latest times, as far as 65,536 steps between the first and the last tell them apart.

    Of as late ones the first. A partition would take fifty times as long where many times are the same.
    """
    if len(rows) <= most:
        return rows
    taken = times[rows]
    first, span = taken.min(), int(np.ptp(taken))
    steps = (taken - first) >> max(0, span.bit_length() - 16)
    from_the_last = np.cumsum(np.bincount(steps)[::-1])
    fullest = len(from_the_last) - 1 - int(np.searchsorted(from_the_last, most))
    later = np.flatnonzero(steps > fullest)
    as_late = np.flatnonzero(steps == fullest)[: most - len(later)]
    return np.asarray(rows[np.concatenate([later, as_late])])
