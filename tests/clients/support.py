"""What tests of all families share. It needs the standard library alone: each family has packages of its own."""

import asyncio
import base64
import inspect
import json
import struct
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Any


@dataclass(frozen=True)
class Reply:
    """An answer of the service, whatever its status."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Served:
    """The service that is tested, asked without any of the clients. `grpc` is where it serves gRPC: host and port."""

    url: str
    grpc: str

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.removeprefix("http://")

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Bytes are sent as they are, anything else as JSON."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Reply(response.status, response.headers, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.headers, error.read())

    def predict(self, model: str, instances: list[Any], **parameters: Any) -> list[dict[str, Any]]:
        """The predictions of /v1, with every label's probability."""
        body = {"instances": instances, "parameters": {"return_probabilities": True, **parameters}}
        reply = self.request("POST", f"/v1/models/{model}/predict", body)
        assert reply.status == 200, reply.body
        predictions: list[dict[str, Any]] = reply.json()["predictions"]
        return predictions

    def move_alias(self, model: str, alias: str, version: str) -> None:
        """Let an alias name a version."""
        reply = self.request("PUT", f"/v1/models/{model}/aliases/{alias}", {"version": version})
        assert reply.status == 200, reply.body


class Awaited:
    """An asynchronous client whose answers are waited for."""

    def __init__(self, client: Any, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **named: Any) -> Any:
            answer = method(*args, **named)
            return self._runner.run(answer) if inspect.iscoroutine(answer) else answer

        return call


def picture(width: int = 28, height: int = 28, channels: int = 1, *, shade: int = 0) -> bytes:
    """A PNG file, grey or, with 3 channels, in colour; another picture for each shade."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def line(y: int) -> bytes:
        # Each line begins with the number of its filter: none.
        return b"\0" + bytes((x * y + 7 * x + shade) % 256 for x in range(width * channels))

    head = struct.pack(">2I5B", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    data = zlib.compress(b"".join(line(y) for y in range(height)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def image(file: bytes) -> dict[str, str]:
    """An instance of /v1."""
    return {"image": base64.b64encode(file).decode()}
