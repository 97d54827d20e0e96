"""From an answered request to what the prediction log remembers of it."""

import base64
import struct
from collections.abc import Iterator, Sequence

from service.domain import Caller, PredictParameters
from service.serving.answer import Computed
from service.serving.router import Target
from service.store.base import Record

# Of a prediction: not what was added because the caller asked for more, and no long vectors.
_MOST_LABELS = 1024

_LOGGED = ("label", "index", "probability", "value", "labels", "error")


def records_of(
    computed: Computed,
    target: Target,
    parameters: PredictParameters,
    caller: Caller,
    latency: float,
    *,
    propensity: float = 1.0,
    beside: Sequence[str] | None = None,
) -> Iterator[Record]:
    """A record for each prediction; `latency` in seconds, from the request's arrival to its answer.

    `propensity` is the probability with which routing chose this version; `beside` are the ids of the predictions that
    were returned, where these were not.
    """
    digest = target.manifest.digest
    key = parameters.key or caller.key
    predictions = computed.predictions
    external_ids = parameters.external_ids or [None] * len(predictions)
    scores = _scores(computed, target)
    for index, prediction in enumerate(predictions):
        yield Record(
            id=computed.prediction_ids[index],
            model=target.ref.model,
            version=target.ref.version,
            digest=digest,
            outputs={name: prediction[name] for name in _LOGGED if name in prediction},
            latency=latency,
            principal=caller.principal.name,
            request_id=caller.request_id,
            external_id=external_ids[index],
            key=key,
            tags=parameters.tags,
            role="answered" if beside is None else "shadow",
            paired_with=None if beside is None else beside[index],
            propensity=propensity,
            scores=None if scores is None else scores[index],
        )


def _scores(computed: Computed, target: Target) -> list[str | None] | None:
    """The probabilities of each row's labels, packed; None where those of the chosen one say it all, or are many."""
    num_labels = len(target.manifest.labels)
    if computed.probabilities is None or target.manifest.task == "binary" or num_labels > _MOST_LABELS:
        return None
    pack = struct.Struct(f"<{num_labels}f").pack
    return [base64.b64encode(pack(*row)).decode() if row else None for row in computed.probabilities]


def scores_in(packed: str) -> tuple[float, ...]:
    """The probabilities of all labels, as a record has them."""
    data = base64.b64decode(packed)
    return struct.unpack(f"<{len(data) // 4}f", data)
