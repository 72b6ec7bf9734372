"""The server that a load is put on: what it says of itself, and one answer."""

from dataclasses import dataclass
from typing import Any, NoReturn

import grpc
import numpy as np
from tritonclient.grpc import service_pb2
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from clients.errors import ClientError
from clients.wire import infer_request, read_answer
from distilrec.errors import ServerError
from distilrec.specs import PADDING, RecommenderSpec

_SIZED_TENSORS = ("history", "exclude", "items")
_LOOPBACK = ("127.", "localhost", "[::1]", "ipv4:127.", "ipv6:[::1]", "unix:")


@dataclass(frozen=True)
class Endpoint:
    """A served model, and the server around it."""

    spec: RecommenderSpec
    model_version: str
    backend: str
    instances: int
    max_batch_size: int
    dynamic_batching: bool
    triton_version: str
    on_this_machine: bool
    """Whether the server shares this machine's processors with the clients, as its address says."""


def examine(url: str, model: str, timeout_s: float) -> Endpoint:
    """Ask the server for the model's configuration, and the model for one answer.

    Args:
        url: host and port of Triton's gRPC endpoint.
        model: name of the model.
        timeout_s: seconds each call may take.

    Raises:
        ServerError: nobody answers there, the model is not served, or it does not answer as a recommender.
    """
    with grpc.insecure_channel(url) as channel:
        stub = GRPCInferenceServiceStub(channel)
        try:
            server = stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=timeout_s)
            config = stub.ModelConfig(service_pb2.ModelConfigRequest(name=model), timeout=timeout_s).config
            spec = recommender_sizes(config)
            nothing = (np.full((1, size), PADDING, np.int32) for size in (spec.history_length, spec.exclude_length))
            _, _, version = read_answer(stub.ModelInfer(infer_request(model, *nothing), timeout=timeout_s), rows=1)
        except grpc.RpcError as error:
            _fail(error, url, model, timeout_s)
        except ClientError as error:
            raise ServerError(f"{url}: {error}") from error
    return Endpoint(
        spec=spec,
        model_version=version,
        backend=config.backend or config.platform,
        instances=sum(group.count for group in config.instance_group) or 1,
        max_batch_size=config.max_batch_size,
        dynamic_batching=config.HasField("dynamic_batching"),
        triton_version=server.version,
        on_this_machine=url.startswith(_LOOPBACK),
    )


def recommender_sizes(config: Any) -> RecommenderSpec:
    """Sizes of a recommender out of its ModelConfig message.

    Raises:
        ServerError: it has other tensors.
    """
    dims = {tensor.name: tuple(tensor.dims) for tensor in (*config.input, *config.output)}
    item_count = config.parameters["item_count"].string_value
    sizes = [dims.get(name, ()) for name in _SIZED_TENSORS]
    if not item_count.isdigit() or int(item_count) < 1 or any(len(size) != 1 or size[0] < 1 for size in sizes):
        raise ServerError(
            f"model {config.name!r}: found tensors {dims}, expected history, exclude, items and scores of fixed sizes, and the"
            " parameter item_count; put load on 'student' (or on 'identity' and 'teacher', of distilrec export --with-benchmarks)"
        )
    return RecommenderSpec(int(item_count), *(size[0] for size in sizes))


def _fail(error: grpc.RpcError, url: str, model: str, timeout_s: float) -> NoReturn:
    code, details = error.code(), error.details()
    if code == grpc.StatusCode.NOT_FOUND or "unknown model" in (details or ""):
        raise ServerError(
            f"{url}: found no model {model!r} there, expected --model student (or identity or teacher, which"
            f" distilrec export --with-benchmarks adds). The server says: {details}"
        ) from error
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        raise ServerError(
            f"{url}: found no answer of model {model!r} within {timeout_s:g} s; is this Triton's gRPC port?"
        ) from error
    if code == grpc.StatusCode.UNAVAILABLE:
        raise ServerError(
            f"{url}: found no server there ({details}), expected Triton's gRPC endpoint. Start one with: distilrec serve"
        ) from error
    raise ServerError(f"{url}: model {model!r} failed before there was any load: {code.name}: {details}") from error
