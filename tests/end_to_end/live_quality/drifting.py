"""Ordinary pictures, of which drift must never be said, and inverted ones after them, of which it must be soon."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from models.metrics import Array
from tests.end_to_end.live_quality.report import Begin, Done, Report
from tests.end_to_end.live_quality.statements import MODEL, Picture
from tests.end_to_end.service import Homes, Service, until

RUNS = 20
_ROWS, _STEP = 500, 50

Store = Callable[[], AbstractContextManager[Mapping[str, Any]]]


def drift(homes: Homes, store: Store, pictures: Sequence[Picture], seed: int, begin: Begin) -> Report:
    """Each run has a service and a store of its own; every other one keeps all inputs, the others what is the default.

    Looks are taken after every step of predictions, at all that the service was asked until then.
    """
    rng = np.random.default_rng(seed)
    pixels = np.stack([picture.pixels for picture in pictures])
    done = begin(RUNS * 2 * _ROWS // _STEP)
    ordinary: list[list[dict[str, Any]]] = []
    inverted: list[list[dict[str, Any]]] = []
    shown = []
    for number in range(RUNS):
        kept = {"capture": "all"} if number % 2 else {}
        with store() as settings, Service(homes(), **kept, **settings) as service:
            service.wait_ready()
            ordinary.append(_looks(service, _drawn(rng, pixels), done))
            inverted.append(_looks(service, 255 - _drawn(rng, pixels), done))
            shown.append(until(lambda s=service: s.metric("servoloop_drifted", model=MODEL, subject="inputs"), "shown"))
    looks = [look for run in ordinary for look in run]
    enough = [look for look in looks if look["drifted"] is not None]
    seen = [_first(run) for run in inverted]
    said = [count for count in seen if count is not None]
    figures = {
        "runs": RUNS,
        "looks at ordinary pictures": len(looks),
        "of them with enough rows": len(enough),
        "drift said of them": sum(look["drifted"] for look in enough),
        "largest PSI of them, median": round(statistics.median(map(_psi, enough)), 3),
        "largest PSI of them, at most": round(max(map(_psi, enough)), 3),
        "inverted pictures until it was said, median": statistics.median(said) if said else None,
        "inverted pictures until it was said, at most": max(said, default=None),
        "largest PSI after all inverted, at least": round(min(_psi(run[-1]) for run in inverted), 3),
        "accuracy estimated of ordinary pictures, last run": _estimate(ordinary[-1][-1]),
        "accuracy estimated with as many inverted, last run": _estimate(inverted[-1][-1]),
    }
    return Report(
        "drift",
        figures,
        {
            f"of ordinary pictures drift is never said, in {RUNS} runs": not any(look["drifted"] for look in looks),
            "enough rows were looked at in every run": all(run[-1]["drifted"] is False for run in ordinary),
            f"of inverted pictures it is said within {_ROWS} predictions, in every run": None not in seen,
            "Prometheus is told, in every run": shown == [1.0] * RUNS,
        },
    )


def _drawn(rng: np.random.Generator, pixels: Array) -> Array:
    return pixels[rng.integers(0, len(pixels), _ROWS)]


def _looks(service: Service, pixels: Array, done: Done) -> list[dict[str, Any]]:
    """What is said of drift after every step of the pictures."""
    looks = []
    for start in range(0, len(pixels), _STEP):
        step = pixels[start : start + _STEP]
        answer = service.post(MODEL, step.tolist())
        assert answer.status_code == 200, answer.text
        last = answer.json()["prediction_ids"][-1]
        until(lambda last=last: service.client.get(f"/v1/predictions/{last}").status_code == 200, "it is kept")
        looks.append(service.client.get(f"/v1/models/{MODEL}/drift").raise_for_status().json())
        done(1)
    return looks


def _first(looks: Sequence[Mapping[str, Any]]) -> int | None:
    """After how many predictions it was said."""
    return next((_STEP * (number + 1) for number, look in enumerate(looks) if look["drifted"]), None)


def _psi(look: Mapping[str, Any]) -> float:
    """The largest of all that is compared."""
    compared = [*look["inputs"].values(), look["predictions"], look["confidence"]]
    return max((one["psi"] for one in compared if one["drifted"] is not None), default=0.0)


def _estimate(look: Mapping[str, Any]) -> str:
    one = look["estimated_accuracy"]
    return f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
