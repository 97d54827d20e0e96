"""The memory that the bodies of all requests of a process may take together."""

from service.errors import BuffersFull


class BodyBudget:
    """Counts bytes of bodies, from when they are read until their request is answered."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, num_bytes: int) -> None:
        """Raises BuffersFull, and then counts nothing."""
        if self.held + num_bytes > self.limit:
            raise BuffersFull(self.limit)
        self.held += num_bytes

    def give_back(self, num_bytes: int) -> None:
        self.held -= num_bytes
