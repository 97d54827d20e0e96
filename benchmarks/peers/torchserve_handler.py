"""What TorchServe runs: bodies of a batch in, answers in the same order out."""

from typing import Any

from benchmarks.peers.network import Model


class Handler:
    def __init__(self) -> None:
        self.model: Model | None = None

    def initialize(self, _: Any) -> None:
        self.model = Model()

    def handle(self, data: list[dict[str, Any]], _: Any) -> list[Any]:
        assert self.model is not None
        bodies = [each.get("body") or each.get("data") for each in data]
        rows = [
            self.model.from_lists(body["row"]) if isinstance(body, dict) else self.model.from_bytes(bytes(body or b""))
            for body in bodies
        ]
        return self.model.predict(rows)
