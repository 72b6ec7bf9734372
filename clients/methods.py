"""The methods of Triton's gRPC service that clients call, and what they read of each response. tritonclient ships no types."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

ResponseT = TypeVar("ResponseT")

Request = Any
"""A protobuf message of ``tritonclient.grpc.service_pb2``."""


class OutputTensor(Protocol):
    """Header of a tensor in a ModelInferResponse; its values stand in ``raw_output_contents``."""

    name: str
    datatype: str
    shape: Sequence[int]


class InferResponse(Protocol):
    """A ModelInferResponse."""

    model_name: str
    model_version: str
    outputs: Sequence[OutputTensor]
    raw_output_contents: Sequence[bytes]


class MetadataResponse(Protocol):
    """A ModelMetadataResponse."""

    versions: Sequence[str]
    """Versions that are ready."""


class ConfigResponse(Protocol):
    """A ModelConfigResponse."""

    config: Any
    """A ModelConfig, see ``model_info.read_info``."""


class StatisticsResponse(Protocol):
    """A ModelStatisticsResponse."""

    model_stats: Sequence[Any]


class LiveResponse(Protocol):
    """A ServerLiveResponse."""

    live: bool


class ReadyResponse(Protocol):
    """A ServerReadyResponse."""

    ready: bool


class ServerMetadataResponse(Protocol):
    """A ServerMetadataResponse."""

    version: str


@dataclass(frozen=True)
class Method(Generic[ResponseT]):
    """A method of the service, with the type of its response."""

    name: str


MODEL_INFER = Method[InferResponse]("ModelInfer")
MODEL_METADATA = Method[MetadataResponse]("ModelMetadata")
MODEL_CONFIG = Method[ConfigResponse]("ModelConfig")
MODEL_STATISTICS = Method[StatisticsResponse]("ModelStatistics")
SERVER_LIVE = Method[LiveResponse]("ServerLive")
SERVER_READY = Method[ReadyResponse]("ServerReady")
SERVER_METADATA = Method[ServerMetadataResponse]("ServerMetadata")
