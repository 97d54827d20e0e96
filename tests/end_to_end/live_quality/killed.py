"""The same while processes are killed: what was acknowledged is there, and of what was answered little is lost."""

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.end_to_end.live_quality.listed import made_at
from tests.end_to_end.live_quality.report import Begin, Done, Report
from tests.end_to_end.live_quality.speaker import Conversation, Speaker
from tests.end_to_end.live_quality.statements import Picture
from tests.end_to_end.live_quality.told import flushed, heard, judged, speakers_of
from tests.end_to_end.service import Service, until

EVERYTHING = "everything"
_LOST_MS = 100.0
_KINDS = ("http-0", EVERYTHING, "recorder", EVERYTHING, "loop", EVERYTHING, "engine-0", EVERYTHING)
_HOLD_ANSWERS = (EVERYTHING, "http-0")
# Points of the conversation by which its end is not reached before the kill.
_BEFORE_THE_END = 0.95
_LONGEST_WAIT = 0.05


class Kill(NamedTuple):
    """What was killed, and when, in seconds since 1970."""

    what: str
    at: float


class Succession:
    """A service that is killed now and then: what is left of it goes on, or another begins with its data."""

    def __init__(self, home: Path, settings: Mapping[str, Any]) -> None:
        self._home, self._settings = home, settings
        self.service = Service(home, **settings)

    def __enter__(self) -> Self:
        self.service.__enter__().wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.service.__exit__(kind, error, traceback)

    @property
    def url(self) -> str:
        return self.service.url

    def kill(self, what: str) -> Kill:
        """End a process, or all of them, as kill -9 does, and wait until the service is ready again."""
        if what == EVERYTHING:
            killed = self.service.kill_everything()
            self.service.__exit__(None, None, None)
            self.service = Service(self._home, **self._settings)
            self.service.__enter__()
        else:
            pid = self.service.kill_child(what)
            killed = time.time()
            until(lambda: self.service.child(what) != pid, f"there is another {what}")
        self.service.wait_ready()
        return Kill(what, killed)


class Loss(NamedTuple):
    """Predictions that were answered before a kill and are not kept.

    `ages` is for how many seconds before it each had been computed, at most, and `seen` since its answer had come.
    `alone` is False where the recorder had been killed so lately that it kept nothing since: then they are ages before
    that.
    """

    cause: str
    alone: bool
    ages: list[float]
    seen: list[float]


class Count:
    """How many steps there are, and how many were done."""

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._lock = threading.Lock()
        self.steps = self.done = 0

    def begin(self, steps: int) -> Done:
        self.steps = steps
        show = self._begin(steps)

        def advance(count: int) -> None:
            with self._lock:
                self.done += count
            show(count)

        return advance


def killed(
    home: Path,
    settings: Mapping[str, Any],
    pictures: Sequence[Picture],
    labels: Sequence[str],
    seed: int,
    kills: int,
    begin: Begin,
) -> Report:
    """kill -9 of each process and of all of them at once, at points that are drawn among predictions and feedback."""
    count = Count(begin)
    began = time.monotonic()
    with Succession(home, settings) as place:
        speakers = speakers_of(place, pictures, labels, seed, count.begin)
        happened = _kill(place, speakers, count, kills, random.Random(f"{seed} kills"))
        conversation = heard(speakers)
        # What an http process held longer is sent again to a recorder that follows another.
        last = max((one.at for one in happened if one.what in _HOLD_ANSWERS), default=0.0)
        # By when they were made: what a process answered before its end, its client may read after.
        after = {identity for identity in conversation.answers if made_at(identity) > last}
        kept = flushed(place.service, after)
        report = judged("killed", place.service, conversation, kept, labels)
    losses, unexplained = _losses(conversation, kept, happened)
    said = conversation.statements
    report.figures |= {
        "kills": ", ".join(f"{number} {what}" for what, number in Counter(one.what for one in happened).items()),
        "kept, never answered": sum(one["prediction_id"] not in conversation.answers for one in kept),
        "statements left unanswered": sum(one.unanswered for one in said),
        "kept all the same": sum(one.key is not None and one.acks[0].status == "duplicate" for one in said),
        "answered, lost": sum(len(one.ages) for one in losses) + unexplained,
        **_figures_of(losses),
        "seconds": round(time.monotonic() - began, 1),
    }
    report.claims |= {
        f"{kills} times something was killed while clients talked": len(happened) == kills,
        f"what a kill lost was answered within {_LOST_MS:.0f} ms before it, or while no recorder was there": (
            not unexplained and all(1000 * max(one.ages) <= _LOST_MS for one in losses)
        ),
    }
    return report


def _kill(place: Succession, speakers: Sequence[Speaker], count: Count, kills: int, rng: random.Random) -> list[Kill]:
    """Kill at points of the conversation that are drawn, and some moments after them."""
    kinds = [_KINDS[index % len(_KINDS)] for index in range(kills)]
    rng.shuffle(kinds)
    points = sorted(rng.randrange(int(count.steps * _BEFORE_THE_END)) for _ in range(kills))
    for speaker in speakers:
        speaker.start()

    def are_talking() -> bool:
        return any(one.is_alive() for one in speakers)

    happened = []
    for what, point in zip(kinds, points, strict=True):
        until(lambda point=point: count.done >= point or not are_talking(), "clients go on", every=0.001)  # type: ignore[misc]
        # No wait for something to come about: a commit is to be hit at any of its moments.
        time.sleep(rng.uniform(0, _LONGEST_WAIT))
        if are_talking():
            happened.append(place.kill(what))
    return happened


def _figures_of(losses: Sequence[Loss]) -> dict[str, object]:
    """Of kills alone; and of those that came while the recorder was away, in which what was answered since is lost."""
    alone, both = [one for one in losses if one.alone], [one for one in losses if not one.alone]

    def longest(seconds: Sequence[Sequence[float]]) -> float:
        return round(1000 * max(map(max, seconds), default=0.0), 1)

    return {
        "by one kill, at most": max((len(one.ages) for one in alone), default=0),
        "oldest, ms before it": longest([one.ages for one in alone]),
        "as its client saw it": longest([one.seen for one in alone]),
        "earlier": "; ".join(one.cause for one in alone if 1000 * max(one.ages) > _LOST_MS) or "nothing",
        "kills with the recorder away": len(both),
        "by one of them, at most": max((len(one.ages) for one in both), default=0),
        "oldest then, ms before it": longest([one.seen for one in both]),
    }


def _losses(
    conversation: Conversation, kept: Sequence[Mapping[str, Any]], happened: Sequence[Kill]
) -> tuple[list[Loss], int]:
    """What each kill cost that ended who holds what is not written yet; and how many losses no kill explains."""
    there = {one["prediction_id"] for one in kept}
    written = sorted(made_at(identity) for identity in there)
    lost = {identity: made_at(identity) for identity in conversation.answers.keys() - there}
    losses, begin = [], 0.0
    for kill in (one for one in happened if one.what in _HOLD_ANSWERS):
        its = [identity for identity, made in lost.items() if begin < made <= kill.at]
        since = _recorder_away(kill, happened, written)
        if its:
            losses.append(
                Loss(
                    _told_of(kill, happened),
                    since is None,
                    [(kill.at if since is None else since) - lost[identity] for identity in its],
                    [kill.at - conversation.answers[identity].came for identity in its],
                )
            )
        begin = kill.at
    return losses, len(lost) - sum(len(one.ages) for one in losses)


def _recorder_away(kill: Kill, happened: Sequence[Kill], written: Sequence[float]) -> float | None:
    """When the recorder was killed, if nothing that was answered between that and this kill is kept."""
    before = [one for one in happened if one.at < kill.at]
    since = next((one for one in reversed(before) if one.what in (EVERYTHING, "recorder")), None)
    if since is None or since.what == EVERYTHING:
        return None
    return None if any(since.at < made <= kill.at for made in written) else since.at


def _told_of(kill: Kill, happened: Sequence[Kill]) -> str:
    """What was killed, and how long after what other kill."""
    before = [one for one in happened if one.at < kill.at]
    return f"{kill.what}, {kill.at - before[-1].at:.2f} s after {before[-1].what}" if before else kill.what
