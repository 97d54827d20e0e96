"""The folders that a service works in: its data directory, held by one service at a time, and that of its run."""

import contextlib
import fcntl
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from service.errors import Misconfigured

_RUNTIME_PREFIX = "servoloop-"


@dataclass(frozen=True, slots=True)
class RuntimeFolder:
    """Where the processes of a running service find one another."""

    path: Path

    @property
    def recorder_socket(self) -> Path:
        return self.path / "recorder.sock"

    @property
    def loop_socket(self) -> Path:
        return self.path / "loop.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.path / "supervisor.sock"

    @property
    def supervisor_beat(self) -> Path:
        """The supervisor's heartbeat."""
        return self.path / "supervisor.beat"

    def beat(self, slot: str) -> Path:
        """The heartbeat of a child that shows nothing more of itself."""
        return self.path / f"{slot}.beat"

    @property
    def metrics(self) -> Path:
        """The folder of what each process measures."""
        return self.path / "metrics"

    def engine_socket(self, slot: str) -> Path:
        return self.path / f"{slot}.sock"

    def engine_watch(self, slot: str) -> Path:
        """The folder of what the engines of a slot show of themselves."""
        return self.path / slot


@contextlib.contextmanager
def data_folder(path: Path) -> Iterator[TextIO]:
    """Make the data directory, and let only one service use it; gives its lock, a file whose text is ours to use.

    Raises Misconfigured.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("a+")
    except OSError as error:
        raise Misconfigured(f"the data directory {path} can't be used: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Misconfigured(
                f"another service uses the data directory {path}; give this one its own with SERVOLOOP_DATA_DIR"
            ) from None
        yield lock


@contextlib.contextmanager
def runtime_folder(lock: TextIO) -> Iterator[RuntimeFolder]:
    """A folder that is there while the service runs, and that only this user may enter.

    `lock` remembers its name: a supervisor that was killed could not remove it, so the next one does.
    """
    lock.seek(0)
    left_behind = Path(lock.read().strip())
    if left_behind.name.startswith(_RUNTIME_PREFIX) and left_behind.parent == Path(tempfile.gettempdir()):
        shutil.rmtree(left_behind, ignore_errors=True)
    path = Path(tempfile.mkdtemp(prefix=_RUNTIME_PREFIX))
    lock.truncate(0)
    lock.write(str(path))
    lock.flush()
    try:
        yield RuntimeFolder(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def listen_unix(path: Path) -> Iterator[socket.socket]:
    """The supervisor owns the sockets: while a process is replaced, connections wait in the backlog."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(128)
        yield listener
