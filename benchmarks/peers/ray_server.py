"""Ray Serve as its documentation has it: a deployment with `serve.batch`, on a Ray of its own."""

import json
import signal
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.peers.network import MAX_BATCH, Model, max_wait_seconds, option, port, workers


@serve.deployment(num_replicas=workers(), max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1})
class Predict:
    def __init__(self) -> None:
        self.model = Model()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=max_wait_seconds())
    async def predict(self, rows: list[Any]) -> list[dict[str, Any]]:
        return self.model.predict(rows)

    async def __call__(self, request: Request) -> Any:
        body = await request.body()
        if option("FORMAT") == "json":
            return await self.predict(self.model.from_lists(json.loads(body)["row"]))
        return await self.predict(self.model.from_bytes(body))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: exit(0))
    ray.init(include_dashboard=False, _temp_dir=option("HOME"), log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port()})
    deployment: Any = Predict
    serve.run(deployment.bind(), blocking=True)
