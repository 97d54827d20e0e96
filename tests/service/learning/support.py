"""A store of two models, what was predicted and said in it, and who measures by it."""

from typing import Any

from service.learning.evaluator import Evaluator
from service.store.feedback import ModelContract
from service.store.sql_truths import SqlTruths
from tests.fakes import ManualClock
from tests.stores import OpenStore, a_record, an_event

MINUTE, HOUR = 60.0, 3_600.0
NOW = 1_000 * HOUR
CONTRACTS = {"fashion": ModelContract("multiclass", ("Bag", "Coat")), "rent": ModelContract("regression", ())}


def over(store: OpenStore, clock: ManualClock) -> Evaluator:
    return Evaluator(SqlTruths(store.engines[1]), store.predictions, store.control, keep=100 * HOUR, clock=clock)


def predict(store: OpenStore, made: float, label: str | None = None, **fields: Any) -> str:
    """A prediction of a bag, of which somebody says ten seconds later what it should have been; its id."""
    record = a_record(made=made, outputs={"label": "Bag", "index": 0, "probability": 0.9}, **fields)
    store.predictions.append([record])
    if label is not None:
        received = round((made + 10) * 1000)
        store.feedback.add([an_event(prediction_id=record.id, value=label, received_at=received)], CONTRACTS)
    return record.id
