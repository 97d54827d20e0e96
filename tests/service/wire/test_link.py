import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from service.wire.frames import Frame, Kind
from service.wire.link import KeptLink, Link
from tests.frames import encode
from tests.patience import PATIENCE

Receive = Callable[[Frame], None]


async def joined(receive: Receive, **events: Callable[[], None]) -> tuple[Link, socket.socket]:
    """A link, and the peer's end of its socket."""
    near, far = socket.socketpair()
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: Link(receive, **events), sock=near)
    return link, far


async def received(peer: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 1 << 16), PATIENCE)


def ignore(_: Frame) -> None: ...


async def test_frames_sent_in_one_turn_leave_together_and_in_order() -> None:
    link, peer = await joined(ignore)
    link.send(Frame(Kind.CANCEL, 1))
    link.send(Frame(Kind.CANCEL, 2))
    assert await received(peer) == encode(Frame(Kind.CANCEL, 1)) + encode(Frame(Kind.CANCEL, 2))
    link.send(Frame(Kind.CANCEL, 3))
    assert await received(peer) == encode(Frame(Kind.CANCEL, 3))
    link.close()
    peer.close()


async def test_what_was_flushed_is_sent_once_and_before_the_turn_ends() -> None:
    link, peer = await joined(ignore)
    link.send(Frame(Kind.CANCEL, 1))
    link.flush()
    assert peer.recv(1024) == encode(Frame(Kind.CANCEL, 1))
    link.send(Frame(Kind.CANCEL, 2))
    assert await received(peer) == encode(Frame(Kind.CANCEL, 2))
    link.close()
    peer.close()


async def test_a_peer_that_sends_what_is_no_frame_is_cut_off() -> None:
    events: list[str] = []
    link, peer = await joined(ignore, opened=lambda: events.append("opened"), closed=lambda: events.append("closed"))
    peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(link.lost, PATIENCE)
    assert events == ["opened", "closed"]
    peer.close()


async def test_a_peer_whose_frame_is_refused_is_cut_off() -> None:
    def refuse(frame: Frame) -> None:
        frame.meta["model"]

    link, peer = await joined(refuse)
    peer.send(encode(Frame(Kind.INFER, 1)))
    await asyncio.wait_for(link.lost, PATIENCE)
    peer.close()


async def test_frames_before_a_broken_one_are_received() -> None:
    got: list[int] = []
    link, peer = await joined(lambda frame: got.append(frame.request_id))
    peer.send(encode(Frame(Kind.CANCEL, 1)) + encode(Frame(Kind.CANCEL, 2)) + bytes(100))
    await asyncio.wait_for(link.lost, PATIENCE)
    assert got == [1, 2]
    peer.close()


async def test_sending_on_a_lost_link_does_nothing() -> None:
    link, peer = await joined(ignore)
    link.send(Frame(Kind.CANCEL, 1))
    peer.close()
    link.close()
    await asyncio.wait_for(link.lost, PATIENCE)
    link.send(Frame(Kind.CANCEL, 2))
    link.close()


# A link that is kept


class Listener:
    """Who a kept link connects to. It greets, and `events` are what the kept end heard."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._peers: list[Link] = []
        self.received: asyncio.Queue[Frame] = asyncio.Queue()
        self.events: asyncio.Queue[str] = asyncio.Queue()
        self.kept = KeptLink(
            path,
            lambda frame: self._note(f"frame {frame.request_id}"),
            opened=lambda: self._note("opened"),
            lost=lambda: self._note("lost"),
            retry_seconds=0.001,
        )

    async def start(self, number: int) -> None:
        def connection() -> Link:
            peer = Link(self.received.put_nowait, opened=lambda: peer.send(Frame(Kind.CANCEL, number)))
            self._peers.append(peer)
            return peer

        self._server = await asyncio.get_running_loop().create_unix_server(connection, str(self._path))

    async def die(self) -> None:
        assert self._server is not None
        self._server.close()
        self._path.unlink(missing_ok=True)
        for peer in self._peers:
            peer.close()
            await peer.lost
        self._peers.clear()

    async def next(self) -> str:
        return await asyncio.wait_for(self.events.get(), PATIENCE)

    async def sent(self) -> int:
        return (await asyncio.wait_for(self.received.get(), PATIENCE)).request_id

    @property
    def has_heard(self) -> bool:
        return not self.events.empty()

    @property
    def peer(self) -> Link:
        (peer,) = self._peers
        return peer

    def _note(self, event: str) -> None:
        self.events.put_nowait(f"{event}, {'open' if self.kept.is_open else 'away'}")


@pytest.fixture
async def listener(tmp_path: Path) -> AsyncIterator[Listener]:
    listener = Listener(tmp_path / "socket")
    yield listener
    await listener.kept.stop()
    await listener.die()


async def test_a_kept_link_is_opened_anew_when_it_is_lost(listener: Listener) -> None:
    listener.kept.start()
    for number in (1, 2):
        await listener.start(number)
        assert [await listener.next(), await listener.next()] == ["opened, open", f"frame {number}, open"]
        await listener.die()
        assert await listener.next() == "lost, away"


async def test_it_is_open_before_the_first_frame_also_where_that_is_read_before_the_loop_returns_the_connection(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.create_unix_connection

    async def as_uvloop_sometimes_does(*args: Any) -> Any:
        connection = await connect(*args)
        while not listener.has_heard:
            await asyncio.sleep(0)
        return connection

    monkeypatch.setattr(loop, "create_unix_connection", as_uvloop_sometimes_does)
    await listener.start(1)
    listener.kept.start()
    assert [await listener.next(), await listener.next()] == ["opened, open", "frame 1, open"]


async def test_what_is_sent_while_it_is_away_is_dropped(listener: Listener) -> None:
    listener.kept.send(Frame(Kind.CANCEL, 1))
    listener.kept.flush()
    await listener.start(0)
    listener.kept.start()
    await listener.next()
    listener.kept.send(Frame(Kind.CANCEL, 2))
    listener.kept.flush()
    assert await listener.sent() == 2


async def test_who_stops_keeping_it_closes_it_and_is_not_told_of_its_loss(listener: Listener) -> None:
    await listener.start(1)
    listener.kept.start()
    assert [await listener.next(), await listener.next()] == ["opened, open", "frame 1, open"]
    await listener.kept.stop()
    await asyncio.wait_for(listener.peer.lost, PATIENCE)
    assert listener.events.empty()


async def test_a_kept_link_that_was_never_started_can_be_stopped(listener: Listener) -> None:
    await listener.start(1)
    await listener.kept.stop()
    assert not listener.kept.is_open
