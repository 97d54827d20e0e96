import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.training.optim import OptimizerConfig, ScheduleConfig


@pytest.mark.parametrize(
    ("kind", "made"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_each_kind_makes_its_optimiser(kind: str, made: type[torch.optim.Optimizer]) -> None:
    config = OptimizerConfig.model_validate({"kind": kind, "learning_rate": 0.1, "l2": 0.5})
    optimizer = config.build(torch.nn.Linear(2, 1))
    assert type(optimizer) is made
    decays = {group["params"][0].dim(): group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {2: 0.5, 1: 0.0}
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_sgd_has_momentum() -> None:
    optimizer = OptimizerConfig(kind="sgd", momentum=0.8, nesterov=True).build(torch.nn.Linear(2, 1))
    assert optimizer.param_groups[0]["momentum"] == 0.8
    assert optimizer.param_groups[0]["nesterov"]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"learning_rate\n.*greater than 0"):
        OptimizerConfig(learning_rate=-1)
    with pytest.raises(ValueError, match="betas"):
        OptimizerConfig.model_validate({"betas": [0.9, 0.99]})


def test_constant_stays() -> None:
    assert {ScheduleConfig().factor(step, 10) for step in range(10)} == {1.0}


def test_warmup_rises_in_a_straight_line() -> None:
    schedule = ScheduleConfig(warmup=0.4)
    assert [schedule.factor(step, 10) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_steps_multiply_by_their_factor() -> None:
    schedule = ScheduleConfig(kind="step", step_at=(0.5, 0.8), step_factor=0.1)
    assert [schedule.factor(step, 10) for step in (0, 4, 5, 7, 8, 9)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_falls_to_its_floor() -> None:
    schedule = ScheduleConfig(kind="cosine", floor=0.1)
    assert schedule.factor(0, 100) == 1.0
    assert schedule.factor(50, 100) == pytest.approx(0.55)
    assert schedule.factor(99, 100) == pytest.approx(0.1, abs=1e-3)


def test_one_cycle_rises_to_1_and_falls() -> None:
    schedule = ScheduleConfig(kind="one_cycle", warmup=0.25)
    factors = [schedule.factor(step, 100) for step in range(100)]
    top = factors.index(max(factors))
    assert top == 25
    assert factors[top] == 1.0
    assert factors[0] < 0.06
    assert factors[:26] == sorted(factors[:26])
    assert factors[25:] == sorted(factors[25:], reverse=True)


@given(
    kind=st.sampled_from(["constant", "step", "cosine", "one_cycle"]),
    warmup=st.floats(0, 0.9),
    num_steps=st.integers(1, 50),
    data=st.data(),
)
def test_factors_stay_in_0_to_1(kind: str, warmup: float, num_steps: int, data: st.DataObject) -> None:
    schedule = ScheduleConfig.model_validate({"kind": kind, "warmup": warmup})
    assert 0 < schedule.factor(data.draw(st.integers(0, num_steps - 1)), num_steps) <= 1
