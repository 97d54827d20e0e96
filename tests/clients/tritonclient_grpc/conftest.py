import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.grpc.aio

from tests.clients.support import Awaited, Served


@pytest.fixture(params=["sync", "aio"])
def client(request: pytest.FixtureRequest, served: Served) -> Iterator[Any]:
    """Either client: what is tested of one is tested of the other."""
    if request.param == "sync":
        with tritonclient.grpc.InferenceServerClient(served.grpc) as client:
            yield client
        return

    async def connected() -> tritonclient.grpc.aio.InferenceServerClient:
        return tritonclient.grpc.aio.InferenceServerClient(served.grpc)

    with asyncio.Runner() as runner:
        awaited = Awaited(runner.run(connected()), runner)
        yield awaited
        awaited.close()
