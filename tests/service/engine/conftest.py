import pytest

from service.engine.batching import BatchQueue
from tests.service.engine.taught import taught


@pytest.fixture
def queue() -> BatchQueue:
    """A queue that knows that a batch takes 10 ms, and 10 ms a row."""
    return taught()
