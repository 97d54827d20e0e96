"""What answers where the back end that was planned does not: PyTorch, with the reason."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from models.architectures import Network, build
from models.manifest import BrokenCheckpoint, Manifest
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Execution, Precision, Ref
from service.engine.backends.base import Compiled, NotBuilt, Place, Typical, none_shipped
from service.engine.backends.eager import Eager
from service.engine.plans import Plan
from service.engine.replica import Replica
from service.engine.runner import Fill
from service.settings import SHIPPED_CHECKPOINTS
from service.wire.report import Wanted
from tests.service.engine.networks import NETWORKS, manifest_of, rows_for

CPU = torch.device("cpu")
CONTRACT, ARCHITECTURE = NETWORKS["mlp"]
SAMPLES = [Tensors(np.ones((count, 5), np.float32)) for count in (1, 2)]


@dataclass
class Fake:
    """A back end that builds PyTorch's network, and has it answer as `change` says; or that raises."""

    change: Callable[[Array], Array] = np.copy
    error: str = ""
    name: str = "fake"
    precision: Precision = Precision.FLOAT32
    shipped: int | None = None

    def why_not(self, device: torch.device) -> str | None:
        return None

    def start(self, place: Place) -> None:
        pass

    def build(
        self,
        network: Network,
        manifest: Manifest,
        samples: Sequence[Tensors],
        place: Place,
        typical: Typical = none_shipped,
    ) -> Compiled:
        self.shipped = len(typical())
        if self.error:
            raise NotBuilt(self.error)
        plain = Eager().build(network, manifest, samples, place)
        change = self.change

        class Changed:
            num_bytes = 12

            def padded(self, num_rows: int, longest: int) -> tuple[int, int]:
                return num_rows + 3, longest

            def __call__(self, x: Array, lengths: Array | None) -> Array:
                found: Array = change(plain(x, lengths))
                return found

        return Changed()


def made(backend: Fake) -> Replica:
    torch.manual_seed(0)
    network = build("mlp", ARCHITECTURE["config"])
    plan = Plan(backend, Place(CPU, 1), "measured")
    return Replica(manifest_of(CONTRACT, ARCHITECTURE), network, CPU, Precision.FLOAT32, SAMPLES, plan)


def raising(outputs: Array) -> Array:
    raise RuntimeError("no such kernel")


ROWS = rows_for(CONTRACT, [1, 1], 0)


def test_the_plan_is_followed_and_rows_that_were_added_are_not_answered() -> None:
    replica = made(Fake())
    replica.warm_up()
    assert replica.execution == Execution("fake", Precision.FLOAT32, 1, "measured")
    outputs, fill = replica.run(ROWS, ragged=False)
    assert (outputs.shape, fill, replica.num_bytes) == ((2, 3), Fill(5, 3), 12)


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (Fake(error="it knows no tanh"), "it knows no tanh"),
        (Fake(raising), "fake failed on a sample input: no such kernel"),
        (Fake(lambda outputs: outputs + 1), "fake failed on a sample input: it answers 1 away from PyTorch"),
        (Fake(lambda outputs: outputs * np.nan), "fake failed on a sample input: it answers nan away from PyTorch"),
        (Fake(lambda outputs: outputs[1:]), "fake failed on a sample input: "),
    ],
)
def test_pytorch_answers_where_the_back_end_does_not(
    backend: Fake, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    replica = made(backend)
    replica.warm_up()
    execution = replica.execution
    assert (execution.backend, execution.precision, execution.threads) == ("eager", Precision.FLOAT32, 1)
    assert execution.reason.startswith(reason)
    assert "a network runs on PyTorch" in caplog.text
    torch.manual_seed(0)
    plain = Replica(manifest_of(CONTRACT, ARCHITECTURE), build("mlp", ARCHITECTURE["config"]), CPU)
    np.testing.assert_array_equal(replica.run(ROWS, ragged=False)[0], plain.run(ROWS, ragged=False)[0])


def test_a_network_that_pytorch_cant_run_either_is_broken() -> None:
    torch.manual_seed(0)
    network = build("mlp", ARCHITECTURE["config"])
    network.output.bias.data.fill_(torch.nan)  # type: ignore[union-attr,operator]
    plan = Plan(Fake(), Place(CPU, 1), "measured")
    replica = Replica(manifest_of(CONTRACT, ARCHITECTURE), network, CPU, Precision.FLOAT32, SAMPLES, plan)
    with pytest.raises(BrokenCheckpoint, match="NaN or infinity"):
        replica.warm_up()


@pytest.mark.parametrize(("model", "shipped"), [("fashion", 300), ("house-price", 0)])
def test_a_back_end_may_read_the_rows_that_a_version_ships(model: str, shipped: int) -> None:
    backend = Fake()
    wanted = Wanted(Ref(model, 1), SHIPPED_CHECKPOINTS / model / "1")
    Replica.load(wanted, CPU, lambda device, *_: Plan(backend, Place(device, 1), "measured"))
    assert backend.shipped == shipped
