"""Against labels that are wrong on purpose, before anything is learned from them. Pure, and numpy only.

Under one row in a hundred can plant a back door (Carlini et al. 2023, arXiv:2302.10149), so that no single rule is
enough: who gives many rows counts for less, sources count as they are trusted, and who contradicts a sure champion far
more often than all others do is looked at by a person first. When the world changes, everyone contradicts it, and
nobody stands out: that is what there is to learn. `inputs` (n,) are digests by which equal inputs
are known. Shapes: n labelled rows, m rows of a test set, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.feedback.job import Defences
from models.manifest import Task
from models.metrics import Calibrator

Array = np.ndarray[Any, np.dtype[Any]]

# Fewer test rows say nothing of how sure a champion may be, and fewer rows of an actor nothing of the actor.
_LEAST_TEST_ROWS = 50
_LEAST_ROWS_OF_ACTOR = 10


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the champion holds of n labels.

    `loss` is that of each label, in nats; of a value, its error in units of the largest that is usual. `is_sure`: where
    the champion is known to be right nearly always. `contradicts`: where it is sure, and the label all but excluded.
    """

    loss: Array
    is_sure: Array
    contradicts: Array


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that a person should look at before it is learned from."""

    index: int
    reason: str
    loss: float


def opinion(
    task: Task, said: Array, targets: Array, test_said: Array, test_truth: Array, threshold: float, policy: Defences
) -> Opinion:
    """Compare labels with what the champion says of their rows, knowing how often it is right on the test set.

    `said` is (n, C) probabilities, (n,) that of the positive label for a binary task, or (n,) values; `test_said` the
    same of m rows that are `test_truth`. With fewer than 50 of them it is sure of nothing.
    """
    n = len(targets)
    if task == "regression":
        errors = np.abs(said - targets)
        if len(test_truth) < _LEAST_TEST_ROWS:
            return Opinion(errors, np.zeros(n, bool), np.zeros(n, bool))
        usual = float(np.quantile(np.abs(test_said - test_truth), policy.sure_from))
        loss = errors / max(usual, np.finfo(np.float64).tiny)
        return Opinion(loss, np.ones(n, bool), loss > policy.least_loss)
    confidence, predicted, given = _classified(task, said, threshold, targets)
    loss = -np.log(np.maximum(given, np.finfo(np.float64).tiny))
    if len(test_truth) < _LEAST_TEST_ROWS:
        return Opinion(loss, np.zeros(n, bool), np.zeros(n, bool))
    test_confidence, test_predicted, _ = _classified(task, test_said, threshold, test_truth)
    is_sure = Calibrator.fit(test_confidence, test_predicted == test_truth).of(confidence) >= policy.sure_from
    return Opinion(loss, is_sure, is_sure & (predicted != targets) & (loss >= policy.least_loss))


def repeated(inputs: Array, targets: Array, actors: Array) -> Array:
    """Where (n,) an actor says again of the same input what it said before: saying it often makes it no truer."""
    seen: set[tuple[Any, ...]] = set()
    found = np.zeros(len(targets), bool)
    for index, said in enumerate(zip(inputs.tolist(), targets.tolist(), actors.tolist(), strict=True)):
        found[index] = said in seen
        seen.add(said)
    return found


def over_cap(actors: Array, share: float, rng: np.random.Generator) -> Array:
    """Where (n,) an actor's rows are beyond `share` of all, some of its rows drawn at random.

    A lone actor, such as a team that labels everything, has no cap: there is nobody whom it could drown out.
    """
    names, numbers = np.unique(actors, return_inverse=True)
    found = np.zeros(len(actors), bool)
    if len(names) < 2:
        return found
    most = max(1, int(share * len(actors)))
    for number in range(len(names)):
        rows = np.flatnonzero(numbers == number)
        found[rng.permutation(rows)[most:]] = True
    return found


def trusted(weights: Array, sources: Array, trust: Mapping[str, float]) -> Array:
    """Return the weights (n,) times what each row's source is trusted."""
    return weights * np.array([trust.get(source, 1.0) for source in sources.tolist()], np.float64)


def limited(weights: Array, actors: Array, share: float, others: float) -> Array:
    """Return the weights (n,), scaled down where one of several actors would be more than `share` of the whole.

    The whole is what the rows weigh before, and `others`, the weight of what else is learned from. Nobody's weight goes
    up: a single row of a second actor must not become as much as all of the first's.
    """
    names, numbers = np.unique(actors, return_inverse=True)
    if len(names) < 2:
        return weights
    totals = np.bincount(numbers, weights)
    most = share * (float(weights.sum()) + others)
    factors = np.minimum(1.0, most / np.maximum(totals, np.finfo(np.float64).tiny))
    return np.asarray(weights * factors[numbers])


def suspects(held: Opinion, actors: Array, policy: Defences) -> dict[str, str]:
    """Return the actors who contradict a sure champion far more often than the others, each with the reason.

    "The others" is the median of their rates, by rows, which no minority can move; at least the rate at which a sure
    champion errs. Rates are compared by Chernoff's bound (1952): P(rate >= a) <= exp(-k KL(a || b)) of k rows at rate
    b. Actors of fewer than 10 rows are taken together, and rows of nobody known are suspected of nothing.
    """
    names, numbers = np.unique(actors[held.is_sure], return_inverse=True)
    counts = np.bincount(numbers, minlength=len(names))
    contradicted = np.bincount(numbers, held.contradicts[held.is_sure], len(names))
    single = counts >= _LEAST_ROWS_OF_ACTOR
    if not single.any():
        return {}
    groups = [
        (str(name), int(k), float(hits))
        for name, k, hits in zip(names[single], counts[single], contradicted[single], strict=True)
    ]
    if not single.all():
        groups.append(("", int(counts[~single].sum()), float(contradicted[~single].sum())))
    found = {}
    for name, k, hits in groups:
        others = [(other_hits / other_k, other_k) for other, other_k, other_hits in groups if other != name]
        if not name or not others:
            continue
        usual = max(_weighted_median(others), 1 - policy.sure_from)
        rate = hits / k
        surprise = k * _divergence(rate, usual)
        if rate > policy.times_the_others * usual and surprise > np.log(len(groups) / policy.alpha):
            found[name] = f"{name} contradicts a sure champion in {hits:.0f} of {k} rows, others in {usual:.0%}"
    return found


def quarantine(
    held: Opinion, predicted_otherwise: Array, inputs: Array, targets: Array, actors: Array, policy: Defences
) -> list[Quarantined]:
    """Return the rows to look at first: those in which a suspect says (n,) otherwise than the champion predicts.

    A label is let through when somebody who is not suspected says the same of the same input. At most
    `policy.most_quarantined` of all rows are taken, those of the highest loss.
    """
    reasons = suspects(held, actors, policy)
    vouched = {
        (key, target)
        for key, target, actor in zip(inputs.tolist(), targets.tolist(), actors.tolist(), strict=True)
        if actor not in reasons
    }
    chosen = [
        index
        for index in np.flatnonzero(predicted_otherwise & np.isin(actors, list(reasons))).tolist()
        if (str(inputs[index]), targets[index].item()) not in vouched
    ]
    most = int(policy.most_quarantined * len(targets))
    worst = sorted(chosen, key=lambda index: (-held.loss[index], index))[:most]
    return [Quarantined(index, reasons[str(actors[index])], float(held.loss[index])) for index in sorted(worst)]


def otherwise(task: Task, said: Array, targets: Array, threshold: float, held: Opinion) -> Array:
    """Where (n,) the label is not what the champion predicts; of values, where the error is beyond what is usual."""
    if task == "regression":
        return np.asarray(held.loss > 1)
    return np.asarray(_classified(task, said, threshold, targets)[1] != targets)


def _classified(task: Task, said: Array, threshold: float, targets: Array) -> tuple[Array, Array, Array]:
    """Return confidence, predicted index, and the probability of the label given, (n,) each."""
    if task == "binary":
        predicted = (said >= threshold).astype(np.int64)
        return np.where(predicted == 1, said, 1 - said), predicted, np.where(targets == 1, said, 1 - said)
    return said.max(axis=1), said.argmax(axis=1), said[np.arange(len(targets)), targets]


def _weighted_median(rates: list[tuple[float, int]]) -> float:
    """The rate below which half of the rows lie, the higher one at a tie."""
    ordered = sorted(rates)
    half, below = sum(k for _, k in ordered) / 2, 0
    for rate, k in ordered:
        below += k
        if below > half:
            return rate
    return ordered[-1][0]


def _divergence(a: float, b: float) -> float:
    """KL(a || b) of two coins, in nats; 0 < b < 1."""
    surely = 0.0 if a == 0 else a * np.log(a / b)
    never = 0.0 if a == 1 else (1 - a) * np.log((1 - a) / (1 - b))
    return float(surely + never)
