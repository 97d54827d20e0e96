"""Real pictures, and what is said of them in disorder: does the service measure what scikit-learn does?"""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from tests.end_to_end.live_quality.agreement import agreements, labelled_of, same_matrix
from tests.end_to_end.live_quality.listed import claims_of_events, evaluation, pages
from tests.end_to_end.live_quality.report import Begin, Report
from tests.end_to_end.live_quality.speaker import Conversation, Place, Speaker
from tests.end_to_end.live_quality.statements import Picture
from tests.end_to_end.service import Service, until

_SPEAKERS = 4


def told(
    home: Path, settings: Mapping[str, Any], pictures: Sequence[Picture], labels: Sequence[str], seed: int, begin: Begin
) -> Report:
    """With nothing in the way."""
    with Service(home, **settings) as service:
        service.wait_ready()
        speakers = speakers_of(service, pictures, labels, seed, begin)
        began = time.monotonic()
        conversation = listen(speakers)
        seconds = time.monotonic() - began
        kept = flushed(service, conversation.answers.keys())
        report = judged("told", service, conversation, kept, labels)
        dropped = service.metric("servoloop_log_dropped_records_total")
    acks = Counter(ack.status for one in conversation.statements for ack in one.acks)
    found, count = report.figures, len(pictures)
    report.figures |= {"pending when said": acks["pending"], "seconds": round(seconds, 1)}
    report.claims |= {
        "every row was predicted, kept and labelled": (
            len(conversation.answers) == len(kept) == found["measured"] == count and dropped == 0
        ),
        "what was said before its prediction was known waited, and then counted": (
            acks["pending"] > 0 and found["waiting"] == 0
        ),
        "what was sent again under its key is a duplicate, and nothing else is": acks["duplicate"]
        == found["repeated by key"],
    }
    return report


def speakers_of(
    place: Place, pictures: Sequence[Picture], labels: Sequence[str], seed: int, begin: Begin
) -> list[Speaker]:
    """They share the pictures."""
    speakers = [
        Speaker(place, pictures[number::_SPEAKERS], labels, random.Random(f"{seed} {number}"))
        for number in range(_SPEAKERS)
    ]
    done = begin(sum(speaker.steps for speaker in speakers))
    for speaker in speakers:
        speaker.done = done
    return speakers


def listen(speakers: Sequence[Speaker]) -> Conversation:
    """Let them talk; what they were answered and said, once they are through."""
    for speaker in speakers:
        speaker.start()
    return heard(speakers)


def heard(speakers: Sequence[Speaker]) -> Conversation:
    """What speakers that are talking were answered and said, once they are through. Raises what ended one."""
    conversation = Conversation()
    for speaker in speakers:
        speaker.join()
        if speaker.error is not None:
            raise speaker.error
        conversation.add(speaker.conversation)
    return conversation


def flushed(service: Service, awaited: Set[str]) -> list[dict[str, Any]]:
    """All predictions that are kept, once these are among them."""

    def there() -> list[dict[str, Any]] | None:
        kept = list(pages(service, "/v1/predictions", "predictions"))
        return kept if awaited <= {one["prediction_id"] for one in kept} else None

    return until(there, "predictions are kept", every=0.2)


def judged(
    part: str, service: Service, conversation: Conversation, kept: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> Report:
    """What the service says of the predictions that are kept, beside what is true of them."""
    found = evaluation(service)
    events = list(pages(service, "/v1/feedback", "events"))
    rows = labelled_of(conversation, kept, labels)
    both = agreements(found, rows, labels)
    statements = conversation.statements
    sent = [(one, one.acks) for one in statements]
    kept_ids = {one["prediction_id"] for one in kept}
    kept_names = {one["external_id"] for one in kept if one["external_id"] is not None}
    figures = {
        "answered": len(conversation.answers),
        "kept": len(kept),
        "measured": found["n"],
        "accuracy": found["metrics"]["accuracy"]["value"],
        "statements": len(statements),
        "repeated by key": sum(len(acks) - 1 for one, acks in sent if one.key is not None),
        "repeated without": sum(len(acks) - 1 for one, acks in sent if one.key is None),
        "corrected": sum(
            len({one.said["label"] for one in each.statements}) > 1 for each in conversation.plans.values()
        ),
        "events": len(events),
        "waiting": sum(event["status"] != "joined" for event in events),
    }
    exact = next(one for one in both if one.figure == "accuracy")
    return Report(
        part,
        figures,
        {
            "the accuracy is scikit-learn's, exactly": exact.holds,
            "the confusion matrix is scikit-learn's, exactly": same_matrix(found, rows, labels),
            "all other figures are": all(one.holds for one in both),
            "it counts what is kept and labelled": (
                (found["n"], found["predictions"], found["unknown_labels"]) == (len(rows.actual), len(kept), 0)
            ),
            "what is kept is what was answered": _are_as_answered(conversation, kept),
            "an event found its prediction where that is kept, and waits where not": all(
                (event["status"] == "joined")
                == (event["prediction_id"] in kept_ids or event["external_id"] in kept_names)
                for event in events
            ),
            **claims_of_events(conversation, events),
        },
        [one.to_row() for one in both],
    )


def _are_as_answered(conversation: Conversation, kept: Sequence[Mapping[str, Any]]) -> bool:
    """Labels, and probabilities as far as float32 has them."""
    both = [
        (conversation.answers[one["prediction_id"]], one)
        for one in kept
        if one["prediction_id"] in conversation.answers
    ]
    return all(
        one["external_id"] in (None, answer.picture.name)
        and answer.label == one["prediction"]["label"]
        and np.array_equal(np.array(answer.probabilities, np.float32), np.array(one["probabilities"], np.float32))
        for answer, one in both
    )
