"""The folders that a service works in: its data directory, held by one service at a time, and one for sockets."""

import contextlib
import fcntl
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from service.errors import Misconfigured

_RUNTIME_PREFIX = "servoloop-"


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
def runtime_folder(lock: TextIO) -> Iterator[Path]:
    """A folder for sockets and metrics that only this user may enter.

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
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def listen_unix(path: Path) -> Iterator[socket.socket]:
    """The supervisor owns the sockets: while a process is replaced, connections wait in the backlog."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(128)
        yield listener
