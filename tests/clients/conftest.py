import os

import pytest

from tests.clients.support import Served


@pytest.fixture(scope="session")
def served() -> Served:
    """The service that the runner started."""
    url = os.environ.get("E2E_URL")
    if url is None:
        pytest.exit("E2E_URL names no service: run `python -m tests.clients`, or `make e2e`", returncode=2)
    return Served(url)
