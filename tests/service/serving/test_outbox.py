import asyncio

import numpy as np
import pytest

from models.preprocess import Tensors
from service.domain import Deadline, Ref
from service.errors import BrokenContract
from service.serving.held import Held
from service.serving.outbox import Outbox
from service.wire.frames import Frame
from service.wire.inference import MOST_BYTES, requests_in
from tests.fakes import ManualClock
from tests.frames import encode
from tests.service.serving.fake_engine import Sent, sent_in

REF, OTHER = Ref("m", 1), Ref("m", 2)
ROW = np.zeros((1, 3), np.float32)
NOW = 1000.0


def held(tensors: Tensors | None = None, *, ref: Ref = REF, priority: int = 0, seconds: float = 10.0) -> Held:
    future = asyncio.get_running_loop().create_future()
    deadline = Deadline.after(seconds, now=NOW)
    return Held(ref, Tensors(ROW) if tensors is None else tensors, deadline, priority, future)


class Sending:
    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.flushed: list[int] = []
        self.outbox = Outbox(self.frames.append, lambda: self.flushed.append(len(self.frames)), ManualClock(NOW))

    async def sent(self) -> list[list[Sent]]:
        """What each frame held, once this turn of the event loop is over."""
        await asyncio.sleep(0)
        return [sent_in(frame) for frame in self.frames]


@pytest.fixture
async def sending() -> Sending:
    return Sending()


async def test_requests_alike_of_one_turn_share_a_frame(sending: Sending) -> None:
    for number in range(3):
        sending.outbox.add(number, held())
    assert not sending.frames
    (requests,) = await sending.sent()
    assert [request.request_id for request in requests] == [0, 1, 2]
    assert [request.time_left for request in requests] == [10.0] * 3


async def test_those_of_another_turn_have_a_frame_of_their_own(sending: Sending) -> None:
    for number in range(2):
        sending.outbox.add(number, held())
        await asyncio.sleep(0)
    assert [[one.request_id for one in requests] for requests in await sending.sent()] == [[0], [1]]


async def test_only_requests_alike_share_a_frame(sending: Sending) -> None:
    different = [
        held(),
        held(ref=OTHER),
        held(priority=2),
        held(Tensors(np.zeros((1, 4), np.float32))),
        held(Tensors(ROW.astype(np.float64))),
        held(Tensors.packed([np.zeros(3, np.float32)])),
    ]
    for number, one in enumerate(different):
        sending.outbox.add(number, one)
    assert [len(requests) for requests in await sending.sent()] == [1] * len(different)
    assert sending.flushed == [len(different)]


async def test_what_was_sent_late_has_no_time_left_and_not_less(sending: Sending) -> None:
    sending.outbox.add(1, held(seconds=-1.0))
    ((request,),) = await sending.sent()
    assert request.time_left == 0


async def test_large_requests_travel_by_themselves(sending: Sending) -> None:
    large = Tensors(np.zeros((1, MOST_BYTES), np.uint8))
    for number in range(3):
        sending.outbox.add(number, held(large))
    assert [[one.request_id for one in requests] for requests in await sending.sent()] == [[0], [1], [2]]
    assert np.shares_memory(requests_in(sending.frames[0])[1][0].tensors.values, large.values)


async def test_suspects_travel_by_themselves_also_beside_their_like(sending: Sending) -> None:
    for number in range(2):
        suspect = held()
        suspect.digest = b"d" * 16
        sending.outbox.add(number, suspect)
    assert [[one.request_id for one in requests] for requests in await sending.sent()] == [[0], [1]]


async def test_what_is_too_large_for_a_frame_is_its_own_callers_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.wire.frames.MAX_PAYLOAD_BYTES", 2 * MOST_BYTES)
    frames: list[Frame] = []

    def send(frame: Frame) -> None:
        encode(frame)
        frames.append(frame)

    outbox = Outbox(send, lambda: None)
    outbox.add(1, held())
    with pytest.raises(BrokenContract, match="frame size"):
        outbox.add(2, held(Tensors(np.zeros((1, MOST_BYTES), np.float32))))
    outbox.add(3, held())
    await asyncio.sleep(0)
    assert [[one.request_id for one in sent_in(frame)] for frame in frames] == [[1, 3]]
