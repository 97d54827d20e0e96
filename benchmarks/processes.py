"""Servers under measurement: started with a mark in their environment, watched in /proc, ended for certain."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

MARK = "SERVED_FOR_BENCHMARK"
START_SECONDS = 60.0
STOP_SECONDS = 15.0
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Of a server's processes together, at one time."""

    cpu_seconds: float
    rss_mb: float
    processes: int


@contextlib.contextmanager
def marked() -> Iterator[str]:
    """Within the block, processes that are started carry this mark: they are found even where they left the tree."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    try:
        yield mark
    finally:
        del os.environ[MARK]


def carrying(mark: str) -> list[int]:
    """The processes whose environment has the mark, and their descendants: some overwrite theirs to show a title."""
    sign, parents, found = f"{MARK}={mark}".encode(), {}, set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError, IndexError):
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state == "Z":
                    continue
                parents[int(folder.name)] = int(parent)
                if sign in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def usage(mark: str) -> Usage:
    """Time counts for children that have ended too. RSS counts pages that are shared once for each process."""
    cpu, pages, count = 0.0, 0, 0
    for pid in carrying(mark):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # proc(5): utime, stime, cutime and cstime are fields 14 to 17; the text after the name begins at field 3.
            cpu += sum(map(int, fields[11:15])) * _TICK
            pages += int(fields[21])
            count += 1
    return Usage(cpu, pages * _PAGE / 2**20, count)


def settle(mark: str, seconds: float = 900.0, quiet: float = 2.0) -> None:
    """Wait until these processes rest: what a server does in the background at its start is not measured.

    Raises TimeoutError where they don't within `seconds`.
    """
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        before = usage(mark).cpu_seconds
        time.sleep(quiet)
        if usage(mark).cpu_seconds - before < 0.1 * quiet:
            return
    raise TimeoutError(f"the server was still busy by itself after {seconds:.0f} seconds")


def rest(mark: str, seconds: float = 3.0) -> None:
    """Wait, but not for long, until these processes are done with what nobody waits for any more.

    Load that ends leaves requests in the server; whoever is measured next must not pay for them.
    """
    ends = time.monotonic() + seconds
    before = usage(mark).cpu_seconds
    while time.monotonic() < ends:
        time.sleep(0.1)
        now = usage(mark).cpu_seconds
        if now - before < 0.03:
            return
        before = now


def end(mark: str) -> None:
    """Ask whatever carries the mark to end, then kill what is left."""
    for number, patience in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        for pid in carrying(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        ends = time.monotonic() + patience
        while carrying(mark) and time.monotonic() < ends:
            time.sleep(0.05)


class ServerFailed(Exception):
    """A server did not start or did not answer; the text says what it printed last."""


class Server:
    """A command that listens on `port`; a context manager that leaves none of its processes behind."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], home: Path, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.mark = ""
        self._command, self._environment, self._home = command, environment, home
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._home.mkdir(parents=True, exist_ok=True)
        with marked() as self.mark, (self._home / "output").open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._home,
                env={**self._environment, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        end(self.mark)
        self._process.wait()

    def wait(self, answers: Callable[[], bool]) -> None:
        """Until it answers as wanted. Raises ServerFailed."""
        assert self._process is not None
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                raise ServerFailed(f"it ended with {self._process.returncode}: {self._said()}")
            with contextlib.suppress(httpx.TransportError):
                if answers():
                    return
            time.sleep(0.1)
        raise ServerFailed(f"no right answer within {START_SECONDS:.0f} seconds: {self._said()}")

    def answers(self, path: str) -> bool:
        """Whether a GET of this path is answered with 200."""
        return httpx.get(f"{self.url}{path}", timeout=10, trust_env=False).status_code == 200

    def _said(self) -> str:
        return (self._home / "output").read_text(errors="replace")[-1500:].strip()
