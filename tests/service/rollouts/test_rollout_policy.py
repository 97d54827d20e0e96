"""How a trial is to be led."""

from service.domain import Stage
from service.rollouts.policy import RolloutPolicy


def test_a_trial_begins_in_the_shadow() -> None:
    assert RolloutPolicy(shadow_share=0.25).first == (Stage.SHADOW, 0.25)


def test_a_trial_without_a_shadow_begins_with_the_smallest_canary() -> None:
    assert RolloutPolicy(shadow_share=0, canary_shares=(0.1, 0.5)).first == (Stage.CANARY, 0.1)
