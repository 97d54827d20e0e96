"""An answer's head and the first part of its body in one write."""

import asyncio

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class InOnePiece:
    """The transport of one answer: its head waits for the first part of its body, and both leave in one write.

    Each write is a system call at once, and may wake the client by itself.
    """

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle
        self._head: bytes | None = None
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head is None and self._cycle.response_started:
            self._head = data
            return
        self._transport.write(self._head + data if self._head else data)
        if self._head is not None:
            self._head = b""

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()
