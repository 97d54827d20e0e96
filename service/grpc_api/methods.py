"""The methods of `inference.GRPCInferenceService`."""

import dataclasses
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from pydantic import BaseModel

from service.api.deps import Services
from service.api.inference import metadata, repository, statistics
from service.api.paths import tensors_address
from service.api.readiness import readiness_of
from service.domain import Address
from service.errors import NotReady, NotSupported
from service.grpc_api import inference_pb2 as pb
from service.grpc_api.calls import Call, Work, sooner
from service.grpc_api.messages import check_fields, read_message, read_request, write_answer
from service.serving.codec import Body, Parsed
from service.serving.inference_protocol.codec import parsed
from service.serving.router import Target

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]

_Answer = Callable[[Services, Any, Call], Awaitable[Message]]


def methods_of(services: Services) -> Mapping[str, Work]:
    """What each method does, by its name."""
    return {
        "ModelInfer": functools.partial(_model_infer, services),
        **{name: _worked(name, answer, services) for name, answer in _ANSWERS.items()},
    }


def not_here(name: str) -> NotSupported:
    """What is said of a method of the protocol or of an extension that is not among ours."""
    ours = ", ".join(method.name for method in SERVICE.methods)
    return NotSupported(f"the method {name:.50}", f"one of {ours}")


class _Received:
    """A request all of which is there."""

    content_type = json_length = None
    query = ()

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_at_once(self) -> bytes:
        return self._data

    async def read(self) -> bytes:
        return self._data


async def _model_infer(services: Services, data: bytes, call: Call) -> bytes:
    check_fields(data)
    message: pb.ModelInferRequest = read_message(pb.ModelInferRequest, data)
    caller = call.caller()

    def parse(_: Body, target: Target, max_rows: int) -> Parsed:
        request = read_request(message)
        if call.remaining is not None:
            # The parameter would count before what the caller said, and this client waits no longer than it said.
            timeout = sooner(request.parameters.timeout, caller.timeout)
            request = request._replace(parameters=dataclasses.replace(request.parameters, timeout=timeout))
        return parsed(request, target, max_rows, write_answer)

    address = _address(message.model_name, message.model_version)
    return (await services.pipeline.predict(address, _Received(data), caller, parse)).body


async def _server_live(services: Services, request: pb.ServerLiveRequest, call: Call) -> Message:
    return pb.ServerLiveResponse(live=services.is_supervised())


async def _server_ready(services: Services, request: pb.ServerReadyRequest, call: Call) -> Message:
    return pb.ServerReadyResponse(ready=readiness_of(services).ready)


async def _model_ready(services: Services, request: pb.ModelReadyRequest, call: Call) -> Message:
    try:
        metadata.model_ready(_address(request.name, request.version), services)
    except NotReady:
        return pb.ModelReadyResponse(ready=False)
    return pb.ModelReadyResponse(ready=True)


async def _server_metadata(services: Services, request: pb.ServerMetadataRequest, call: Call) -> Message:
    return _filled(pb.ServerMetadataResponse(), metadata.server_metadata())


async def _model_metadata(services: Services, request: pb.ModelMetadataRequest, call: Call) -> Message:
    found = metadata.model_metadata(_address(request.name, request.version), services)
    return _filled(pb.ModelMetadataResponse(), found)


async def _model_config(services: Services, request: pb.ModelConfigRequest, call: Call) -> Message:
    config = metadata.model_config(_address(request.name, request.version), services)
    return pb.ModelConfigResponse(config=ParseDict(config, pb.ModelConfig()))


async def _model_statistics(services: Services, request: pb.ModelStatisticsRequest, call: Call) -> Message:
    if not request.name:
        found = await statistics.of_all(services)
    elif not request.version:
        found = await statistics.of_model(services, request.name)
    else:
        found = await statistics.of_version(services, request.name, request.version)
    # Of answers in several parts, which no model here gives.
    said = [one.model_dump(exclude={"response_stats"}) for one in found.model_stats]
    return ParseDict({"model_stats": said}, pb.ModelStatisticsResponse())


async def _repository_index(services: Services, request: pb.RepositoryIndexRequest, call: Call) -> Message:
    entries = repository.index(services, only_ready=request.ready)
    return pb.RepositoryIndexResponse(models=[entry.model_dump() for entry in entries])


async def _load(services: Services, request: pb.RepositoryModelLoadRequest, call: Call) -> Message:
    await repository.load(services, request.model_name, request.parameters.keys(), call.caller().timeout)
    return pb.RepositoryModelLoadResponse()


async def _unload(services: Services, request: pb.RepositoryModelUnloadRequest, call: Call) -> Message:
    await repository.unload(services, request.model_name, call.caller().timeout)
    return pb.RepositoryModelUnloadResponse()


_ANSWERS: dict[str, _Answer] = {
    "ServerLive": _server_live,
    "ServerReady": _server_ready,
    "ModelReady": _model_ready,
    "ServerMetadata": _server_metadata,
    "ModelMetadata": _model_metadata,
    "ModelConfig": _model_config,
    "ModelStatistics": _model_statistics,
    "RepositoryIndex": _repository_index,
    "RepositoryModelLoad": _load,
    "RepositoryModelUnload": _unload,
}


def _worked(name: str, answer: _Answer, services: Services) -> Work:
    """A method that reads a message and answers with one."""
    kind = getattr(pb, SERVICE.methods_by_name[name].input_type.name)

    async def work(data: bytes, call: Call) -> bytes:
        return (await answer(services, read_message(kind, data), call)).SerializeToString()

    return work


def _address(model: str, version: str) -> Address:
    return tensors_address(model, version or None)


def _filled(message: Message, model: BaseModel) -> Message:
    """The message with a model's members, which have the names of its fields."""
    return ParseDict(model.model_dump(), message)
