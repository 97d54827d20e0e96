"""Whatever the order of loads, unloads and requests: each request is answered once, by a replica of its time."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.domain import Ref
from service.engine.core import Engine
from service.errors import NotReady
from service.wire.inference import Outputs
from service.wire.report import Wanted
from tests.patience import PATIENCE
from tests.service.engine.bench import OTHER, REF, Bench, Numbered, Result, wanted

step = st.one_of(
    st.tuples(st.just("load"), st.integers(0, 3)),
    st.tuples(st.just("unload"), st.just(0)),
    st.tuples(st.just("ask"), st.integers(1, 60)),
    st.tuples(st.just("cancel"), st.integers(1, 9)),
    st.tuples(st.just("turns"), st.integers(1, 30)),
    st.tuples(st.just("settle"), st.just(0)),
)


@pytest.mark.parametrize("threads", [1, 3])
@settings(max_examples=60)
@given(st.lists(st.tuples(step, st.sampled_from([REF, OTHER])), min_size=1, max_size=40))
def test_in_any_order_each_request_is_answered_once_by_a_replica_of_its_time(
    threads: int,
    steps: list[tuple[tuple[str, int], Ref]],
) -> None:
    asyncio.run(_carry_out(steps, threads))


async def _carry_out(steps: Sequence[tuple[tuple[str, int], Ref]], threads: int) -> None:
    bench = Bench(CollectorRegistry(), threads=threads)
    present: dict[Ref, list[tuple[int, float, float]]] = {REF: [], OTHER: []}
    moments = itertools.count()
    _remember_who_was_there(bench.engine, present, moments)
    bench.start()
    orders: dict[Ref, list[tuple[str, int]]] = {REF: [], OTHER: []}
    tasks: list[asyncio.Task[object]] = []
    open_requests: list[tuple[Ref, int, int, list[tuple[int, Result]]]] = []
    cancelled: list[list[tuple[int, Result]]] = []
    for (what, number), ref in steps:
        match what:
            case "load":
                tasks.append(asyncio.create_task(bench.loader.load(wanted(ref, number))))
                orders[ref].append((what, number))
            case "unload":
                tasks.append(asyncio.create_task(bench.loader.unload(ref)))
                orders[ref].append((what, number))
            case "ask" | "cancel":
                answers: list[tuple[int, Result]] = []

                def reply(result: Result, answers: list[tuple[int, Result]] = answers) -> None:
                    answers.append((next(moments), result))

                asked = next(moments)
                request = bench.submit(reply, *range(number), ref=ref)
                if what == "cancel" and not request.closed:
                    bench.engine.cancel(request)
                    cancelled.append(answers)
                else:
                    open_requests.append((ref, number, asked, answers))
            case "turns":
                for _ in range(number):
                    await asyncio.sleep(0)
            case "settle":
                await asyncio.gather(*tasks)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*tasks)
        while any(not answers for *_, answers in open_requests):
            await asyncio.sleep(0)
    await bench.stop()
    assert cancelled == [[] for _ in cancelled]
    for ref, num_rows, asked, answers in open_requests:
        ((at, result),) = answers
        if isinstance(result, NotReady):
            continue
        assert isinstance(result, Outputs)
        assert result.values[:, 0].tolist() == list(range(num_rows))
        of_its_time = {generation for generation, since, until in present[ref] if since < at and until > asked}
        assert set(result.values[:, 1].astype(int)) <= of_its_time
    for ref, given_orders in orders.items():
        last = given_orders[-1] if given_orders else ("unload", 0)
        resident = bench.engine.residents.get(ref)
        assert (resident is not None) == (last[0] == "load")
        assert resident is None or resident.wanted.generation == last[1]
    generations = sorted(resident.wanted.generation for resident in bench.engine.residents.values())
    del resident
    assert sorted(bench.alive) == generations


def _remember_who_was_there(
    engine: Engine, present: dict[Ref, list[tuple[int, float, float]]], moments: "itertools.count[int]"
) -> None:
    """Keep for each version which generation was loaded from when to when."""
    install, drain = engine.install, engine.drain

    def end(ref: Ref) -> None:
        if present[ref] and present[ref][-1][2] == float("inf"):
            # A batch that began on it may end a little later: it was there when its rows were taken.
            generation, since, _ = present[ref][-1]
            present[ref][-1] = (generation, since, next(moments))

    def install_and_remember(order: Wanted, runner: Numbered) -> object:
        end(order.ref)
        present[order.ref].append((order.generation, next(moments), float("inf")))
        return install(order, runner)

    async def drain_and_remember(ref: Ref) -> object:
        resident = await drain(ref)
        end(ref)
        return resident

    engine.install = install_and_remember  # type: ignore[method-assign,assignment]
    engine.drain = drain_and_remember  # type: ignore[method-assign,assignment]
