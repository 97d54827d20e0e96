"""Requests at a constant rate, whatever the server does.

`python -m benchmarks.open_loop URL PATH TYPE FOLDER RATE SECONDS CONNECTIONS` sends the bodies in the folder's files 0,
1, ... in turn, and prints one line of JSON. A latency counts from the instant at which its request was due, so a server
that stalls does not hide behind requests that were never sent (coordinated omission). Where no connection is free,
requests wait here.
"""

import ctypes
import json
import os
import re
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.report import percentile

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLOCK_MONOTONIC, _NONBLOCK = 1, os.O_NONBLOCK
# How long answers may still come in once the last request was sent.
_PATIENCE = 10.0


class _TimerSpec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns")]


class Ticks:
    """A file that becomes readable `rate` times a second: epoll's own timeouts are whole milliseconds."""

    def __init__(self, rate: float) -> None:
        self.fd = _LIBC.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK)
        nanoseconds = max(1, round(1e9 / rate))
        self.every = nanoseconds / 1e9
        spec = _TimerSpec(*divmod(nanoseconds, 10**9), *divmod(nanoseconds, 10**9))
        self.start = time.monotonic()
        if self.fd < 0 or _LIBC.timerfd_settime(self.fd, 0, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "no timer")

    def due(self) -> int:
        """How many instants have passed since the last call."""
        try:
            return int.from_bytes(os.read(self.fd, 8), sys.byteorder)
        except BlockingIOError:
            return 0


@dataclass
class Connection:
    """One request at a time; `due` is when the present one should have been sent."""

    socket: socket.socket
    due: float = 0.0
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))
    received: bytearray = field(default_factory=bytearray)

    def begin(self, message: bytes, due: float) -> bool:
        """Send; whether all of it went out at once."""
        self.due, self.unsent = due, memoryview(message)
        self.received.clear()
        return self.write()

    def write(self) -> bool:
        """Send what is left; whether nothing is."""
        try:
            self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            return False
        return not self.unsent

    def read(self) -> int | None:
        """The status once the answer is whole, else None. Raises ConnectionError where the server closed."""
        try:
            piece = self.socket.recv(1 << 16)
        except BlockingIOError:
            return None
        if not piece:
            raise ConnectionResetError("the server closed a connection")
        self.received += piece
        head = self.received.find(b"\r\n\r\n")
        if head < 0:
            return None
        length = _LENGTH.search(self.received, 0, head + 2)
        whole = (
            len(self.received) >= head + 4 + int(length[1])
            if length
            else self.received.endswith(b"0\r\n\r\n", head + 4)
        )
        return int(self.received[9:12]) if whole else None


class Generator:
    """Sends `messages` in turn to an address at a constant rate."""

    def __init__(self, address: tuple[str, int], messages: Sequence[bytes], rate: float, connections: int) -> None:
        self._address, self._messages, self._rate = address, cycle(messages), rate
        self._poll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self.latencies: list[float] = []
        self.errors = 0
        for _ in range(connections):
            self._connect()

    def run(self, seconds: float) -> float:
        """Send for so long, and then wait for what is missing; the seconds from the first due to the last answer."""
        ticks = Ticks(self._rate)
        self._poll.register(ticks.fd, select.EPOLLIN)
        sent, total, last = 0, round(seconds * self._rate), ticks.start
        while True:
            now = time.monotonic()
            done = len(self.latencies) + self.errors
            if done >= total or now > ticks.start + seconds + _PATIENCE:
                self.errors += total - done
                os.close(ticks.fd)
                return last - ticks.start
            for fd, event in self._poll.poll(1.0):
                if fd == ticks.fd:
                    for _ in range(min(ticks.due(), total - sent)):
                        sent += 1
                        self._waiting.append(ticks.start + sent * ticks.every)
                elif self._serve(self._open[fd], event):
                    last = time.monotonic()
            while self._waiting and self._free:
                self._send(self._free.popleft(), self._waiting.popleft())

    def _serve(self, connection: Connection, event: int) -> bool:
        """Go on with one connection; whether it got its answer."""
        fd = connection.socket.fileno()
        try:
            if event & select.EPOLLOUT and connection.write():
                self._poll.modify(fd, select.EPOLLIN)
            status = connection.read() if event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) else None
        except OSError:
            self._replace(connection)
            return False
        if status is None:
            return False
        if status == 200:
            self.latencies.append(time.monotonic() - connection.due)
        else:
            self.errors += 1
        connection.due = 0.0
        self._free.append(connection)
        return True

    def _send(self, connection: Connection, due: float) -> None:
        try:
            if not connection.begin(next(self._messages), due):
                self._poll.modify(connection.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        except OSError:
            self._replace(connection)

    def _replace(self, connection: Connection) -> None:
        self.errors += connection.due > 0
        if connection in self._free:
            self._free.remove(connection)
        del self._open[connection.socket.fileno()]
        connection.socket.close()
        self._connect()

    def _connect(self) -> None:
        connection = Connection(socket.create_connection(self._address, timeout=10))
        connection.socket.setblocking(False)
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open[connection.socket.fileno()] = connection
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)
        self._free.append(connection)


def main() -> None:
    """Run once, and print the figures."""
    url, path, content_type, folder, rate, seconds, connections = sys.argv[1:]
    parts = urlsplit(url)
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {content_type}\r\nContent-Length: "
    bodies = [file.read_bytes() for file in sorted(Path(folder).iterdir(), key=lambda file: int(file.name))]
    messages = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    generator = Generator(address, messages, float(rate), int(connections))
    took = generator.run(float(seconds))
    milliseconds = [1000 * latency for latency in generator.latencies]
    figures = {
        "answered": len(milliseconds),
        "errors": generator.errors,
        "requests_per_second": len(milliseconds) / took if took > 0 else 0.0,
        "p50_ms": percentile(milliseconds, 0.5),
        "p99_ms": percentile(milliseconds, 0.99),
        "p999_ms": percentile(milliseconds, 0.999),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
