"""`servoloop serve` as a process of its own, from its start to its certain end."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.patience import PATIENCE

T = TypeVar("T")

STOP_SECONDS = 40.0
_COMMAND = Path(sysconfig.get_path("scripts")) / "servoloop"


def until(condition: Callable[[], T | None], what: str, seconds: float = PATIENCE, *, every: float = 0.02) -> T:
    """Ask until the answer is truthy, and return it. The only place where tests wait for something to come about."""
    ends = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > ends:
            raise AssertionError(f"after {seconds} seconds still not: {what}")
        time.sleep(every)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Service:
    """A running service over `models`, a folder of checkpoints; a context manager that leaves no process behind.

    `settings` are its SERVOLOOP_* variables. `home` holds its data directory, its output and its temporary files, and
    may be handed to a successor. Unless a test says otherwise it tries no back ends by itself: that takes cores from
    what the test is about.
    """

    def __init__(self, home: Path, *options: str, **settings: Any) -> None:
        self.home = home
        self.data_dir = home / "data"
        self.temporary = home / "tmp"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._options = options
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: set[int] = set()
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def __enter__(self) -> Self:
        self.temporary.mkdir(parents=True, exist_ok=True)
        given = {
            "data_dir": self.data_dir,
            "log_format": "json",
            "optimize": "manual",
            "http_processes": 1,
            **self._settings,
        }
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SERVOLOOP_")}
        environment |= {f"SERVOLOOP_{name.upper()}": str(value) for name, value in given.items()}
        environment["TMPDIR"] = str(self.temporary)
        with (self.home / "stdout").open("wb") as stdout, (self.home / "stderr").open("wb") as stderr:
            self._process = subprocess.Popen(
                [str(_COMMAND), "serve", "--port", str(self.port), *self._options],
                cwd=self.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.client.close()
        self._remember_children()
        try:
            self.stop()
        finally:
            for pid in self._alive():
                os.kill(pid, signal.SIGKILL)
            if error is not None:
                print(self.errors[-4000:])

    @property
    def output(self) -> str:
        return (self.home / "stdout").read_text()

    @property
    def errors(self) -> str:
        return (self.home / "stderr").read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def wait_chosen(self, seconds: float) -> dict[str, str]:
        """Until it has found out what runs each version best (`optimize="auto"`); that, by MODEL/VERSION."""

        def chosen() -> dict[str, str] | None:
            models = self.client.get("/v1/models").json()["models"]
            backends = {
                f"{model['name']}/{version['version']}": version["backend"]
                for model in models
                for version in model["versions"]
            }
            if any(backend is None or backend["pending"] for backend in backends.values()):
                return None
            return {ref: f"{backend['name']} {backend['precision']}" for ref, backend in backends.items()}

        return until(chosen, "back ends are chosen", seconds, every=0.5)

    def stop(self) -> int:
        """Ask it to stop and wait; its exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self.exit_code()

    def signal(self, number: int) -> None:
        """Send the supervisor a signal."""
        os.kill(self.pid, number)

    def exit_code(self) -> int:
        """Wait for its end; its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError("the service did not end") from None

    def kill(self) -> None:
        """End the supervisor as the kernel would when memory runs out."""
        self._remember_children()
        os.kill(self.pid, signal.SIGKILL)

    def kill_everything(self) -> float:
        """End the supervisor and all its children at once; when that was, in seconds since 1970."""
        self._remember_children()
        for pid in (*self._alive(), self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed = time.time()
        self.exit_code()
        until(lambda: not self._alive(), "all processes are gone")
        return killed

    def child(self, slot: str) -> int:
        """The process id of the child in this slot, once it is there."""
        return until(lambda: self._children().get(slot), f"there is a process {slot}")

    def kill_child(self, slot: str) -> int:
        """Kill the process in this slot; its id."""
        pid = self.child(slot)
        os.kill(pid, signal.SIGKILL)
        return pid

    def is_ready(self) -> bool:
        """Whether /readyz says 200."""
        return self._get("/readyz") == 200

    def is_up(self) -> bool:
        """Whether it answers at all."""
        return self._get("/livez") == 200

    def wait_ready(self) -> Self:
        until(self._ready_or_dead, "the service is ready")
        self._remember_children()
        return self

    def post(self, model: str, instances: Any, **parameters: Any) -> httpx.Response:
        """Ask for predictions."""
        return self.client.post(f"/v1/models/{model}/predict", json={"instances": instances, "parameters": parameters})

    def predict(self, model: str, instances: Any, **parameters: Any) -> list[dict[str, Any]]:
        """The predictions; an AssertionError where there are none."""
        response = self.post(model, instances, **parameters)
        assert response.status_code == 200, response.text
        predictions: list[dict[str, Any]] = response.json()["predictions"]
        return predictions

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of this name that carry these labels."""
        return sum(
            value
            for sample, with_labels, value in self.samples()
            if sample == name and labels.items() <= with_labels.items()
        )

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """Everything in /metrics."""
        text = self.client.get("/metrics").text
        families = text_string_to_metric_families(text)
        return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]

    def leftovers(self) -> list[Path]:
        """Folders that it made for itself and did not take away."""
        return list(self.temporary.glob("servoloop-*"))

    def children_alive(self) -> list[int]:
        """Children that were seen and are still there."""
        return self._alive()

    def _ready_or_dead(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the service ended with {self._process.returncode}: {self.errors[-2000:]}")
        return self.is_ready()

    def _get(self, path: str) -> int | None:
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return None

    def _children(self) -> dict[str, int]:
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return {slot: pid for pid in pids if _parent_of(pid) == self.pid and (slot := _slot_of(pid)) is not None}

    def _remember_children(self) -> None:
        self._seen.update(self._children().values())

    def _alive(self) -> list[int]:
        return [pid for pid in self._seen if _slot_of(pid) is not None]


def _slot_of(pid: int) -> str | None:
    """The slot of one of our processes; None for others, and for one that has ended."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return None
    return words[words.index("--slot") + 1] if "--slot" in words else None


def _parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def serve_and_fail(home: Path, *options: str, **settings: Any) -> tuple[int, str]:
    """Start a service that can't start; its exit code and what it said."""
    with Service(home, *options, **settings) as service:
        return service.exit_code(), service.errors


class Homes:
    """Makes folders with short names, because a unix socket's path is short too, and takes them away again.

    With `evidence`, what a service found out about back ends, each begins with that.
    """

    def __init__(self) -> None:
        self._made: list[Path] = []
        self.evidence: Path | None = None

    def __call__(self) -> Path:
        home = Path(tempfile.mkdtemp(prefix="sl-"))
        self._made.append(home)
        if self.evidence is not None:
            shutil.copytree(self.evidence, home / "data" / self.evidence.name)
        return home

    def remove(self) -> None:
        for path in self._made:
            shutil.rmtree(path, ignore_errors=True)


def increases(
    before: Iterable[tuple[str, dict[str, str], float]], after: Iterable[tuple[str, dict[str, str], float]]
) -> bool:
    """Whether no counter went backwards or away."""
    now = {(name, *sorted(labels.items())): value for name, labels, value in after}
    counters = (sample for sample in before if sample[0].endswith(("_total", "_count", "_bucket")))
    return all(now.get((name, *sorted(labels.items())), -1) >= value for name, labels, value in counters)
