"""What a running service lists, and whether all that was acknowledged is among it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx

from tests.end_to_end.live_quality.speaker import Conversation
from tests.end_to_end.live_quality.statements import MODEL, Statement
from tests.end_to_end.service import Service, until

_PAGE = 1000


def pages(service: Service, path: str, member: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    """Everything that is listed there, page after page."""
    cursor: str | None = None
    while True:
        page = asked(service, path, limit=_PAGE, **parameters, **({"cursor": cursor} if cursor else {}))
        yield from page[member]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def asked(service: Service, path: str, **parameters: Any) -> Any:
    """What is answered there, as soon as there is an answer."""

    def answered() -> httpx.Response | None:
        try:
            response = service.client.get(path, params=parameters)
        except httpx.TransportError:
            return None
        return None if response.status_code == 503 else response

    response = until(answered, f"{path} is answered")
    assert response.status_code == 200, response.text
    return response.json()


def made_at(prediction_id: str) -> float:
    """When an answer was computed, by its id, in seconds since 1970: a moment before it was sent."""
    return (UUID(prediction_id).int >> 80) / 1000


def claims_of_events(conversation: Conversation, events: Sequence[Mapping[str, Any]]) -> dict[str, bool]:
    """Whether what was acknowledged is there, once, as it was said, and nothing that was not said."""
    counts = Counter(event["event_id"] for event in events)
    keys = Counter(event["idempotency_key"] for event in events if event["idempotency_key"] is not None)
    by_id = {event["event_id"]: event for event in events}
    statements = conversation.statements
    acknowledged = {ack.event_id: one for one in statements for ack in one.acks}
    others = [event for identity, event in by_id.items() if identity not in acknowledged]
    keyless = [one for one in statements if one.key is None]
    return {
        "every acknowledged event is there exactly once": all(counts[one] == 1 for one in acknowledged),
        "and says what was sent": all(
            identity in by_id and _says(by_id[identity], conversation.body(one))
            for identity, one in acknowledged.items()
        ),
        "a key has one event, whose id every answer named": (
            max(keys.values(), default=0) == 1
            and all(len({ack.event_id for ack in one.acks}) == 1 for one in statements if one.key is not None)
        ),
        "there is nothing else, but what was sent without a key and not answered": (
            len(others) <= sum(one.unanswered for one in keyless)
            and all(any(one.unanswered and _says(event, conversation.body(one)) for one in keyless) for event in others)
        ),
    }


def repeats_of(statements: Sequence[Statement]) -> int:
    """How many answers named an event that an answer had named before."""
    return sum(len(one.acks) - len({ack.event_id for ack in one.acks}) for one in statements)


def _says(event: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """Whether an event has all that an item had."""
    for name, said in body.items():
        if name == "labelled_at":
            if datetime.fromisoformat(event[name]) != datetime.fromisoformat(said):
                return False
        elif name != "model" and event[name] != said:
            return False
    return True


def evaluation(service: Service) -> Mapping[str, Any]:
    """What the service says of the model now."""
    found: Mapping[str, Any] = asked(service, f"/v1/models/{MODEL}/evaluation")
    return found
