"""From an answered request to what the prediction log remembers of it."""

from collections.abc import Iterator, Sequence

from service.domain import Caller, PredictParameters
from service.serving.postprocess import Prediction
from service.serving.router import Target
from service.store.base import Record

# Of a prediction: not what was added because the caller asked for more, and no long vectors.
_LOGGED = ("label", "index", "probability", "value", "labels", "error")


def records_of(
    ids: Sequence[str],
    predictions: Sequence[Prediction],
    target: Target,
    parameters: PredictParameters,
    caller: Caller,
    latency: float,
) -> Iterator[Record]:
    """A record for each prediction; `latency` in seconds, from the request's arrival to its answer."""
    digest = target.manifest.digest
    key = parameters.key or caller.key
    external_ids = parameters.external_ids or [None] * len(ids)
    for prediction_id, prediction, external_id in zip(ids, predictions, external_ids, strict=True):
        yield Record(
            id=prediction_id,
            model=target.ref.model,
            version=target.ref.version,
            digest=digest,
            outputs={name: prediction[name] for name in _LOGGED if name in prediction},
            latency=latency,
            principal=caller.principal.name,
            request_id=caller.request_id,
            external_id=external_id,
            key=key,
            tags=parameters.tags,
        )
