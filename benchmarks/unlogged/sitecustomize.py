"""For benchmarks.keeping, on PYTHONPATH of a service: it keeps no predictions, and is otherwise what it is."""

from service.store.prediction_log import PredictionLog


def _forget(*_: object) -> None:
    """Instead of what takes records and inputs."""


PredictionLog.record = _forget  # type: ignore[method-assign,assignment]
