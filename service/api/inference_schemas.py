"""The shapes of the Open Inference Protocol, for /docs and for clients that generate code from it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

_Parameters = dict[str, Any]
_Elements = list[Any]


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    live: bool = True


class ServerReady(BaseModel):
    """The protocol's text says `live`, and its clients read `ready`."""

    live: bool = True
    ready: bool = True


class ModelReady(BaseModel):
    name: str
    ready: bool = True


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: Annotated[list[int], Field(description="-1 is any size; the first is that of the rows")]


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: Annotated[list[TensorMetadata], Field(description="alternatives: one of them is sent")]
    outputs: list[TensorMetadata]


class InferInput(BaseModel):
    name: str
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=8)]
    datatype: str
    parameters: _Parameters = {}
    data: Annotated[_Elements | None, Field(description="flat, or nested as the shape says")] = None


class InferWantedOutput(BaseModel):
    name: str
    parameters: _Parameters = {}


class InferRequest(BaseModel):
    id: str | None = None
    parameters: _Parameters = {}
    inputs: Annotated[list[InferInput], Field(min_length=1)]
    outputs: list[InferWantedOutput] | None = None


class InferOutput(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    parameters: _Parameters | None = None
    data: _Elements | None = None


class InferAnswer(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    parameters: Annotated[_Parameters, Field(description="prediction_ids: one for each row, with commas between")]
    outputs: list[InferOutput]


class IndexRequest(BaseModel):
    """Which versions are to be listed."""

    model_config = ConfigDict(strict=True)

    ready: bool = False


class IndexEntry(BaseModel):
    name: str
    version: str
    state: Literal["UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING"]
    reason: str


class RepositoryRequest(BaseModel):
    """What is known of how to load or unload; there are no dependents here."""

    model_config = ConfigDict(extra="ignore")

    parameters: dict[str, Any] = {}


class ModelStatistics(BaseModel):
    """Since the version was loaded, all engines together."""

    name: str
    version: str
    last_inference: Annotated[int, Field(description="when a batch ran last, in ms since 1970; 0: never")]
    inference_count: Annotated[int, Field(description="rows")]
    execution_count: Annotated[int, Field(description="batches")]
    inference_stats: Annotated[dict[str, dict[str, int]], Field(description="of requests: how many, and ns in all")]
    response_stats: dict[str, Any]
    batch_stats: Annotated[list[dict[str, Any]], Field(description="of batches, by their rows")]
    memory_usage: list[dict[str, Any]]


class StatisticsAnswer(BaseModel):
    model_stats: list[ModelStatistics]


class Failure(BaseModel):
    """Every error of the Open Inference Protocol."""

    error: str


def says_error(description: str) -> dict[str, Any]:
    """What OpenAPI shows of an answer that is an error."""
    return {"description": description, "model": Failure}
