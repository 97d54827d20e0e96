"""What tests ask an engine through its client, and how they wait for what comes of it."""

import asyncio
import time

import numpy as np
import pytest

from models.preprocess import Tensors
from service.domain import Deadline, Ref
from service.errors import ServoloopError
from service.serving.engine_client import EngineClient
from service.wire.inference import Outputs
from tests.patience import PATIENCE
from tests.service.serving.fake_engine import FakeEngine

REF, OTHER = Ref("m", 1), Ref("m", 2)
ROWS = Tensors(np.array([[1.0], [2.0]], np.float32))


def ask(
    client: EngineClient, rows: Tensors = ROWS, *, seconds: float = PATIENCE, ref: Ref = REF
) -> asyncio.Task[Outputs]:
    return asyncio.create_task(client.infer(ref, rows, Deadline.after(seconds, now=time.monotonic())))


async def fails(asked: asyncio.Task[Outputs]) -> ServoloopError:
    with pytest.raises(ServoloopError) as raised:
        await asyncio.wait_for(asked, PATIENCE)
    return raised.value


async def ready(client: EngineClient, ref: Ref = REF) -> None:
    async with asyncio.timeout(PATIENCE):
        while client.why_unready(ref) is not None:
            await asyncio.sleep(0.001)


async def nothing_else_was_sent(engine: FakeEngine, client: EngineClient) -> None:
    """What goes out next is what is asked next."""
    asked = ask(client, Tensors(np.array([[99.0]], np.float32)))
    request = await engine.asked()
    assert request.values == [[99]]
    engine.answer(request)
    await asked
