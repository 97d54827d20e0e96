import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from prometheus_client import CollectorRegistry

from service.domain import Precision
from service.engine.backends.inductor import Inductor
from service.engine.backends.onnxruntime import OnnxRuntime
from service.engine.backends.openvino import OpenVino
from tests import checkpoints, postgres

# No deadlines: the machine that runs the tests may be busy with a training. What decides whether a change lands tries
# the same examples each time, so that it judges the change; runs by hand look for new ones.
settings.register_profile(
    "servoloop",
    deadline=None,
    max_examples=60,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("servoloop")

# They ask a running service, in environments of their own (`make e2e`).
collect_ignore = ["clients"]

# Networks of tests are tiny: threads that wait for one another on a busy machine take longer than the work.
torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what can't run here, and say why."""
    for marker, reason in _missing().items():
        left_out = [item for item in items if reason and item.get_closest_marker(marker)]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]
            print(f"\n{len(left_out)} tests are left out: {reason}")


def _missing() -> dict[str, str | None]:
    """By marker, what keeps its tests from running here."""
    cpu = torch.device("cpu")
    return {
        "postgres": postgres.why_not(),
        "onnxruntime": OnnxRuntime().why_not(cpu),
        "openvino": OpenVino(Precision.BFLOAT16).why_not(cpu),
        "compiler": Inductor().why_not(cpu),
        "gpu": None if torch.cuda.is_available() else f"torch {torch.__version__} sees no GPU",
    }


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A model root of the test's own, with real checkpoints: `rent`, `mood` and two versions of `clothes`."""
    root = tmp_path / "models"
    checkpoints.write_image(root, version=1)
    checkpoints.write_image(root, version=2)
    checkpoints.write_text(root)
    checkpoints.write_columns(root)
    return root
