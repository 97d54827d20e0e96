"""What the Open Inference Protocol tells of the work that was done."""

from typing import Any

from fastapi import APIRouter

from service.api.deps import UseServices
from service.api.inference import statistics
from service.api.inference_schemas import StatisticsAnswer, says_error

router = APIRouter(tags=["open inference protocol"])

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: says_error("There is no such model or version")}


@router.get("/v2/models/stats")
async def all_statistics(services: UseServices) -> StatisticsAnswer:
    """Of every version that an engine has, since it was loaded."""
    return await statistics.of_all(services)


@router.get("/v2/models/{model}/stats", responses=_UNKNOWN)
async def model_statistics(model: str, services: UseServices) -> StatisticsAnswer:
    """Of a model's versions that an engine has."""
    return await statistics.of_model(services, model)


@router.get("/v2/models/{model}/versions/{version}/stats", responses=_UNKNOWN)
async def version_statistics(model: str, version: str, services: UseServices) -> StatisticsAnswer:
    """Of this version, or of the one that an alias names; with zeros where no engine has it."""
    return await statistics.of_version(services, model, version)
