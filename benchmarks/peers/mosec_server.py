"""mosec as its documentation has it: a Worker with its own deserialize, dynamic batching, several processes."""

import json
from typing import Any

from mosec import Server, Worker

from benchmarks.peers.network import MAX_BATCH, Model, max_wait_seconds, option, port, workers

IS_JSON = option("FORMAT") == "json"


class Predict(Worker):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    def deserialize(self, data: bytes) -> Any:
        if IS_JSON:
            return self.model.from_lists(json.loads(data)["row"])
        return self.model.from_bytes(data)

    def forward(self, data: list[Any]) -> list[dict[str, Any]]:
        return self.model.predict(data)


if __name__ == "__main__":
    import sys

    sys.argv += ["--address", "127.0.0.1", "--port", str(port()), "--log-level", "warning"]
    # The default of 3 s gives up on whoever waits behind a slow network under full load.
    sys.argv += ["--timeout", "60000"]
    server = Server()
    wait = max(1, round(1000 * max_wait_seconds()))
    server.append_worker(Predict, num=workers(), max_batch_size=MAX_BATCH, max_wait_time=wait)
    server.run()
