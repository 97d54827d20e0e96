"""What the Open Inference Protocol says of the server and of its models."""

from importlib.metadata import version as version_of
from typing import Any

from fastapi import APIRouter

from service.api.deps import Services, UseServices
from service.api.inference_schemas import (
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
    says_error,
)
from service.api.paths import tensors_address
from service.api.readiness import readiness_of
from service.api.standing import standing_of
from service.domain import LOWEST_PRIORITY, MIDDLE_PRIORITY, Address
from service.errors import NotReady, NotServing, NotSupported
from service.serving.interface import TensorSpec
from service.serving.router import Target

router = APIRouter(tags=["open inference protocol"])

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "statistics",
]
PLATFORM = "pytorch_safetensors"

_MODEL = "/v2/models/{model}"
_VERSION = "/v2/models/{model}/versions/{version}"
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: says_error("There is no such model or version")}
_NOT_READY: dict[int | str, dict[str, Any]] = {503: says_error("It does not answer now")}


@router.get("/v2")
async def server_metadata() -> ServerMetadata:
    """The server, and the extensions of the protocol that it keeps."""
    return ServerMetadata(name="servoloop", version=version_of("servoloop"), extensions=EXTENSIONS)


@router.get("/v2/health/live", responses=_NOT_READY)
async def server_live(services: UseServices) -> ServerLive:
    """The event loop works, and so does the supervisor's."""
    if not services.is_supervised():
        raise NotServing("the process that looks after the others gives no sign of life")
    return ServerLive()


@router.get("/v2/health/ready", responses=_NOT_READY)
async def server_ready(services: UseServices) -> ServerReady:
    """As /readyz: every champion that can be served answered rows lately."""
    readiness = readiness_of(services)
    if not readiness.ready:
        waiting = readiness.waiting_for or readiness.broken
        raise NotServing("; ".join(f"{name}: {reason}" for name, reason in sorted(waiting.items())))
    return ServerReady()


@router.get(f"{_MODEL}/ready", responses=_UNKNOWN | _NOT_READY)
async def model_ready(model: str, services: UseServices) -> ModelReady:
    """Whether the model's champion answers."""
    return _ready(tensors_address(model, None), services)


@router.get(f"{_VERSION}/ready", responses=_UNKNOWN | _NOT_READY)
async def version_ready(model: str, version: str, services: UseServices) -> ModelReady:
    """Whether this version answers, or the one that an alias names."""
    return _ready(tensors_address(model, version), services)


@router.get(_MODEL, responses=_UNKNOWN | _NOT_READY)
async def model_metadata(model: str, services: UseServices) -> ModelMetadata:
    """The tensors of the model's champion."""
    return _metadata(tensors_address(model, None), services)


@router.get(_VERSION, responses=_UNKNOWN | _NOT_READY)
async def version_metadata(model: str, version: str, services: UseServices) -> ModelMetadata:
    """The tensors of this version, or of the one that an alias names."""
    return _metadata(tensors_address(model, version), services)


@router.get(f"{_MODEL}/config", responses=_UNKNOWN | _NOT_READY)
async def model_config(model: str, services: UseServices) -> dict[str, Any]:
    """The configuration of the model's champion, as perf_analyzer reads it."""
    return _config(services.choose(tensors_address(model, None)), services)


@router.get(f"{_VERSION}/config", responses=_UNKNOWN | _NOT_READY)
async def version_config(model: str, version: str, services: UseServices) -> dict[str, Any]:
    """The configuration of this version, or of the one that an alias names."""
    return _config(services.choose(tensors_address(model, version)), services)


@router.api_route("/v2/trace/setting", methods=["GET", "POST"], include_in_schema=False)
@router.api_route(f"{_MODEL}/trace/setting", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/v2/logging", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/v2/systemsharedmemory/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
@router.api_route("/v2/cudasharedmemory/{rest:path}", methods=["GET", "POST"], include_in_schema=False)
async def not_here() -> None:
    """Extensions that are not among ours: told apart from paths that nobody knows."""
    raise NotSupported("this extension of the protocol", f"one of {', '.join(EXTENSIONS)}")


def _ready(address: Address, services: Services) -> ModelReady:
    ref = services.catalog().find(address).ref
    if (reason := services.engines.why_unready(ref)) is not None:
        raise NotReady(ref, reason, passes=not standing_of(services, ref).state.is_hopeless)
    return ModelReady(name=ref.model)


def _metadata(address: Address, services: Services) -> ModelMetadata:
    target = services.choose(address)
    interface = target.interface
    return ModelMetadata(
        name=target.ref.model,
        versions=[str(ref.version) for ref in services.catalog().refs(target.ref.model)],
        platform=PLATFORM,
        inputs=[_shown(spec) for spec in interface.inputs],
        outputs=[_shown(spec) for spec in interface.outputs],
    )


def _shown(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=spec.name, datatype=spec.datatype, shape=list(spec.shape))


def _config(target: Target, services: Services) -> dict[str, Any]:
    """Triton's ModelConfig, as far as there is something to say. Its dims are those of a row."""
    interface = target.interface
    are_alternatives = len(interface.inputs) > 1
    inputs = [{**_configured(spec), "format": "FORMAT_NONE", "optional": are_alternatives} for spec in interface.inputs]
    return {
        "name": target.ref.model,
        "platform": PLATFORM,
        "backend": "servoloop",
        "version_policy": {"all": {}},
        "max_batch_size": services.terms.max_rows,
        "input": inputs,
        "output": [{**_configured(spec), "label_filename": ""} for spec in interface.outputs],
        "dynamic_batching": {
            "preferred_batch_size": [],
            "max_queue_delay_microseconds": round(services.terms.max_queue_delay * 1e6),
            "priority_levels": LOWEST_PRIORITY,
            "default_priority_level": MIDDLE_PRIORITY,
        },
        "model_transaction_policy": {"decoupled": False},
        "response_cache": {"enable": services.terms.caches_answers},
        "parameters": {},
    }


def _configured(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape[1:])}
