"""How many requests a second each shipped model answers: wrk, closed loop, one row a request."""

import argparse
import json
import os
import platform
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

EXAMPLES = Path(__file__).parent.parent / "examples"
REVIEW = (
    "I went in expecting very little and came out wanting to see it again. The two leads carry a plot that would "
    "sink most films, the camera never shows off, and the last half hour is as quiet and as sad as anything I have "
    "seen this year. It is a little long, and one of the side stories goes nowhere, but that is all I can hold "
    "against it. Bring somebody you like."
)


@dataclass(frozen=True)
class Payload:
    """What is sent to a model, over and over.

    By the Open Inference Protocol `json_length` is how many of its bytes are JSON, where not all are.
    """

    model: str
    content_type: str
    body: bytes
    is_v2: bool = False
    json_length: int | None = None

    @property
    def path(self) -> str:
        return f"/v2/models/{self.model}/infer" if self.is_v2 else f"/v1/models/{self.model}/predict"

    @property
    def headers(self) -> dict[str, str]:
        length = {} if self.json_length is None else {"Inference-Header-Content-Length": str(self.json_length)}
        return {"Content-Type": self.content_type, **length}


@dataclass(frozen=True)
class Measured:
    """wrk's figures; latencies in milliseconds."""

    model: str
    content_type: str
    connections: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def payloads() -> list[Payload]:
    """One for each shipped model, and the image as nested numbers too."""
    picture = (EXAMPLES / "ankle-boot.png").read_bytes()
    numbers = [[(7 * row * column) % 256 for column in range(28)] for row in range(28)]
    return [
        Payload("fashion", "image/png", picture),
        Payload("fashion", "application/json", json.dumps({"instances": [numbers]}).encode()),
        Payload("sentiment-lstm", "text/plain", REVIEW.encode()),
        Payload("sentiment", "text/plain", REVIEW.encode()),
        Payload("house-price", "application/json", b'{"instances": [{"columns": {"lotsize": 5850}}]}'),
    ]


def measure(url: str, payload: Payload, connections: int, seconds: int) -> Measured:
    """Run wrk once."""
    with tempfile.TemporaryDirectory() as folder:
        body, script = Path(folder, "body"), Path(folder, "post.lua")
        body.write_bytes(payload.body)
        headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in payload.headers.items())
        script.write_text(
            f'wrk.method = "POST"\n{headers}'
            f'local file = io.open("{body}", "rb")\nwrk.body = file:read("*a")\nfile:close()\n'
        )
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
        said = subprocess.run([*command, url + payload.path], check=True, capture_output=True, text=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if rate is None:
        raise SystemExit(f"wrk said nothing of a rate:\n{said}")
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    lost = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    errors = (int(bad[1]) if bad else 0) + (sum(map(int, lost.groups())) if lost else 0)
    return Measured(
        payload.model,
        payload.content_type,
        connections,
        float(rate[1]),
        _milliseconds(said, "50%"),
        _milliseconds(said, "99%"),
        errors,
    )


def _milliseconds(said: str, percentile: str) -> float:
    found = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)\b", said)
    if found is None:
        raise SystemExit(f"wrk said nothing of its {percentile}:\n{said}")
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    table = Table("model", "body", "connections", "requests/s", "p50 ms", "p99 ms", "errors")
    figures = []
    console = Console()
    with console.status("measuring") as status:
        for payload in payloads():
            for connections in (64, 1):
                status.update(f"{payload.model}, {payload.content_type}, {connections} connections")
                measure(arguments.url, payload, connections, seconds=2)  # warms up
                result = measure(arguments.url, payload, connections, arguments.seconds)
                figures.append(asdict(result))
                table.add_row(
                    *(f"{value:,.1f}" if isinstance(value, float) else str(value) for value in figures[-1].values())
                )
    console.print(table)
    if arguments.json:
        machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
        kept = {"date": datetime.now(UTC).isoformat(timespec="seconds"), **machine, "figures": figures}
        arguments.json.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
