import numpy as np
import pytest
import torch
from torch.nn import functional

from models.architectures import Network, build
from models.preprocess import Preprocessor
from models.training.batches import Rows
from models.training.optim import OptimizerConfig, ScheduleConfig
from models.training.trainer import Diverged, History, LoopConfig, Objective, Trainer, reproducible

CPU = torch.device("cpu")
PLAIN = Preprocessor([], {}.__getitem__)


def line(n: int = 64, seed: int = 0) -> Rows:
    x = np.random.default_rng(seed).normal(size=(n, 1)).astype(np.float32)
    return Rows(x, (2 * x[:, 0] + 1).astype(np.float32), PLAIN)


def trainer(network: Network, loop: LoopConfig, metrics: list[float] | None = None, **optimizer: object) -> Trainer:
    figures = iter(metrics or [])
    objective = Objective(
        loss=lambda values, y, weights=None: functional.mse_loss(values[:, 0], y),
        metric=lambda values, y: next(figures, 0.0),
    )
    config = OptimizerConfig.model_validate({"kind": "sgd", "learning_rate": 0.1, **optimizer})
    return Trainer(network, objective, loop, config, ScheduleConfig(), CPU)


def linear() -> Network:
    torch.manual_seed(0)
    return build("mlp", {"inputs": 1, "outputs": 1})


def fit(made: Trainer) -> History:
    with reproducible(0) as rng:
        return made.fit(line(), line(seed=1), rng)


def test_a_line_is_learned() -> None:
    network = linear()
    history = fit(trainer(network, LoopConfig(epochs=40, batch_size=16, keep_best_by="loss")))
    assert history.epochs[-1].validation_loss < 1e-4
    assert network.state_dict()["output.weight"].item() == pytest.approx(2, abs=0.01)
    assert not network.training


def test_the_best_epochs_weights_are_kept() -> None:
    network = linear()
    kept: list[float] = []
    made = trainer(network, LoopConfig(epochs=4, batch_size=16), metrics=[0.1, 0.9, 0.5, 0.9])
    validate = made.validate

    def watched(rows: Rows) -> tuple[float, float]:
        kept.append(network.state_dict()["output.weight"].item())
        return validate(rows)

    made.validate = watched  # type: ignore[method-assign]
    history = fit(made)
    assert (len(history.epochs), history.best) == (4, 1)
    assert network.state_dict()["output.weight"].item() == kept[1]


def test_training_stops_when_it_no_longer_gets_better() -> None:
    made = trainer(linear(), LoopConfig(epochs=10, batch_size=16, patience=2), metrics=[0.5, 0.6, 0.6, 0.55, 0.9])
    assert [epoch.metric for epoch in fit(made).epochs] == [0.5, 0.6, 0.6, 0.55]


def test_a_diverging_run_stops_with_advice() -> None:
    made = trainer(linear(), LoopConfig(epochs=50, batch_size=16), learning_rate=50.0)
    with pytest.raises(Diverged, match="a lower learning rate or gradient clipping may help"):
        fit(made)


def test_gradient_clipping_bounds_a_step() -> None:
    network = linear()
    before = network.state_dict()["output.weight"].item()
    made = trainer(network, LoopConfig(epochs=1, batch_size=64), learning_rate=1.0, momentum=0.0, gradient_clip=0.01)
    fit(made)
    assert 0 < abs(network.state_dict()["output.weight"].item() - before) <= 0.01


@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_penalties_shrink_weights(penalty: str) -> None:
    # Ever better figures: the last epoch's weights are kept, whatever the penalty makes of the loss.
    loop, better = LoopConfig(epochs=20, batch_size=16), [float(i) for i in range(20)]
    free, held = linear(), linear()
    fit(trainer(free, loop, better))
    fit(trainer(held, loop, better, **{penalty: 0.5}))
    assert held.state_dict()["output.weight"].item() < free.state_dict()["output.weight"].item() - 0.1


def test_deterministic_mode_ends_with_the_run() -> None:
    with reproducible(0):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_evaluation_is_float32_without_dropout() -> None:
    network = build("mlp", {"inputs": 1, "hidden": [8], "dropout": 0.9, "outputs": 1})
    made = trainer(network, LoopConfig(epochs=1, batch_size=16, precision="bfloat16"))
    assert made.validate(line()) == made.validate(line())
