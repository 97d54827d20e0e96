"""What may be asked of a model's loop."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from service.retraining.policy import GateTerms, LoopPolicy


def test_a_policy_stays_the_same_as_json() -> None:
    policy = LoopPolicy.model_validate(
        {"triggers": {"enabled": True}, "rollout": {"canary_shares": [0.1, 0.5]}, "guarded_slices": ["country:DE"]}
    )
    assert LoopPolicy.model_validate_json(json.dumps(policy.to_dict())) == policy


def test_nothing_is_retrained_by_itself_unless_that_is_wanted() -> None:
    assert not LoopPolicy().triggers.enabled


def test_the_gates_terms_are_those_of_the_gate() -> None:
    assert GateTerms(margin=0.02).to_policy().to_dict() == {**GateTerms().model_dump(), "margin": 0.02}


@pytest.mark.parametrize(
    "wrong",
    [
        {"gate": {"alpha": 0}},
        {"gate": {"minimum_rows": 1}},
        {"gate": {"primary_set": "anything"}},
        {"rollout": {"canary_shares": [0.5, 0.25]}},
        {"rollout": {"canary_shares": [0.5, 0.5]}},
        {"rollout": {"canary_shares": []}},
        {"rollout": {"controlled": False}},
        {"guarded_slices": ["country"]},
        {"triggers": {"labels": 0}},
        {"something": 1},
    ],
)
def test_what_can_not_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LoopPolicy.model_validate(wrong)
