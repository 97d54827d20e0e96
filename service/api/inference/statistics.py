"""What the Open Inference Protocol tells of the work that was done: the engines' own counters, added up."""

from collections.abc import Mapping
from typing import Any

from service.api.deps import Services
from service.api.inference_schemas import ModelStatistics, StatisticsAnswer
from service.api.paths import tensors_address
from service.api.standing import versions_of
from service.domain import Ref
from service.wire.statistics import Spent, Stages, Statistics


async def of_all(services: Services) -> StatisticsAnswer:
    """Of every version that an engine has, since it was loaded."""
    return _answer(await services.engines.statistics())


async def of_model(services: Services, model: str) -> StatisticsAnswer:
    """Of a model's versions that an engine has. Raises UnknownModel."""
    return _answer(await _counted(services, versions_of(services, model)))


async def of_version(services: Services, model: str, version: str) -> StatisticsAnswer:
    """Of this version, or of the one that an alias names; with zeros where no engine has it. Raises Unknown."""
    ref = services.catalog().named(tensors_address(model, version))
    counted = await _counted(services, [ref])
    return _answer(counted or {ref: Statistics()})


async def _counted(services: Services, refs: list[Ref]) -> dict[Ref, Statistics]:
    counted = await services.engines.statistics()
    return {ref: counted[ref] for ref in refs if ref in counted}


def _answer(counted: Mapping[Ref, Statistics]) -> StatisticsAnswer:
    return StatisticsAnswer(model_stats=[_shown(ref, counted[ref]) for ref in sorted(counted)])


def _shown(ref: Ref, statistics: Statistics) -> ModelStatistics:
    none = _spent(Spent())
    inference = {
        "success": _spent(statistics.success),
        "fail": _spent(statistics.fail),
        "queue": _spent(statistics.queue),
        **_stages(statistics.stages),
        "cache_hit": none,
        "cache_miss": none,
    }
    batches = [{"batch_size": size, **_stages(stages)} for size, stages in sorted(statistics.batches.items())]
    memory = [
        {"type": "CPU" if device == "cpu" else "GPU", "id": _index(device), "byte_size": num_bytes}
        for device, num_bytes in sorted(statistics.num_bytes.items())
    ]
    return ModelStatistics(
        name=ref.model,
        version=str(ref.version),
        last_inference=statistics.last,
        inference_count=statistics.rows,
        execution_count=statistics.executions,
        inference_stats=inference,
        response_stats={},
        batch_stats=batches,
        memory_usage=memory,
    )


def _stages(stages: Stages) -> dict[str, Any]:
    names = ("compute_input", "compute_infer", "compute_output")
    return {name: _spent(spent) for name, spent in zip(names, stages, strict=True)}


def _spent(spent: Spent) -> dict[str, int]:
    return {"count": spent.count, "ns": spent.ns}


def _index(device: str) -> int:
    """Of `cpu`, or `cuda:1`."""
    return int(device.partition(":")[2] or 0)
