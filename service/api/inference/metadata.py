"""What the Open Inference Protocol says of the server and of its models, over HTTP and over gRPC."""

from importlib.metadata import version as version_of
from typing import Any

from service.api.deps import Services
from service.api.inference_schemas import ModelMetadata, ModelReady, ServerMetadata, TensorMetadata
from service.api.readiness import readiness_of
from service.api.standing import standing_of
from service.domain import LOWEST_PRIORITY, MIDDLE_PRIORITY, Address
from service.errors import NotReady, NotServing
from service.serving.interface import TensorSpec

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


def server_metadata() -> ServerMetadata:
    """The server, and the extensions of the protocol that it keeps."""
    return ServerMetadata(name="servoloop", version=version_of("servoloop"), extensions=EXTENSIONS)


def check_live(services: Services) -> None:
    """Raises NotServing unless the supervisor gave a sign of life lately; the event loop does by coming here."""
    if not services.is_supervised():
        raise NotServing("the process that looks after the others gives no sign of life")


def check_ready(services: Services) -> None:
    """Raises NotServing where /readyz would say no."""
    readiness = readiness_of(services)
    if not readiness.ready:
        waiting = readiness.waiting_for or readiness.broken
        raise NotServing("; ".join(f"{name}: {reason}" for name, reason in sorted(waiting.items())))


def model_ready(address: Address, services: Services) -> ModelReady:
    """Raises Unknown, or NotReady where the version does not answer."""
    ref = services.catalog().find(address).ref
    if (reason := services.engines.why_unready(ref)) is not None:
        raise NotReady(ref, reason, passes=not standing_of(services, ref).state.is_hopeless)
    return ModelReady(name=ref.model)


def model_metadata(address: Address, services: Services) -> ModelMetadata:
    """The tensors of a version. Raises as `Router.choose`."""
    target = services.choose(address)
    interface = target.interface
    return ModelMetadata(
        name=target.ref.model,
        versions=[str(ref.version) for ref in services.catalog().refs(target.ref.model)],
        platform=PLATFORM,
        inputs=[_shown(spec) for spec in interface.inputs],
        outputs=[_shown(spec) for spec in interface.outputs],
    )


def model_config(address: Address, services: Services) -> dict[str, Any]:
    """Triton's ModelConfig, as far as there is something to say. Its dims are those of a row.

    Raises as `Router.choose`.
    """
    target = services.choose(address)
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


def _shown(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=spec.name, datatype=spec.datatype, shape=list(spec.shape))


def _configured(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape[1:])}
