"""How often simulated rollouts promote a challenger that should not be, and how soon one that should.

A rollout has a shadow phase, in which both versions answer the same rows, and canary phases, in which each answers its
share; after every 50 labels the evidence of all phases together is looked at, and the first look at which it is enough
promotes. Nothing rolls back, which would only make promotions fewer. The exit code is 1 where a challenger that should
not be promoted was more often than alpha and three standard errors.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.report import keep, progress, show
from models.metrics import LEAST_ROWS_OF_MEANS, Array, bets, threshold
from models.metrics.estimates import quantile

LOOK_EVERY = 50
# The canary's share of the answers, and how many labels a phase has.
SHADOW_LABELS = 2_000
CANARY = ((0.05, 1_000), (0.25, 1_000), (0.5, 2_000))
BASE = 0.9
# Of right and wrong answers of both versions: one that is retrained errs on much that the other errs on.
CORRELATION = 0.5
MARGIN = 0.01
# Of a group of fewer, a test for one look says nothing.
_FEW = 30


@dataclass(frozen=True, slots=True)
class Scenario:
    """A challenger whose accuracy is so much higher, and what must be shown of it: a gain above the bound."""

    rule: str
    gain: float
    bound: float

    @property
    def pair_chances(self) -> tuple[float, float, float]:
        """That the challenger alone is right, both or neither, the champion alone."""
        first, second = BASE, BASE + self.gain
        both = first * second + CORRELATION * math.sqrt(first * (1 - first) * second * (1 - second))
        return second - both, 1 - first - second + 2 * both, first - both


SUPERIOR, NON_INFERIOR = "superior", f"not worse by {100 * MARGIN:.0f} point"
HOPELESS = (Scenario(SUPERIOR, 0.0, 0.0), Scenario(NON_INFERIOR, -MARGIN, -MARGIN))
HOPEFUL = (
    *(Scenario(SUPERIOR, gain, 0.0) for gain in (0.01, 0.02, 0.05)),
    *(Scenario(NON_INFERIOR, gain, -MARGIN) for gain in (0.0, 0.01, 0.02, 0.05)),
)


@dataclass(frozen=True, slots=True)
class Looks:
    """The evidence at each look of each run, and how many standard errors the phase's own gain lies above the bound;
    both (runs, looks)."""

    evidence: Array
    deviations: Array


def rollouts(scenario: Scenario, runs: int, rng: np.random.Generator) -> Looks:
    """Simulate rollouts to their end."""
    phases = list(_phases(scenario, runs, rng))
    evidence, carried = [], np.zeros((runs, 1))
    for phase in phases:
        evidence.append(carried + phase.evidence)
        carried = evidence[-1][:, -1:]
    return Looks(np.concatenate(evidence, axis=1), np.concatenate([phase.deviations for phase in phases], axis=1))


def _phases(scenario: Scenario, runs: int, rng: np.random.Generator) -> Iterator[Looks]:
    shape = (runs, SHADOW_LABELS // LOOK_EVERY)
    better, same, worse = np.moveaxis(rng.multinomial(LOOK_EVERY, scenario.pair_chances, shape).cumsum(axis=1), 2, 0)
    n = better + same + worse
    gain = (better - worse) / n
    yield Looks(
        bets.on_pairs(better, same, worse, scenario.bound),
        _deviations(gain - scenario.bound, ((better + worse) / n - gain**2) / n),
    )
    for share, labels in CANARY:
        shape = (runs, labels // LOOK_EVERY)
        rows = rng.binomial(LOOK_EVERY, share, shape)
        hits = rng.binomial(rows, BASE + scenario.gain).cumsum(axis=1)
        other_hits = rng.binomial(LOOK_EVERY - rows, BASE).cumsum(axis=1)
        n, other_n = rows.cumsum(axis=1), (LOOK_EVERY - rows).cumsum(axis=1)
        p, q = hits / np.maximum(n, 1), other_hits / np.maximum(other_n, 1)
        variance = p * (1 - p) / np.maximum(n, 1) + q * (1 - q) / np.maximum(other_n, 1)
        variance[np.minimum(n, other_n) < _FEW] = 0.0
        yield Looks(
            bets.on_groups(hits, n, other_hits, other_n, scenario.bound),
            _deviations(p - q - scenario.bound, variance),
        )


def regressions(runs: int, rng: np.random.Generator) -> Looks:
    """Shadow phases as long as a rollout, of two versions whose skewed errors are alike."""
    labels = SHADOW_LABELS + sum(more for _, more in CANARY)
    shared, *own = (rng.normal(size=(runs, labels)) for _ in range(3))
    differences = np.exp(shared + own[0]) - np.exp(shared + own[1])
    looks = np.arange(LEAST_ROWS_OF_MEANS, labels + 1, LOOK_EVERY)
    means = differences.cumsum(axis=1)[:, looks - 1] / looks
    variances = np.square(differences).cumsum(axis=1)[:, looks - 1] / looks - np.square(means)
    return Looks(bets.on_means(looks, means, variances, 0.0), _deviations(means, variances / looks))


def _deviations(distance: Array, variance: Array) -> Array:
    # Of rows that don't vary, one look's test says nothing.
    return np.divide(distance, np.sqrt(variance), out=np.zeros_like(distance), where=variance > 0)


def promoted(looks: Looks, alpha: float) -> Array:
    """At which look each run promotes (runs,), as a label's number; inf where it does not."""
    enough = looks.evidence >= threshold(alpha)
    first = LOOK_EVERY * (1.0 + enough.argmax(axis=1))
    return np.where(enough.any(axis=1), first, np.inf)


def hopeless_line(rule: str, challenger: str, looks: Looks, alpha: float) -> dict[str, Any]:
    """How often a challenger was promoted that should not be, beside a test for one look that is looked at as often."""
    runs = len(looks.evidence)
    share = float(np.isfinite(promoted(looks, alpha)).mean())
    one_look = (looks.deviations >= quantile(1 - 2 * alpha)).any(axis=1)
    return {
        "rule": rule,
        "challenger": challenger,
        "promoted %": 100 * share,
        "at most %": 100 * (alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)),
        "by a test for one look %": 100 * float(one_look.mean()),
    }


def hopeful_line(scenario: Scenario, looks: Looks, alpha: float) -> dict[str, Any]:
    """How often, and after how many labels, a challenger was promoted that should be."""
    labels = promoted(looks, alpha)
    median = float(np.median(labels))
    return {
        "rule": scenario.rule,
        "gain, points": 100 * scenario.gain,
        "promoted %": 100 * float(np.isfinite(labels).mean()),
        "in the shadow phase %": 100 * float((labels <= SHADOW_LABELS).mean()),
        "median labels": int(median) if math.isfinite(median) else None,
    }


def main() -> None:
    """Simulate and print; with --json also keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    console, runs, alpha = Console(), arguments.runs, arguments.alpha
    rng, began = np.random.default_rng(arguments.seed), time.monotonic()
    hopeless, hopeful = [], []
    with progress(console, len(HOPELESS) + 1 + len(HOPEFUL)) as step:
        for scenario in HOPELESS:
            step(f"{scenario.rule}, a challenger that is not")
            challenger = "equal" if not scenario.gain else f"worse by {-100 * scenario.gain:.0f} point"
            hopeless.append(hopeless_line(scenario.rule, challenger, rollouts(scenario, runs, rng), alpha))
        step("regressions")
        hopeless.append(hopeless_line(SUPERIOR, "equal, a regression", regressions(runs, rng), alpha))
        for scenario in HOPEFUL:
            step(f"{scenario.rule}, {100 * scenario.gain:+.0f} points")
            hopeful.append(hopeful_line(scenario, rollouts(scenario, runs, rng), alpha))
    labels = SHADOW_LABELS + sum(more for _, more in CANARY)
    show(console, f"{runs:,} rollouts of {labels:,} labels each that should not promote", hopeless)
    show(console, f"{runs:,} rollouts each that should, from an accuracy of {BASE}", hopeful)
    console.print(f"{time.monotonic() - began:.0f} s")
    keep(
        arguments.json,
        "python -m benchmarks.rollouts",
        quick=False,
        runs=runs,
        alpha=alpha,
        seed=arguments.seed,
        look_every=LOOK_EVERY,
        shadow_labels=SHADOW_LABELS,
        canary=CANARY,
        base=BASE,
        correlation=CORRELATION,
        should_not_promote=hopeless,
        should_promote=hopeful,
    )
    if any(line["promoted %"] > line["at most %"] for line in hopeless):
        sys.exit(1)


if __name__ == "__main__":
    main()
