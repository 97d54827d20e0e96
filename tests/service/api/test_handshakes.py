"""A listening socket that begins no further connection."""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from service.api.handshakes import begin_again, begin_no_more
from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the filter is Linux's")

ESTABLISHED, SYN_SENT = 1, 2  # linux/tcp_states.h


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family) as listening:
        listening.bind((request.param, 0))
        listening.listen()
        yield listening


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def begin(listener: socket.socket, clients: ExitStack) -> socket.socket:
    """Begin a connection: between two sockets of one machine it stands, or does not, when this returns."""
    client = clients.enter_context(socket.socket(listener.family))
    client.setblocking(False)
    client.connect_ex(listener.getsockname())
    return client


def state(client: socket.socket) -> int:
    return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def test_no_further_connection_begins(listener: socket.socket, clients: ExitStack) -> None:
    assert state(begin(listener, clients)) == ESTABLISHED
    begin_no_more(listener)
    assert state(begin(listener, clients)) == SYN_SENT


def test_one_that_has_begun_is_accepted_and_served(listener: socket.socket, clients: ExitStack) -> None:
    client = begin(listener, clients)
    begin_no_more(listener)
    client.setblocking(True)
    client.sendall(b"a question")
    accepted = clients.enter_context(listener.accept()[0])
    assert accepted.recv(100) == b"a question"
    accepted.sendall(b"an answer")
    assert client.recv(100) == b"an answer"
    accepted.close()
    assert client.recv(100) == b""


def test_one_whose_handshake_is_under_way_goes_on(listener: socket.socket, clients: ExitStack) -> None:
    # The kernel takes the handshake's last packet, and lets the connection stand for itself with the first data.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 10)
    client = begin(listener, clients)
    begin_no_more(listener)
    client.setblocking(True)
    client.settimeout(PATIENCE)
    client.sendall(b"." * 5_000)
    listener.settimeout(PATIENCE)
    accepted = clients.enter_context(listener.accept()[0])
    accepted.settimeout(PATIENCE)
    assert accepted.recv(5_000, socket.MSG_WAITALL) == b"." * 5_000


def test_who_listens_there_next_is_reached(listener: socket.socket, clients: ExitStack) -> None:
    begin_no_more(listener)
    begin_again(listener)
    assert state(begin(listener, clients)) == ESTABLISHED


def test_where_nothing_was_set_nothing_is_undone(listener: socket.socket, clients: ExitStack) -> None:
    begin_again(listener)
    assert state(begin(listener, clients)) == ESTABLISHED


def test_a_socket_that_has_no_such_filter_is_left_as_it_is(clients: ExitStack) -> None:
    closed = socket.socket()
    closed.close()
    begin_no_more(closed)
