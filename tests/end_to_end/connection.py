"""One connection that asks one request after another, cheap enough to have hundreds of in one process."""

import asyncio
import json
import select
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the service said that it closes the connection."""
        return self.headers.get("connection") == "close"

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Send JSON; the answer's status and JSON."""
        self.send(request(path, json.dumps(body).encode()))
        answer = await self.receive()
        return answer.status, answer.json()

    @property
    def is_closed_there(self) -> bool:
        """Whether the service has closed its half, as the kernel knows it, however long nobody here has looked."""
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)

    def end(self) -> None:
        """Close the sending half."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Leave without a word, as a process that is killed does."""
        connected = self._writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def leave(self) -> None:
        """Close both halves."""
        self._writer.close()

    async def first_line(self) -> bytes:
        """The status line that comes next, be it an interim one."""
        return await self._reader.readline()

    async def receive(self) -> Answer:
        """The next final answer. Raises IncompleteReadError or ConnectionError where there is none."""
        while True:
            status_line, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
            status = int(status_line.split()[1])
            if status >= 200:
                break
        headers = dict(line.split(": ", 1) for line in lines if line)
        return Answer(status, headers, await self._reader.readexactly(int(headers["content-length"])))


def request(path: str, content: bytes, content_type: str = JSON_TYPE, **headers: str) -> bytes:
    """The bytes of a POST."""
    named = {"Host": "x", "Content-Type": content_type, "Content-Length": str(len(content)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in named.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + content


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Connection]:
    """A connection to a service on this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):  # the service was first
            await writer.wait_closed()
