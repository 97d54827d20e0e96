"""Questions that survive the end of who answers them."""

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.wire.asking import Asker
from service.wire.frames import Frame, Kind
from service.wire.link import Link
from tests.patience import PATIENCE


@dataclass
class Place:
    path: Path
    listener: socket.socket

    @asynccontextmanager
    async def answering(self, answer: Callable[[Link, Frame], None]) -> AsyncIterator[list[Frame]]:
        """What is asked, while somebody answers."""
        asked: list[Frame] = []
        links: list[Link] = []

        def connection() -> Link:
            def receive(frame: Frame) -> None:
                asked.append(frame)
                answer(link, frame)

            link = Link(receive)
            links.append(link)
            return link

        server = await asyncio.get_running_loop().create_unix_server(connection, sock=self.listener.dup())
        try:
            yield asked
        finally:
            server.close()
            for link in links:
                link.close()


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="sl-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "a.sock"
        listener.bind(str(path))
        listener.listen()
        yield Place(path, listener)


def echo(link: Link, frame: Frame) -> None:
    link.send(Frame(Kind.CHANGED, frame.request_id, frame.meta))


def silent(link: Link, frame: Frame) -> None: ...


async def test_each_question_has_its_own_answer(place: Place) -> None:
    def backwards(link: Link, frame: Frame) -> None:
        held.append(frame)
        if len(held) == 3:
            for one in reversed(held):
                echo(link, one)

    held: list[Frame] = []
    async with place.answering(backwards), Asker(place.path) as asker:
        answers = await asyncio.gather(*(asker.ask(Kind.CHANGE, {"number": number}, PATIENCE) for number in range(3)))
    assert [answer.meta["number"] for answer in answers] == [0, 1, 2]


async def test_a_question_waits_for_who_answers(place: Place) -> None:
    async with Asker(place.path) as asker:
        asking = asyncio.create_task(asker.ask(Kind.CHANGE, {"number": 7}, PATIENCE))
        await asyncio.sleep(0.05)
        async with place.answering(echo):
            assert (await asking).meta == {"number": 7}


async def test_a_question_whose_connection_is_lost_is_asked_again(place: Place) -> None:
    async with Asker(place.path) as asker:
        async with place.answering(silent) as asked:
            asking = asyncio.create_task(asker.ask(Kind.CHANGE, {"number": 7}, PATIENCE))
            async with asyncio.timeout(PATIENCE):
                while not asked:
                    await asyncio.sleep(0.002)
        async with place.answering(echo) as again:
            assert (await asking).meta == {"number": 7}
        assert [frame.request_id for frame in again] == [asked[0].request_id]


async def test_who_is_not_answered_hears_so_and_is_forgotten(place: Place) -> None:
    async with Asker(place.path) as asker:
        with pytest.raises(TimeoutError):
            await asker.ask(Kind.CHANGE, {}, 0.01)
        # The first question may be read only now: its answer is nobody's.
        async with place.answering(echo):
            assert (await asker.ask(Kind.CHANGE, {"number": 1}, PATIENCE)).meta == {"number": 1}


async def test_an_answer_that_nobody_waits_for_is_dropped(place: Place) -> None:
    def twice(link: Link, frame: Frame) -> None:
        link.send(Frame(Kind.CHANGED, 10_000))
        echo(link, frame)
        echo(link, frame)

    async with place.answering(twice), Asker(place.path) as asker:
        for number in range(3):
            assert (await asker.ask(Kind.CHANGE, {"number": number}, PATIENCE)).meta == {"number": number}
