import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.http
import tritonclient.http.aio

from tests.clients.support import Awaited, Served


@pytest.fixture(params=["sync", "aio"])
def client(request: pytest.FixtureRequest, served: Served) -> Iterator[Any]:
    """Either client: what is tested of one is tested of the other."""
    if request.param == "sync":
        with tritonclient.http.InferenceServerClient(served.address) as client:
            yield client
        return

    async def connected() -> tritonclient.http.aio.InferenceServerClient:
        return tritonclient.http.aio.InferenceServerClient(served.address)

    with asyncio.Runner() as runner:
        awaited = Awaited(runner.run(connected()), runner)
        yield awaited
        awaited.close()
