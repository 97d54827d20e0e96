"""The journey of a prediction while a challenger computes a share of what was answered."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.domain import LOWEST_PRIORITY, Deadline, Ref, Stage
from service.errors import (
    PredictionFailed,
)
from service.serving.mirroring import MirrorPolicy
from service.wire.inference import Outputs
from tests.checkpoints import write_image
from tests.service.serving.journey import Journey, Sent, Threads
from tests.service.serving.on_trial import (
    BODY,
    CHALLENGER,
    CHAMPION,
    PIXELS,
    begin,
    mirrored,
    settled,
    told,
    told_in,
)


async def test_a_shadow_computes_the_same_rows_in_its_own_way_and_is_paired_with_what_was_returned(
    journey: Journey,
) -> None:
    begin(journey, Stage.SHADOW, share=0.6)
    said = {"tags": {"country": "DE"}, "key": "user-7"}
    answer = await journey.predict({"instances": [PIXELS, PIXELS], "parameters": said}, "clothes")
    assert told_in(answer) == ("1", "1")
    assert [one.version for one in journey.log.records] == [1, 1]
    await settled(journey)
    assert [(ref, float(tensors.values.max())) for ref, tensors, _ in journey.engines.calls] == [
        (CHAMPION, pytest.approx(10 / 255)),
        (CHALLENGER, 1.0),
    ]
    assert journey.engines.priorities[1] == LOWEST_PRIORITY
    shadows = journey.log.records[2:]
    assert [(one.version, one.role, one.paired_with, one.propensity) for one in shadows] == [
        (2, "shadow", prediction_id, 0.6) for prediction_id in answer["prediction_ids"]
    ]
    assert [(one.outputs["index"], one.tags, one.key) for one in shadows] == [(2, said["tags"], said["key"])] * 2
    assert len({one.id for one in journey.log.records}) == 4
    assert [one.propensity for one in journey.log.records[:2]] == [1.0, 1.0]
    assert {one.prediction_id for one in journey.log.inputs} == set(answer["prediction_ids"]), "captured once"
    assert mirrored(journey, "ok") == 1
    assert journey.measured("servoloop_requests_total", CHALLENGER, outcome="ok") == 0


async def test_what_is_not_drawn_is_not_mirrored(journey: Journey) -> None:
    begin(journey, Stage.SHADOW)
    journey.draws.next.extend([0.24, 0.25, 0.9])
    for _ in range(3):
        await journey.predict(BODY, "clothes")
    await settled(journey)
    assert [one.role for one in journey.log.records].count("shadow") == mirrored(journey, "ok") == 1


async def test_an_answer_never_waits_for_a_shadow_nor_for_its_failure(journey: Journey) -> None:
    begin(journey, Stage.SHADOW, share=1.0)
    goes_on = asyncio.Event()
    infer = journey.engines.infer

    async def held(ref: Ref, tensors: Tensors, deadline: Deadline, priority: int = 0) -> Outputs:
        if ref == CHALLENGER:
            await goes_on.wait()
            raise PredictionFailed(ref, "it is not finite")
        return await infer(ref, tensors, deadline, priority)

    journey.engines.infer = held  # type: ignore[method-assign]
    assert told_in(await journey.predict(BODY, "clothes")) == ("1", "1")
    assert mirrored(journey, "prediction_failed") == 0
    goes_on.set()
    await settled(journey)
    assert mirrored(journey, "prediction_failed") == 1
    assert [one.role for one in journey.log.records] == ["answered"]


async def test_a_crash_in_a_shadow_is_counted_and_nothing_else(journey: Journey) -> None:
    def fails(ref: Ref, tensors: Tensors) -> Outputs:
        if ref == CHALLENGER:
            raise RuntimeError("a bug")
        return told(ref, tensors)

    begin(journey, Stage.SHADOW, share=1.0)
    journey.engines.answer = fails
    await journey.predict(BODY, "clothes")
    await settled(journey)
    assert mirrored(journey, "unexpected_error") == 1


async def test_so_many_are_mirrored_at_once_and_what_comes_beyond_is_left_out(journey: Journey) -> None:
    begin(journey, Stage.SHADOW, share=1.0)
    goes_on = asyncio.Event()
    infer = journey.engines.infer

    async def held(ref: Ref, tensors: Tensors, deadline: Deadline, priority: int = 0) -> Outputs:
        if ref == CHALLENGER:
            await goes_on.wait()
        return await infer(ref, tensors, deadline, priority)

    journey.engines.infer = held  # type: ignore[method-assign]
    for _ in range(5):
        assert told_in(await journey.predict(BODY, "clothes")) == ("1", "1")
    assert mirrored(journey, "left_out") == 3
    goes_on.set()
    await settled(journey)
    assert mirrored(journey, "ok") == 2
    await journey.predict(BODY, "clothes")
    await settled(journey)
    assert mirrored(journey, "ok") == 3, "there is room again"


async def test_what_is_mirrored_at_once_is_bounded_in_bytes(
    tmp_path: Path, registry: CollectorRegistry, threads: Threads
) -> None:
    for version in (1, 2):
        write_image(tmp_path, version=version)
    journey = Journey(tmp_path, registry, threads, MirrorPolicy(max_bytes=28 * 28 - 1))
    journey.engines.answer = told
    begin(journey, Stage.SHADOW, share=1.0)
    await journey.predict(BODY, "clothes")
    assert mirrored(journey, "left_out") == 1


async def test_a_shadow_has_a_deadline_of_its_own(journey: Journey) -> None:
    begin(journey, Stage.SHADOW, share=1.0)
    await journey.send(Sent(BODY), "clothes", header=0.5)
    await settled(journey)
    assert [deadline for _, _, deadline in journey.engines.calls] == [Deadline(50.5), Deadline(55.0)]


async def test_a_process_that_drains_mirrors_nothing_more_and_ends_what_is_under_way(
    tmp_path: Path, registry: CollectorRegistry, threads: Threads
) -> None:
    for version in (1, 2):
        write_image(tmp_path, version=version)
    journey = Journey(tmp_path, registry, threads)
    begin(journey, Stage.SHADOW, share=1.0)
    infer = journey.engines.infer
    waits = asyncio.Event()

    async def held(ref: Ref, tensors: Tensors, deadline: Deadline, priority: int = 0) -> Outputs:
        if ref == CHALLENGER:
            waits.set()
            await asyncio.Event().wait()
        return await infer(ref, tensors, deadline, priority)

    journey.engines.infer = held  # type: ignore[method-assign]
    journey.engines.answer = told
    async with journey.mirror:
        await journey.predict(BODY, "clothes")
        await waits.wait()
        journey.drains = True
        await journey.predict(BODY, "clothes")
        assert mirrored(journey, "left_out") == 1
    assert journey.mirror._under_way == set()
    assert [one.role for one in journey.log.records] == ["answered", "answered"]


async def test_a_shadow_that_no_engine_has_is_not_waited_for(journey: Journey) -> None:
    begin(journey, Stage.SHADOW, share=1.0)
    journey.unready.add(CHALLENGER)
    await journey.predict(BODY, "clothes")
    assert mirrored(journey, "not_ready") == 1
    assert [ref for ref, _, _ in journey.engines.calls] == [CHAMPION]
