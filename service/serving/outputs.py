"""One answer to a request whose rows were asked for one by one."""

from collections.abc import Sequence

import numpy as np

from service.domain import Ref
from service.errors import PredictionFailed, QuarantinedInput
from service.wire.inference import Outputs


def joined(ref: Ref, outcomes: Sequence[Outputs | BaseException]) -> Outputs:
    """One answer from those to a request's rows. Raises what keeps the request from being answered."""
    failures: dict[int, str] = {}
    quarantined = set()
    for index, outcome in enumerate(outcomes):
        match outcome:
            case Outputs(failures=failed):
                failures |= dict.fromkeys([index] if failed else [], failed.get(0, ""))
            case QuarantinedInput():
                failures[index] = str(outcome)
                quarantined.add(index)
            case PredictionFailed(reason=reason):
                failures[index] = reason
            case BaseException():
                raise outcome
    if len(quarantined) == len(outcomes):
        raise QuarantinedInput(ref)
    answers = [outcome for outcome in outcomes if isinstance(outcome, Outputs)]
    good = {index: outcome.values for index, outcome in enumerate(outcomes) if isinstance(outcome, Outputs)}
    shape = next((values.shape[1:] for index, values in good.items() if index not in failures), (0,))
    values = np.zeros((len(outcomes), *shape), np.float32)
    for index, row in good.items():
        if index not in failures:
            values[index] = row[0]
    return Outputs(
        values,
        failures,
        max((answer.queue_seconds for answer in answers), default=0.0),
        max((answer.compute_seconds for answer in answers), default=0.0),
        frozenset(quarantined),
    )
