import os

import pytest

from tests.clients.support import Served


@pytest.fixture(scope="session")
def served() -> Served:
    """The service that the runner started."""
    url, grpc = os.environ.get("E2E_URL"), os.environ.get("E2E_GRPC")
    if url is None or grpc is None:
        what = "E2E_URL and E2E_GRPC name no service"
        pytest.exit(f"{what}: run `python -m tests.clients`, or `make e2e`", returncode=2)
    return Served(url, grpc)
