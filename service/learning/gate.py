"""The promotion gate: whether a challenger may go on, by what it and the champion did on the same labelled rows.

Everything here is pure. `service.learning.evidence` makes the evidence of what two versions said.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from models.metrics import Estimate, Paired, PairedHits

Outcome = Literal["pass", "fail", "inconclusive"]
Rule = Literal["superior", "non_inferior"]
Figure = Literal["accuracy", "recall", "mae"]
Check = Literal["rows", "figure", "class", "slice", "calibration", "latency", "size"]

_RULES = frozenset(("superior", "non_inferior"))
_NAMES: Mapping[Figure, str] = {"accuracy": "accuracy", "recall": "recall", "mae": "mean absolute error"}
# The outcome of many checks is the first of these that one of them has.
_GRAVITY: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What is asked of a challenger. Gains are its accuracy minus the champion's; of a regression, the share of the
    champion's mean absolute error that it does without. Raises ValueError for what can't be.

    - `rule`: what its gain on the primary set must be shown to be: above 0 ("superior"), or above -margin
      ("non_inferior"). On the other sets it must not be shown to break `other_rule`.
    - `alpha`: each interval holds with 1 - alpha, those of a set's classes together, and those of its slices.
    - `minimum_rows`, of a set; `minimum_class_rows`, of a class or a slice: of fewer nothing is judged.
    - `class_margin` of recalls and `slice_margin` of gains: by so much none may be worse.
    - `max_ece_rise`: by so much the expected calibration error may rise.
    - `max_latency_ratio`, `max_size_ratio`: the challenger's may be so many times the champion's; None doesn't ask.
    """

    rule: Rule = "superior"
    other_rule: Rule = "non_inferior"
    primary_set: str = "test"
    alpha: float = 0.05
    margin: float = 0.01
    minimum_rows: int = 100
    minimum_class_rows: int = 30
    class_margin: float = 0.05
    slice_margin: float = 0.05
    max_ece_rise: float = 0.02
    max_latency_ratio: float | None = 1.5
    max_size_ratio: float | None = 2.0

    def __post_init__(self) -> None:
        for name in ("rule", "other_rule"):
            if (rule := getattr(self, name)) not in _RULES:
                raise ValueError(f"{name} must be superior or non_inferior, got {rule!r}")
        if not 0 < self.alpha <= 0.5:
            raise ValueError(f"alpha must be above 0 and at most 0.5, got {self.alpha}")
        for name in ("margin", "class_margin", "slice_margin", "max_ece_rise"):
            if not 0 <= (share := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be in 0 to 1, got {share}")
        for name in ("minimum_rows", "minimum_class_rows"):
            if (rows := getattr(self, name)) < 2:
                raise ValueError(f"{name} must be at least 2, got {rows}")
        for name in ("max_latency_ratio", "max_size_ratio"):
            ratio = getattr(self, name)
            if ratio is not None and not (ratio > 0 and math.isfinite(ratio)):
                raise ValueError(f"{name} must be positive, got {ratio}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, which `GatePolicy(**fields)` takes."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SetEvidence:
    """What both did on a labelled set: all of its rows, those of each class, and those of each guarded slice.

    `ece_rise`: the challenger's expected calibration error minus the champion's; None where the task has none.
    """

    overall: Paired
    classes: Mapping[str, PairedHits] = field(default_factory=dict)
    slices: Mapping[str, Paired] = field(default_factory=dict)
    ece_rise: Estimate | None = None


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """Labelled sets by name, what gains are of, and how many times the champion's latency and size the challenger has;
    None where that is not known."""

    sets: Mapping[str, SetEvidence]
    figure: Literal["accuracy", "mae"] = "accuracy"
    latency_ratio: float | None = None
    size_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """What one check came to: a sentence for people, and the figures behind it."""

    check: Check
    outcome: Outcome
    text: str
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Of all checks: fail where one failed, inconclusive where more rows are needed to tell, otherwise pass."""

    outcome: Outcome
    reasons: tuple[Reason, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return {"outcome", "reasons": [{"check", "outcome", "text", "figures"}]} of what JSON has."""
        return asdict(self)


def decide(policy: GatePolicy, evidence: GateEvidence) -> GateDecision:
    """Return what the evidence comes to by the policy, with a reason for every check.

    A set without rows is passed over, unless it is the primary one.
    """
    sets = {policy.primary_set: SetEvidence(PairedHits(0, 0, 0)), **evidence.sets}
    reasons: list[Reason] = []
    for name, one in sets.items():
        if one.overall.n or name == policy.primary_set:
            reasons += _on_set(policy, name, one, evidence.figure)
    reasons += _ratio("latency", evidence.latency_ratio, policy.max_latency_ratio)
    reasons += _ratio("size", evidence.size_ratio, policy.max_size_ratio)
    outcomes = {reason.outcome for reason in reasons}
    return GateDecision(next(outcome for outcome in _GRAVITY if outcome in outcomes), tuple(reasons))


def _on_set(policy: GatePolicy, name: str, one: SetEvidence, figure: Figure) -> Iterator[Reason]:
    is_primary = name == policy.primary_set
    if one.overall.n < policy.minimum_rows:
        yield Reason(
            "rows",
            "inconclusive" if is_primary else "pass",
            f"Set {name} has {one.overall.n} labelled rows: of fewer than {policy.minimum_rows} nothing is judged.",
            {"set": name, "n": one.overall.n, "minimum": policy.minimum_rows},
        )
        return
    yield _overall(policy, name, one.overall, figure, is_primary=is_primary)
    yield from _parts(policy, name, one.classes, policy.class_margin, "class", "recall")
    yield from _parts(policy, name, one.slices, policy.slice_margin, "slice", figure)
    if one.ece_rise is not None:
        yield from _calibration(policy, name, one.ece_rise)


def _overall(policy: GatePolicy, name: str, overall: Paired, figure: Figure, *, is_primary: bool) -> Reason:
    rule = policy.rule if is_primary else policy.other_rule
    gain = overall.gain(1 - policy.alpha)
    least, better, worse = 0.0, "better", "worse"
    if rule == "non_inferior":
        least, by = -policy.margin, _share(policy.margin, figure)
        better, worse = f"not worse by {by}", f"worse by more than {by}"
    outcome: Outcome
    if gain.high is not None and gain.high < least:
        outcome, says = "fail", f"is {worse}"
    elif gain.low is not None and gain.low > least:
        outcome, says = "pass", f"is {better}"
    elif is_primary:
        outcome, says = "inconclusive", f"is not shown to be {better} (more labelled rows may tell)"
    else:
        outcome, says = "pass", f"is not shown to be {worse}"
    return Reason(
        "figure",
        outcome,
        f"On set {name} the challenger {says}: {_told(figure, gain, 1 - policy.alpha)}.",
        {"set": name, "figure": figure, "rule": rule, "least": least, "gain": gain.to_dict()},
    )


def _parts(
    policy: GatePolicy,
    set_name: str,
    parts: Mapping[str, Paired],
    margin: float,
    check: Literal["class", "slice"],
    figure: Figure,
) -> Iterator[Reason]:
    """A reason for each class or slice that is worse or seems so, and one for all the others."""
    if not parts:
        return
    judged = {name: part for name, part in parts.items() if part.n >= policy.minimum_class_rows}
    few = {name: part.n for name, part in parts.items() if name not in judged}
    # Bonferroni: all of their intervals hold together.
    confidence = 1 - policy.alpha / max(1, len(judged))
    gains = {name: part.gain(confidence) for name, part in judged.items()}
    worse = {name: gain for name, gain in gains.items() if gain.value is not None and gain.value < -margin}
    by = _share(margin, figure)
    for name, gain in worse.items():
        is_shown = gain.high is not None and gain.high < 0
        says = "is worse" if is_shown else "seems worse (more labelled rows may tell)"
        yield Reason(
            check,
            "fail" if is_shown else "inconclusive",
            f"On {check} {name} of set {set_name} the challenger {says}: {_told(figure, gain, confidence)}; "
            f"{by} are allowed.",
            {"set": set_name, check: name, "margin": margin, "gain": gain.to_dict(), "confidence": confidence},
        )
    each = ("class", "classes") if check == "class" else ("slice", "slices")
    fine = len(judged) - len(worse)
    text = f"On {fine} {each[fine != 1]} of set {set_name} the challenger is not worse by more than {by}."
    if few:
        text += f" Not judged, of fewer than {policy.minimum_class_rows} rows: {', '.join(few)}."
    yield Reason(check, "pass", text, {"set": set_name, "margin": margin, "judged": len(judged), "not_judged": few})


def _calibration(policy: GatePolicy, name: str, rise: Estimate) -> Iterator[Reason]:
    if rise.value is None:
        return
    limit = policy.max_ece_rise
    outcome: Outcome = "pass"
    says = f"does not rise by more than {limit:.3f}"
    if rise.value > limit:
        is_shown = rise.low is not None and rise.low > 0
        outcome = "fail" if is_shown else "inconclusive"
        says = f"rises by more than {limit:.3f}" if is_shown else f"seems to rise by more than {limit:.3f}"
    interval = "" if rise.low is None else f" (95 %: {rise.low:+z.3f} to {rise.high:+z.3f})"
    yield Reason(
        "calibration",
        outcome,
        f"On set {name} the expected calibration error {says}: it differs by {rise.value:+z.3f}{interval}.",
        {"set": name, "limit": limit, "rise": rise.to_dict()},
    )


def _ratio(check: Literal["latency", "size"], ratio: float | None, limit: float | None) -> Iterator[Reason]:
    if limit is None:
        return
    figures = {"ratio": ratio, "limit": limit}
    if ratio is None:
        yield Reason(check, "inconclusive", f"The challenger's {check} was not compared with the champion's.", figures)
        return
    text = f"The challenger's {check} is {ratio:.2f} times the champion's; at most {limit:.2f} times is allowed."
    yield Reason(check, "fail" if ratio > limit else "pass", text, figures)


def _told(figure: Figure, gain: Estimate, confidence: float) -> str:
    """How the figure differs, of which errors gain where they fall."""
    if gain.value is None:
        return f"there is no difference of its {_NAMES[figure]}, for {gain.reason}"
    ends = (gain.value, gain.low, gain.high) if figure != "mae" else (gain.value, gain.high, gain.low)
    sign = -100 if figure == "mae" else 100
    value, low, high = (None if end is None else f"{sign * end:+z.1f}" for end in ends)
    interval = "" if low is None else f" ({100 * confidence:.4g} %: {low} to {high})"
    return f"its {_NAMES[figure]} differs by {value} {_unit(figure)}{interval}"


def _share(margin: float, figure: Figure) -> str:
    return f"{100 * margin:.3g} {_unit(figure)}"


def _unit(figure: Figure) -> str:
    return "%" if figure == "mae" else "points"
