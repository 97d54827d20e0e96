"""What the Open Inference Protocol says of the server and of its models."""

from typing import Any

from fastapi import APIRouter

from service.api.deps import UseServices
from service.api.inference import metadata
from service.api.inference_schemas import ModelMetadata, ModelReady, ServerLive, ServerMetadata, ServerReady, says_error
from service.api.paths import tensors_address
from service.errors import NotSupported

router = APIRouter(tags=["open inference protocol"])

_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: says_error("There is no such model or version")}
_NOT_READY: dict[int | str, dict[str, Any]] = {503: says_error("It does not answer now")}


@router.get("/v2")
async def server_metadata() -> ServerMetadata:
    """The server, and the extensions of the protocol that it keeps."""
    return metadata.server_metadata()


@router.get("/v2/health/live", responses=_NOT_READY)
async def server_live(services: UseServices) -> ServerLive:
    """The event loop works, and so does the supervisor's."""
    metadata.check_live(services)
    return ServerLive()


@router.get("/v2/health/ready", responses=_NOT_READY)
async def server_ready(services: UseServices) -> ServerReady:
    """As /readyz: every champion that can be served answered rows lately."""
    metadata.check_ready(services)
    return ServerReady()


@router.get(f"{_MODEL}/ready", responses=_UNKNOWN | _NOT_READY)
async def model_ready(model: str, services: UseServices) -> ModelReady:
    """Whether the model's champion answers."""
    return metadata.model_ready(tensors_address(model, None), services)


@router.get(f"{_VERSION}/ready", responses=_UNKNOWN | _NOT_READY)
async def version_ready(model: str, version: str, services: UseServices) -> ModelReady:
    """Whether this version answers, or the one that an alias names."""
    return metadata.model_ready(tensors_address(model, version), services)


@router.get(_MODEL, responses=_UNKNOWN | _NOT_READY)
async def model_metadata(model: str, services: UseServices) -> ModelMetadata:
    """The tensors of the model's champion."""
    return metadata.model_metadata(tensors_address(model, None), services)


@router.get(_VERSION, responses=_UNKNOWN | _NOT_READY)
async def version_metadata(model: str, version: str, services: UseServices) -> ModelMetadata:
    """The tensors of this version, or of the one that an alias names."""
    return metadata.model_metadata(tensors_address(model, version), services)


@router.get(f"{_MODEL}/config", responses=_UNKNOWN | _NOT_READY)
async def model_config(model: str, services: UseServices) -> dict[str, Any]:
    """The configuration of the model's champion, as perf_analyzer reads it."""
    return metadata.model_config(tensors_address(model, None), services)


@router.get(f"{_VERSION}/config", responses=_UNKNOWN | _NOT_READY)
async def version_config(model: str, version: str, services: UseServices) -> dict[str, Any]:
    """The configuration of this version, or of the one that an alias names."""
    return metadata.model_config(tensors_address(model, version), services)


@router.api_route("/v2/trace/setting", methods=["GET", "POST"], include_in_schema=False)
@router.api_route(f"{_MODEL}/trace/setting", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/v2/logging", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/v2/systemsharedmemory/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/v2/cudasharedmemory/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
async def not_here() -> None:
    """Extensions that are not among ours: told apart from paths that nobody knows."""
    raise NotSupported("this extension of the protocol", f"one of {', '.join(metadata.EXTENSIONS)}")
