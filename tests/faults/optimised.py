"""The back ends that a service chooses by itself, for the models of the faults.

The slow model stays on PyTorch: what it is for is to keep a core busy, which elsewhere it does not.
"""

from rich.console import Console

from tests import checkpoints
from tests.end_to_end.service import Homes, Service
from tests.faults import versions
from tests.faults.report import Report

_SECONDS = 600.0


def choose(homes: Homes) -> Report:
    """Have a service find out what runs each model best, and let every home made from now on begin with that."""
    home = homes()
    root = home / "data" / "models"
    for version in versions.VERSIONS:
        checkpoints.write_vector(root, versions.MODEL, version=version)
    for name in ("clothes", *versions.CROWDED):
        checkpoints.write_image(root, name)
    with (
        Console(stderr=True).status("finding out what runs each model best"),
        Service(home, shipped_checkpoints="", optimize="auto", optimize_max_busy=1) as service,
    ):
        service.wait_ready()
        service.client.post(f"/v1/models/{versions.MODEL}/versions/2/load").raise_for_status()
        backends = service.wait_chosen(_SECONDS)
    homes.evidence = home / "data" / "optimized"
    return Report(
        "back ends",
        dict(sorted(backends.items())),
        {"one is not PyTorch": any("eager" not in of for of in backends.values())},
    )
