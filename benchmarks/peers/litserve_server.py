"""LitServe as its documentation has it: a LitAPI with batching. Bodies are JSON, so bytes come as base64 in it."""

import base64
from typing import Any

import litserve

from benchmarks.peers.network import MAX_BATCH, Model, max_wait_seconds, port, workers


class Predict(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.model = Model()

    def decode_request(self, request: dict[str, Any]) -> Any:
        if "row" in request:
            return self.model.from_lists(request["row"])
        if "text" in request:
            return self.model.from_text(request["text"])
        return self.model.from_bytes(base64.b64decode(request["bytes"]))

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: list[Any]) -> list[dict[str, Any]]:
        return self.model.predict(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output


if __name__ == "__main__":
    api = Predict(max_batch_size=MAX_BATCH, batch_timeout=max_wait_seconds())
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers())
    server.run(host="127.0.0.1", port=port(), log_level="warning", generate_client_file=False)
