"""Clients that have pictures looked at, say what they are, and ask again until they have an answer."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import orjson

from tests.end_to_end.live_quality.report import Done
from tests.end_to_end.live_quality.statements import MODEL, Ack, Moment, Picture, Plan, Statement, plan
from tests.end_to_end.service import until

_MOST_ROWS, _MOST_STATEMENTS = 20, 60
# What it takes a service that was killed to come back, on a machine with other work.
_PATIENCE = 120.0
_COME_AGAIN = (503, 504)
_JSON = {"content-type": "application/json"}


class Place(Protocol):
    """Where the service is now."""

    @property
    def url(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered of a picture, and when that came, in seconds since 1970."""

    picture: Picture
    label: str
    probabilities: Sequence[float]
    came: float


@dataclass
class Conversation:
    """What was asked, answered and said: `answers` by prediction id, and of each picture's name its prediction's id."""

    plans: dict[str, Plan] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def statements(self) -> list[Statement]:
        """Each once, however often it was sent."""
        return list({id(one): one for each in self.plans.values() for one in each.statements}.values())

    def body(self, statement: Statement) -> dict[str, Any]:
        """As it is sent."""
        return statement.body(self.ids.get(statement.picture.name))

    def add(self, other: "Conversation") -> None:
        """Another speaker's, of other pictures."""
        self.plans |= other.plans
        self.answers |= other.answers
        self.ids |= other.ids


class Speaker(threading.Thread):
    """Has its pictures predicted by small requests, and says what is to be said of them; `done` is told of both."""

    def __init__(self, place: Place, pictures: Sequence[Picture], labels: Sequence[str], rng: random.Random) -> None:
        super().__init__(daemon=True)
        self._place = place
        self._pictures = pictures
        self._rng = rng
        self.done: Done = lambda _: None
        self._client = httpx.Client(timeout=60, trust_env=False)
        self.conversation = Conversation({one.name: plan(one, labels, rng) for one in pictures})
        self.error: BaseException | None = None

    @property
    def steps(self) -> int:
        """Rows to be predicted, and statements to be sent."""
        return len(self._pictures) + sum(len(each.statements) for each in self.conversation.plans.values())

    def run(self) -> None:
        try:
            with self._client:
                self._talk()
        except BaseException as error:  # noqa: BLE001 - raised by who waits for this
            self.error = error

    def _talk(self) -> None:
        waiting: list[Statement] = []
        for group in self._groups():
            waiting += self._say_at("early", group)
            self._predict(group)
            waiting += self._say_at("at once", group)
            waiting += [one for each in self._plans(group, "later") for one in each.statements]
            if self._rng.random() < 0.5:
                self._say_some(waiting)
        while waiting:
            self._say_some(waiting)

    def _say_at(self, moment: Moment, group: Sequence[Picture]) -> list[Statement]:
        """Say what comes at this moment, of each picture by itself; what comes after other statements is given back."""
        waiting = []
        for each in self._plans(group, moment):
            self._say([one for one in each.statements if one.after is None])
            waiting += [one for one in each.statements if one.after is not None]
        return waiting

    def _say_some(self, waiting: list[Statement]) -> None:
        """Say some of it, drawn by lot, and take that away."""
        self._rng.shuffle(waiting)
        most = self._rng.randint(1, _MOST_STATEMENTS)
        chosen = [index for index, one in enumerate(waiting[:most]) if one.is_due]
        self._say([waiting[index] for index in chosen])
        for index in reversed(chosen):
            del waiting[index]

    def _say(self, statements: Sequence[Statement]) -> None:
        if not statements:
            return

        def left_unanswered() -> None:
            for one in statements:
                one.unanswered += 1

        items = [self.conversation.body(one) for one in statements]
        results = self._post("/v1/feedback", items, left_unanswered)["results"]
        for statement, result in zip(statements, results, strict=True):
            assert result["status"] in ("joined", "pending", "duplicate"), result
            statement.acks.append(Ack(result["status"], result["event_id"]))
        self.done(len(statements))

    def _predict(self, group: Sequence[Picture]) -> None:
        parameters: dict[str, Any] = {"return_probabilities": True, "timeout_ms": 5000}
        if self.conversation.plans[group[0].name].by_name:
            parameters["external_ids"] = [one.name for one in group]
        body = {"instances": [one.pixels.tolist() for one in group], "parameters": parameters}
        answer = self._post(f"/v1/models/{MODEL}/predict", body)
        came = time.time()
        for one, prediction_id, prediction in zip(group, answer["prediction_ids"], answer["predictions"], strict=True):
            probabilities = list(prediction["probabilities"].values())
            self.conversation.answers[prediction_id] = Answer(one, prediction["label"], probabilities, came)
            self.conversation.ids[one.name] = prediction_id
        self.done(len(group))

    def _post(self, path: str, body: Any, left_unanswered: Callable[[], None] = lambda: None) -> Any:
        """The answer, asked for again where there is none."""
        data = orjson.dumps(body)

        def answered() -> httpx.Response | None:
            try:
                response = self._client.post(f"{self._place.url}{path}", content=data, headers=_JSON)
            except httpx.ConnectError:
                return None
            except httpx.TransportError:
                left_unanswered()
                return None
            if response.status_code in _COME_AGAIN:
                left_unanswered()
                return None
            return response

        response = until(answered, f"{path} is answered", _PATIENCE)
        assert response.status_code == 200, response.text
        return response.json()

    def _plans(self, group: Sequence[Picture], moment: Moment) -> list[Plan]:
        plans = [self.conversation.plans[one.name] for one in group]
        return [each for each in plans if each.moment == moment]

    def _groups(self) -> Iterator[Sequence[Picture]]:
        """Pictures that are asked for together: with names of the caller's own, or all without."""
        by_name = [one for one in self._pictures if self.conversation.plans[one.name].by_name]
        nameless = [one for one in self._pictures if not self.conversation.plans[one.name].by_name]
        while left := len(by_name) + len(nameless):
            pictures = by_name if self._rng.randrange(left) < len(by_name) else nameless
            size = self._rng.randint(1, _MOST_ROWS)
            yield pictures[:size]
            del pictures[:size]
