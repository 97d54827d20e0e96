"""What changing the champion costs those who ask meanwhile: quiet and swapping windows, alternating, in one service.

In a swapping window each change is the whole of it: the other version is loaded anew and warmed up beside the champion,
the alias moves to it, and the old one is drained.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

import models
from benchmarks.ours import CHOOSING_SECONDS
from benchmarks.throughput import Measured, Payload, measure, payloads
from tests.end_to_end.service import Homes, Service, until

SHIPPED = Path(models.__file__).parent / "checkpoints"


def write_second_version(model: str, root: Path) -> None:
    """The shipped version 1 again, as version 2."""
    folder = root / model / "2"
    shutil.copytree(SHIPPED / model / "1", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 2}))


class Swapping:
    """Changes the champion again and again inside the block; `changes` counts."""

    def __init__(self, url: str, model: str, pause: float) -> None:
        self._client = httpx.Client(base_url=f"{url}/v1/models/{model}", timeout=60, trust_env=False)
        self._pause = pause
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.changes = 0
        self.failed = ""

    def __enter__(self) -> "Swapping":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        version = 2
        while not self._stopped.wait(self._pause):
            for method, path, body in (
                ("POST", f"/versions/{version}/reload", {}),
                ("PUT", "/aliases/champion", {"version": str(version)}),
            ):
                answer = self._client.request(method, path, json=body)
                if answer.status_code != 200:
                    self.failed = answer.text
                    return
            self.changes += 1
            version = 3 - version


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=5, help="of each kind")
    parser.add_argument("--seconds", type=int, default=8, help="of a window")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two changes")
    parser.add_argument("--optimised", action="store_true", help="run what the service found out is best, not PyTorch")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    payload: Payload = payloads()[0]
    quiet: list[Measured] = []
    swapping: list[Measured] = []
    changes = 0
    settings = {"optimize": "auto", "optimize_max_busy": 1} if arguments.optimised else {"optimize": "manual"}
    homes = Homes()
    home = homes()
    write_second_version(payload.model, home / "data" / "models")
    try:
        with Service(home, **settings) as service:
            second = f"/v1/models/{payload.model}/versions/2"
            service.wait_ready()
            until(lambda: service.client.get(second).json().get("ready"), "the second version is loaded")
            backends = service.wait_chosen(CHOOSING_SECONDS) if arguments.optimised else {}
            measure(service.url, payload, arguments.connections, seconds=3)  # warms up
            for _ in track(range(arguments.windows), "measuring", console=Console(stderr=True)):
                quiet.append(measure(service.url, payload, arguments.connections, arguments.seconds))
                with Swapping(service.url, payload.model, arguments.pause) as swaps:
                    swapping.append(measure(service.url, payload, arguments.connections, arguments.seconds))
                if swaps.failed:
                    raise SystemExit(f"a change failed: {swaps.failed}")
                changes += swaps.changes
    finally:
        homes.remove()
    table = Table("windows", "requests/s", "p50 ms", "p99 ms", "errors", title=f"{changes} changes of the champion")
    for name, found in (("quiet", quiet), ("swapping", swapping)):
        rate, p50, p99 = (_median(found, field) for field in ("requests_per_second", "p50_ms", "p99_ms"))
        table.add_row(name, f"{rate:,.0f}", f"{p50:.1f}", f"{p99:.1f}", str(sum(each.errors for each in found)))
    Console().print(table)
    ratio = _median(swapping, "p99_ms") / _median(quiet, "p99_ms")
    print(f"p99 while swapping / p99 without: {ratio:.2f}")
    if arguments.json:
        kept = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "changes": changes,
            "backends": backends,
            "p99_ratio": round(ratio, 3),
            "quiet": [asdict(each) for each in quiet],
            "swapping": [asdict(each) for each in swapping],
        }
        arguments.json.write_text(json.dumps(kept, indent=2) + "\n")


def _median(found: list[Measured], field: str) -> float:
    return float(statistics.median(getattr(each, field) for each in found))


if __name__ == "__main__":
    main()
