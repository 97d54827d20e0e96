"""Load on a server from outside: wrk for closed loops, our own generator for constant rates."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.networks import Request
from benchmarks.processes import rest, usage

# The body of a file of its own, or those of many in turn: each formatted once, before the first is sent.
_WRK = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "{content_type}"
local requests, turn = {{}}, 0
local function body(number)
  local file = io.open("{folder}/" .. number, "rb")
  local content = file:read("*a")
  file:close()
  return content
end
if {many} == 1 then
  wrk.body = body(0)
else
  init = function()
    for number = 0, {many} - 1 do requests[number] = wrk.format(nil, nil, nil, body(number)) end
  end
  request = function()
    turn = (turn + 1) % {many}
    return requests[turn]
  end
end
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format("FIGURES %d %d %d %f %f %f", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"""

_REPOSITORY = Path(__file__).parent.parent
_LONGEST_SECONDS = 48


class LoadFailed(Exception):
    """The load generator, or the server under it, did not do what was asked."""


@dataclass(frozen=True)
class Window:
    """What one stretch of load showed. Microseconds of CPU are for each answered request."""

    connections: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    errors: int
    server_cpu_us: float
    client_cpu_us: float
    rss_mb: float

    def to_json(self) -> dict[str, Any]:
        """For a results file: figures that are worth their digits."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


def ask(url: str, request: Request, turn: int = 0) -> httpx.Response:
    """Ask once, for the body whose turn it is."""
    headers, body = {"Content-Type": request.content_type}, request.bodies[turn]
    return httpx.post(f"{url}{request.path}", content=body, headers=headers, timeout=60, trust_env=False)


def closed_loop(url: str, request: Request, connections: int, seconds: float, mark: str) -> Window:
    """Each connection asks again as soon as it is answered. `mark` names the server's processes.

    Asks four times as long, and again, where nothing was answered: beside other programs one batch of a network may
    take seconds. Raises LoadFailed.
    """
    whole = max(1, round(seconds))
    while (window := _closed_loop(url, request, connections, whole, mark)) is None:
        if whole >= _LONGEST_SECONDS:
            raise LoadFailed(f"{url} answered nothing over {connections} connections within {whole} seconds")
        whole = min(4 * whole, _LONGEST_SECONDS)
    return window


def _closed_loop(url: str, request: Request, connections: int, whole: int, mark: str) -> Window | None:
    """None where nothing was answered."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        many = _write(request, folder)
        script.write_text(_WRK.format(content_type=request.content_type, folder=folder, many=many))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "--timeout", "20s", "-s", str(script)]
        said, server, client, rss = _watched([*command, f"{url}{request.path}"], mark)
    figures = next((line.split()[1:] for line in said.splitlines() if line.startswith("FIGURES ")), None)
    if figures is None:
        raise LoadFailed(f"wrk said nothing of its figures:\n{said}")
    rest(mark)
    answered, duration_us, errors, p50, p99, p999 = (float(figure) for figure in figures)
    if not answered:
        return None
    return Window(
        connections,
        answered / (duration_us / 1e6),
        p50 / 1000,
        p99 / 1000,
        p999 / 1000,
        int(errors),
        1e6 * server / answered,
        1e6 * client / answered,
        rss,
    )


def constant_rate(url: str, request: Request, rate: float, seconds: float, mark: str, connections: int = 128) -> Window:
    """A request every 1 / rate seconds whatever the server does; latencies count from when each was due."""
    with tempfile.TemporaryDirectory() as folder:
        _write(request, folder)
        command = [sys.executable, "-P", "-m", "benchmarks.open_loop", url, request.path, request.content_type]
        said, server, client, rss = _watched([*command, folder, f"{rate}", f"{seconds}", f"{connections}"], mark)
    figures = json.loads(said)
    answered = max(1, figures["answered"])
    return Window(
        connections,
        figures["requests_per_second"],
        figures["p50_ms"],
        figures["p99_ms"],
        figures["p999_ms"],
        figures["errors"],
        1e6 * server / answered,
        1e6 * client / answered,
        rss,
    )


def _write(request: Request, folder: str) -> int:
    """Each body into a file called by its number; how many there are."""
    for number, body in enumerate(request.bodies):
        Path(folder, str(number)).write_bytes(body)
    return len(request.bodies)


def _watched(command: list[str], mark: str) -> tuple[str, float, float, float]:
    """Run; its output, the CPU seconds of server and client meanwhile, and the server's RSS at the end."""
    before = usage(mark)
    environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.read()
            _, status, spent = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            raise
    after = usage(mark)
    if process.returncode:
        raise LoadFailed(f"{command[0]} ended with {process.returncode}:\n{said}")
    return said, after.cpu_seconds - before.cpu_seconds, spent.ru_utime + spent.ru_stime, after.rss_mb
