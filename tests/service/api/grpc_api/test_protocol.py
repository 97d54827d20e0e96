"""The generated messages are those of the .proto file, and that has the numbers that were published."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from service import grpc_api
from service.grpc_api import inference_pb2 as pb

PROTO = Path(grpc_api.__file__).parent / "inference.proto"

# As the protocol's interface and Triton's extensions were published, in the order of their numbers.
PUBLISHED = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": 1},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": 1},
    "ModelReadyRequest": {"name": 1, "version": 2},
    "ModelReadyResponse": {"ready": 1},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {"name": 1, "version": 2, "extensions": 3},
    "ModelMetadataRequest": {"name": 1, "version": 2},
    "ModelMetadataResponse": {"name": 1, "versions": 2, "platform": 3, "inputs": 4, "outputs": 5},
    "ModelMetadataResponse.TensorMetadata": {"name": 1, "datatype": 2, "shape": 3},
    "ModelInferRequest": {
        "model_name": 1, "model_version": 2, "id": 3, "parameters": 4, "inputs": 5, "outputs": 6,
        "raw_input_contents": 7,
    },
    "ModelInferRequest.InferInputTensor": {"name": 1, "datatype": 2, "shape": 3, "parameters": 4, "contents": 5},
    "ModelInferRequest.InferRequestedOutputTensor": {"name": 1, "parameters": 2},
    "ModelInferResponse": {
        "model_name": 1, "model_version": 2, "id": 3, "parameters": 4, "outputs": 5, "raw_output_contents": 6
    },
    "ModelInferResponse.InferOutputTensor": {"name": 1, "datatype": 2, "shape": 3, "parameters": 4, "contents": 5},
    "InferParameter": {"bool_param": 1, "int64_param": 2, "string_param": 3, "double_param": 4, "uint64_param": 5},
    "InferTensorContents": {
        "bool_contents": 1, "int_contents": 2, "int64_contents": 3, "uint_contents": 4, "uint64_contents": 5,
        "fp32_contents": 6, "fp64_contents": 7, "bytes_contents": 8,
    },
    "ModelConfigRequest": {"name": 1, "version": 2},
    "ModelConfigResponse": {"config": 1},
    "ModelStatisticsRequest": {"name": 1, "version": 2},
    "StatisticDuration": {"count": 1, "ns": 2},
    "InferStatistics": {
        "success": 1, "fail": 2, "queue": 3, "compute_input": 4, "compute_infer": 5, "compute_output": 6,
        "cache_hit": 7, "cache_miss": 8,
    },
    "InferBatchStatistics": {"batch_size": 1, "compute_input": 2, "compute_infer": 3, "compute_output": 4},
    "MemoryUsage": {"type": 1, "id": 2, "byte_size": 3},
    "ModelStatistics": {
        "name": 1, "version": 2, "last_inference": 3, "inference_count": 4, "execution_count": 5,
        "inference_stats": 6, "batch_stats": 7, "memory_usage": 8,
    },
    "ModelStatisticsResponse": {"model_stats": 1},
    "ModelRepositoryParameter": {"bool_param": 1, "int64_param": 2, "string_param": 3, "bytes_param": 4},
    "RepositoryIndexRequest": {"repository_name": 1, "ready": 2},
    "RepositoryIndexResponse": {"models": 1},
    "RepositoryIndexResponse.ModelIndex": {"name": 1, "version": 2, "state": 3, "reason": 4},
    "RepositoryModelLoadRequest": {"repository_name": 1, "model_name": 2, "parameters": 3},
    "RepositoryModelLoadResponse": {},
    "RepositoryModelUnloadRequest": {"repository_name": 1, "model_name": 2, "parameters": 3},
    "RepositoryModelUnloadResponse": {},
    "ModelInput": {"name": 1, "data_type": 2, "format": 3, "dims": 4, "optional": 8},
    "ModelOutput": {"name": 1, "data_type": 2, "dims": 3, "label_filename": 4},
    "ModelVersionPolicy": {"all": 2},
    "ModelVersionPolicy.All": {},
    "ModelDynamicBatching": {
        "preferred_batch_size": 1, "max_queue_delay_microseconds": 2, "priority_levels": 4, "default_priority_level": 5
    },
    "ModelTransactionPolicy": {"decoupled": 1},
    "ModelResponseCache": {"enable": 1},
    "ModelParameter": {"string_value": 1},
    "ModelConfig": {
        "name": 1, "platform": 2, "version_policy": 3, "max_batch_size": 4, "input": 5, "output": 6,
        "dynamic_batching": 11, "parameters": 14, "backend": 17, "model_transaction_policy": 19, "response_cache": 24,
    },
}  # fmt: skip
DATATYPES = [
    "INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
    "STRING", "BF16",
]  # fmt: skip


def described(messages: Iterable[Any], above: str = "") -> Iterator[tuple[str, dict[str, int]]]:
    for message in messages:
        if not message.GetOptions().map_entry:
            yield above + message.name, {field.name: field.number for field in message.fields}
            yield from described(message.nested_types, f"{above}{message.name}.")


def test_the_numbers_are_those_that_were_published() -> None:
    assert pb.DESCRIPTOR.package == "inference"
    assert dict(described(pb.DESCRIPTOR.message_types_by_name.values())) == PUBLISHED
    assert [value.name for value in pb.DESCRIPTOR.enum_types_by_name["DataType"].values] == [
        f"TYPE_{name}" for name in DATATYPES
    ]


def test_the_methods_are_those_that_were_published() -> None:
    (service,) = pb.DESCRIPTOR.services_by_name.values()
    assert service.full_name == "inference.GRPCInferenceService"
    assert {method.name for method in service.methods} == {
        "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelConfig",
        "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
    }  # fmt: skip
    for method in service.methods:
        assert (method.input_type.name, method.output_type.name) == (f"{method.name}Request", f"{method.name}Response")


def test_the_generated_messages_are_those_of_the_file() -> None:
    """`make proto` generates them anew."""
    text = re.sub(r"//.*", "", PROTO.read_text())
    written = re.findall(r"^ *(?:repeated )?(\w+|map<string, \w+>) (\w+) = (\d+);", text, re.MULTILINE)
    fields = [
        (field.name, str(field.number))
        for message in every(pb.DESCRIPTOR.message_types_by_name.values())
        for field in message.fields
    ]
    assert sorted((name, number) for _, name, number in written) == sorted(fields)
    assert re.findall(r"rpc (\w+)\(", text) == [
        method.name for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods
    ]


def every(messages: Iterable[Any]) -> Iterator[Any]:
    for message in messages:
        if not message.GetOptions().map_entry:
            yield message
            yield from every(message.nested_types)
