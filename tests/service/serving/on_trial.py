"""Two versions of a model, of which the second is on trial: what tests ask of them, and how they tell them apart."""

import asyncio
from typing import Any

import numpy as np

from models.preprocess import Tensors
from service.domain import Ref, Rollout, Stage
from service.store.base import State
from service.wire.inference import Outputs
from tests.service.serving.journey import Journey

CHAMPION, CHALLENGER = Ref("clothes", 1), Ref("clothes", 2)
PIXELS = [[10] * 28] * 28
SALT = "5a17" * 8
BODY = {"instances": [PIXELS]}


def told(ref: Ref, tensors: Tensors) -> Outputs:
    """The label whose number is the version's."""
    values = np.zeros((len(tensors), 10), np.float32)
    values[:, ref.version] = 10
    return Outputs(values, {}, 0.0, 0.0)


def begin(journey: Journey, stage: Stage, share: float = 0.25) -> None:
    rollout = Rollout("clothes", 2, stage, share, SALT, 0.0, 0.0, "ann", "")
    journey.router.use_state(State(1, journey.aliases, rollouts={"clothes": rollout}))


def told_in(answer: Any) -> tuple[str, str]:
    """The version that an answer names, and the label by which the version that computed it says its number."""
    return answer["version"], str(answer["predictions"][0]["index"])


def fallbacks(journey: Journey, reason: str) -> float:
    return journey.measured("servoloop_canary_fallbacks_total", CHALLENGER, reason=reason)


def mirrored(journey: Journey, outcome: str) -> float:
    return journey.measured("servoloop_mirrored_requests_total", CHALLENGER, outcome=outcome)


async def settled(journey: Journey) -> None:
    """Until all that is mirrored has ended."""
    while journey.mirror._under_way:
        await asyncio.wait(journey.mirror._under_way)
        await asyncio.sleep(0)
