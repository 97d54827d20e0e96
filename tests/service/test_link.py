import asyncio
import socket
from collections.abc import Callable

from service.link import Link
from service.wire import Frame, Kind, encode

Receive = Callable[[Frame], None]


async def joined(receive: Receive, **events: Callable[[], None]) -> tuple[Link, socket.socket]:
    """A link, and the peer's end of its socket."""
    near, far = socket.socketpair()
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: Link(receive, **events), sock=near)
    return link, far


async def received(peer: socket.socket) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer, 1 << 16), 5)


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
    await asyncio.wait_for(link.lost, 5)
    assert events == ["opened", "closed"]
    peer.close()


async def test_a_peer_whose_frame_is_refused_is_cut_off() -> None:
    def refuse(frame: Frame) -> None:
        frame.meta["model"]

    link, peer = await joined(refuse)
    peer.send(encode(Frame(Kind.INFER, 1)))
    await asyncio.wait_for(link.lost, 5)
    peer.close()


async def test_frames_before_a_broken_one_are_received() -> None:
    got: list[int] = []
    link, peer = await joined(lambda frame: got.append(frame.request_id))
    peer.send(encode(Frame(Kind.CANCEL, 1)) + encode(Frame(Kind.CANCEL, 2)) + bytes(100))
    await asyncio.wait_for(link.lost, 5)
    assert got == [1, 2]
    peer.close()


async def test_sending_on_a_lost_link_does_nothing() -> None:
    link, peer = await joined(ignore)
    link.send(Frame(Kind.CANCEL, 1))
    peer.close()
    link.close()
    await asyncio.wait_for(link.lost, 5)
    link.send(Frame(Kind.CANCEL, 2))
    link.close()
