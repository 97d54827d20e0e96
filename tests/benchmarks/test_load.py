"""What the benchmarks say of a server whose behaviour is known."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.load import closed_loop, constant_rate
from benchmarks.networks import CASES, Request, in_turn, our_request
from benchmarks.processes import Server, carrying
from tests.end_to_end.service import free_port

STALL = 0.3


class _Stalling(BaseHTTPRequestHandler):
    """Answers at once; stalls everybody for a moment at the 21st request; fails those that ask for it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    lock = threading.Lock()
    asked = 0
    bodies: list[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            type(self).asked += 1
            self.bodies.append(body)
            if type(self).asked == 21:
                time.sleep(STALL)
        if self.path == "/slow":
            time.sleep(1.5)
        self.send_response(500 if self.path == "/fail" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bodies() -> list[bytes]:
    """What was sent to the server at `url`."""
    return []


@pytest.fixture
def url(bodies: list[bytes]) -> Iterator[str]:
    class Fresh(_Stalling):
        asked = 0

    Fresh.bodies = bodies

    server = ThreadingHTTPServer(("127.0.0.1", 0), Fresh)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stall_shows_in_the_latency_of_every_request_that_was_due_meanwhile(url: str) -> None:
    window = constant_rate(url, Request("/", "text/plain", b"x"), rate=50, seconds=2, mark="none", connections=2)
    assert window.errors == 0
    # 15 of 100 requests were due during the stall; a closed loop would have seen two slow ones.
    assert window.p99_ms > 800 * STALL


def test_failed_requests_are_counted(url: str) -> None:
    window = constant_rate(url, Request("/fail", "text/plain", b"x"), rate=50, seconds=0.2, mark="none", connections=2)
    assert window.errors == 10


THREE = in_turn("/", "text/plain", (b"one", b"two\n\0", b"three"))


def test_bodies_are_sent_in_turn_at_a_constant_rate(url: str, bodies: list[bytes]) -> None:
    assert constant_rate(url, THREE, rate=50, seconds=0.12, mark="none", connections=1).errors == 0
    assert bodies == [*THREE.bodies, *THREE.bodies]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_bodies_are_sent_in_turn_in_a_closed_loop(url: str, bodies: list[bytes]) -> None:
    assert closed_loop(url, THREE, connections=1, seconds=1, mark="none").errors == 0
    assert len(bodies) > 3
    turns = [THREE.bodies.index(body) for body in bodies]
    assert turns == [(turns[0] + number) % 3 for number in range(len(bodies))]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_window_is_lengthened_until_something_was_answered(url: str) -> None:
    # Each connection's first answer takes longer than the window that was asked for.
    window = closed_loop(url, Request("/slow", "text/plain", b"x"), connections=1, seconds=1, mark="none")
    assert 0 < window.requests_per_second < 1
    assert window.errors == 0


def test_a_server_leaves_no_process_behind(tmp_path) -> None:
    # A child that left its parent's session and goes on when it ends, as daemons do.
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], "
    child += "start_new_session=True); time.sleep(60)"
    with Server([sys.executable, "-c", child], os.environ, tmp_path, free_port()) as server:
        ends = time.monotonic() + 20
        while len(carrying(server.mark)) < 2:
            assert time.monotonic() < ends
            time.sleep(0.02)
    assert carrying(server.mark) == []


def test_the_payloads_are_of_the_size_that_is_claimed() -> None:
    assert 12_288 < len(our_request(CASES["cnn_binary"]).body) < 12_500
    assert 28_000 < len(our_request(CASES["cnn_json"]).body) < 30_000


@pytest.mark.parametrize(
    ("what", "peer", "complaint"),
    [("peers", "nobody", "invalid choice: 'nobody'"), ("texts", "bentoml", "mosec, litserve, torchserve are measured")],
)
def test_a_peer_that_can_not_be_measured_is_refused(what: str, peer: str, complaint: str) -> None:
    said = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks", what, "--peer", peer],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2
    assert complaint in said.stderr
