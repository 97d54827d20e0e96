"""A command whose stderr is a terminal, and whose stdout is a pipe."""

import os
import select
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from tests.patience import PATIENCE


class AtTerminal:
    """A context manager that leaves no process behind; `words` are those that follow `python`."""

    def __init__(self, *words: object) -> None:
        self.shown = ""
        self._words = [str(word) for word in words]
        self._ends = time.monotonic() + PATIENCE

    def __enter__(self) -> Self:
        self._screen, terminal = os.openpty()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *self._words],
                env={**os.environ, "TERM": "xterm"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=terminal,
                text=True,
                start_new_session=True,
            )
        finally:
            os.close(terminal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # with the processes that it started
        self._process.communicate()
        os.close(self._screen)

    def sees(self, text: str) -> None:
        """Wait until the terminal shows it; fails where it never does."""
        while text not in self.shown:
            assert self._read_on(), f"the terminal shows no {text!r}, but {self.shown!r}"

    def ended(self) -> tuple[int, str]:
        """Wait until nobody writes to the terminal any more: the exit status, and what the pipe brought."""
        while self._read_on():
            pass
        stdout, _ = self._process.communicate(timeout=PATIENCE)
        return self._process.returncode, stdout

    def _read_on(self) -> bool:
        if not select.select([self._screen], [], [], max(0.0, self._ends - time.monotonic()))[0]:
            return False
        try:
            read = os.read(self._screen, 4096)
        except OSError:  # so Linux says that nobody has the terminal open
            return False
        self.shown += read.decode(errors="replace")
        return bool(read)
