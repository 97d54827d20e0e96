"""What every running reconciler of tests has: something to load, and no second to wait."""

from pathlib import Path

import pytest

from service.reconciling import optimizing
from tests import checkpoints


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reconciler and the optimizer look again without a pause to speak of."""
    monkeypatch.setattr("service.reconciling.reconciler._SCAN_SECONDS", 0.02)
    monkeypatch.setattr(optimizing, "LOOK_SECONDS", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a model root, and `sensors` and `rent` in it."""
    checkpoints.write_vector(tmp_path / "models")
    checkpoints.write_columns(tmp_path / "models")
    return tmp_path
