"""Messages on their way. How much of one has come is nobody's to see, so those that come slowly are few."""

import asyncio
from collections.abc import Awaitable

from service.api.buffers import BodyBudget
from service.errors import BodyTooSlow, BuffersFull

# Many times what a message takes that was sent at once: 0.1 ms, and of the largest 30 ms.
_PROMPT_SECONDS = 0.25


class Arrivals:
    """Waits for messages of at most `max_bytes` each.

    gRPC asks its client for all of a message once it is read, and tells nobody how much of it has come. So what comes
    promptly is waited for, however many there are, and of the rest no more than the budget could hold, each of them
    being as large as a message may be.
    """

    def __init__(self, budget: BodyBudget, max_bytes: int) -> None:
        self._budget = budget
        self._max_slow = max(1, budget.limit // max_bytes)
        self._num_slow = 0

    async def wait(self, message: Awaitable[object], seconds: float) -> object:
        """The message. Raises BodyTooSlow, or BuffersFull where too many come slowly."""
        loop = asyncio.get_running_loop()
        is_slow = is_refused = False

        def claim() -> None:
            nonlocal is_slow, is_refused
            is_slow = self._num_slow < self._max_slow
            is_refused = not is_slow
            self._num_slow += is_slow
            if is_refused:
                limit.reschedule(loop.time())

        timer = loop.call_later(_PROMPT_SECONDS, claim)
        try:
            async with asyncio.timeout(seconds) as limit:
                return await message
        except TimeoutError:
            raise (BuffersFull(self._budget.limit) if is_refused else BodyTooSlow()) from None
        finally:
            timer.cancel()
            self._num_slow -= is_slow
