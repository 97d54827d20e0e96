"""One connection that asks one request after another, cheap enough to have hundreds of in one process."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        """Send JSON; the answer's status and JSON."""
        content = json.dumps(body).encode()
        headers = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
        self._writer.write(f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + content)
        status_line, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
        answered = dict(line.split(": ", 1) for line in lines if line)
        answer = await self._reader.readexactly(int(answered["content-length"]))
        return int(status_line.split()[1]), json.loads(answer)


@asynccontextmanager
async def connect(port: int) -> AsyncIterator[Connection]:
    """A connection to a service on this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()
