"""A service that answers as it is told, and what it may answer."""

import json
from typing import Any

import httpx

from servoloop import AsyncClient, Client

IDS = ["0199a0c2-0000-7000-8000-000000000001", "0199a0c2-0000-7000-8000-000000000002"]
MODEL = {
    "name": "fashion",
    "task": "multiclass",
    "input": {"kind": "image", "channels": 1, "height": 28, "width": 28, "fit": "stretch"},
    "content_types": ["application/json", "image/png"],
    "labels": ["Bag", "Ankle boot"],
    "target": None,
    "aliases": {"champion": "1"},
    "ready": True,
    "versions": [
        {
            "version": "1",
            "state": "loaded",
            "ready": True,
            "reason": None,
            "description": "",
            "architecture": "cnn",
            "digest": "00",
            "metrics": {"accuracy": {"value": 0.92, "low": 0.915, "high": 0.925, "n": 10000, "reason": None}},
            "pinned": False,
            "replicas": 1,
            "precision": "float32",
            "engines": ["engine-0"],
            "resident_bytes": 4096,
            "backend": {
                "name": "openvino",
                "precision": "bfloat16",
                "threads": 1,
                "reason": "it was measured",
                "pending": False,
                "added_later": True,
            },
            "added_later": True,
        }
    ],
    "added_later": True,
}


def answer(*predictions: dict[str, Any]) -> httpx.Response:
    ids = IDS[: len(predictions)]
    return httpx.Response(
        200, json={"model": "fashion", "version": "3", "prediction_ids": ids, "predictions": list(predictions)}
    )


def problem(status: int, kind: str, headers: dict[str, str] | None = None, **members: Any) -> httpx.Response:
    body = {"type": f"urn:servoloop:problem:{kind}", "title": "", "status": status, "request_id": "r-1", **members}
    return httpx.Response(status, json=body, headers=headers)


class Service:
    """Gives prepared answers one after the other, the last one for ever, and remembers what it was asked."""

    def __init__(self, *outcomes: httpx.Response | Exception) -> None:
        self.outcomes = list(outcomes)
        self.requests: list[httpx.Request] = []
        self.paused: list[float] = []
        self.now = 100.0

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def sleep(self, seconds: float) -> None:
        self.paused.append(seconds)
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)

    def client(self, **options: Any) -> Client:
        transport = httpx.MockTransport(self.handle)
        return Client(transport=transport, sleep=self.sleep, clock=lambda: self.now, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        transport = httpx.MockTransport(self.handle)
        return AsyncClient(transport=transport, sleep=self.sleep_async, clock=lambda: self.now, **options)

    @property
    def body(self) -> Any:
        return json.loads(self.requests[-1].content)
