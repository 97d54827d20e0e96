"""The Open Inference Protocol's requests while a challenger is on trial, over gRPC and over HTTP."""

import httpx
import pytest

from service.domain import Rollout, Stage
from service.registry.catalog import Catalog
from service.serving.router import Router
from service.serving.trials import place_of
from service.store.base import State
from tests.service.api.grpc_api.support import Client, request, tensor
from tests.service.api.inference.support import binary, elements, infer_path
from tests.service.api.wrong_input import picture

SALT, SHARE = "5a17" * 8, 0.5
PICTURE = elements(picture())


@pytest.fixture
def router(catalog: Catalog) -> Router:
    """Of each test's own, with version 2 of `clothes` as a canary."""
    router = Router(catalog)
    aliases = {name: dict(model.aliases) for name, model in catalog.models.items()}
    rollout = Rollout("clothes", 2, Stage.CANARY, SHARE, SALT, 0.0, 0.0, "ann", "")
    router.use_state(State(1, aliases, rollouts={"clothes": rollout}))
    return router


@pytest.mark.parametrize("key", ["a", "b", "c", "d", "e", "f"])
async def test_both_are_routed_by_the_key_beside_the_request(stub: Client, client: httpx.AsyncClient, key: str) -> None:
    expected = "2" if place_of(SALT, key) < SHARE else "1"
    asked = request("clothes", [tensor("image", "BYTES", [1, 1])], [PICTURE])
    assert (await stub.infer(asked, [("x-routing-key", key)])).model_version == expected
    body, headers = binary([("image", "BYTES", [1, 1], PICTURE)])
    response = await client.post(infer_path("clothes"), content=body, headers={**headers, "X-Routing-Key": key})
    assert response.json()["model_version"] == expected


async def test_who_names_a_version_gets_it(stub: Client) -> None:
    for version in ("1", "2"):
        asked = request("clothes", [tensor("image", "BYTES", [1, 1])], [PICTURE], model_version=version)
        for key in map(str, range(4)):
            assert (await stub.infer(asked, [("x-routing-key", key)])).model_version == version
