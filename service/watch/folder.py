"""The folder of one engine process: what it was told at its start, and what it shows of itself."""

from dataclasses import dataclass
from pathlib import Path

from service.watch.blackbox import BlackBox
from service.watch.heartbeat import Heartbeat
from service.watch.history import History


@dataclass(frozen=True, slots=True)
class WatchFolder:
    """Made by the supervisor, opened by both. What is opened raises OSError where it is not there."""

    path: Path

    @staticmethod
    def create(path: Path, history: History, *, max_rows: int, lanes: int) -> "WatchFolder":
        """A new one, for a process that does at most so many things at once, each with at most so many rows."""
        folder = WatchFolder(path)
        path.mkdir(parents=True)
        Heartbeat.create(folder._heartbeat).close()
        BlackBox.create(folder._black_box, max_rows, lanes).close()
        folder._history.write_bytes(history.to_bytes())
        return folder

    def heartbeat(self) -> Heartbeat:
        """To be closed."""
        return Heartbeat.open(self._heartbeat)

    def black_box(self) -> BlackBox:
        """To be closed."""
        return BlackBox.open(self._black_box)

    def history(self) -> History:
        """What was known of earlier engines when this one was started."""
        return History.from_bytes(self._history.read_bytes())

    @property
    def _heartbeat(self) -> Path:
        return self.path / "beat"

    @property
    def _black_box(self) -> Path:
        return self.path / "running"

    @property
    def _history(self) -> Path:
        return self.path / "history"
