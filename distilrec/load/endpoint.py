"""The server that a load is put on: what it says of itself, and one answer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from clients.connection import Connection
from clients.errors import ClientError
from clients.model_info import read_info
from clients.retry import client_error
from clients.steps import Call, CallFailed
from clients.transport import Transport
from clients.wire import infer_request, read_answer
from distilrec.core.specs import PADDING, RecommenderSpec


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


def examine(connection: Connection, model: str, timeout_s: float) -> Endpoint:
    """Ask the server for the model's configuration, and the model for one answer.

    Args:
        connection: to Triton's gRPC endpoint.
        model: name of the model.
        timeout_s: seconds each call may take.

    Raises:
        ServerUnavailable, DeadlineExceeded, ModelNotFound: as their names say.
        ClientError: a file of TLS is missing, or the model is not a recommender.
    """
    transport, url = Transport(connection), connection.url

    def ask(method: str, request: Any) -> Any:
        try:
            return transport.carry_out(Call(method, request, timeout_s))
        except CallFailed as failure:
            raise client_error(failure, timeout_s).at(url, model) from failure

    try:
        server = ask("ServerMetadata", service_pb2.ServerMetadataRequest())
        config = ask("ModelConfig", service_pb2.ModelConfigRequest(name=model)).config
        spec = read_info(config, "").spec
        nothing = (np.full((1, size), PADDING, np.int32) for size in (spec.history_length, spec.exclude_length))
        _, _, version = read_answer(ask("ModelInfer", infer_request(model, *nothing)), rows=1)
    except ClientError as error:
        raise error.at(url, model) from error.__cause__
    finally:
        transport.close()
    return Endpoint(
        spec=spec,
        model_version=version,
        backend=config.backend or config.platform,
        instances=sum(group.count for group in config.instance_group) or 1,
        max_batch_size=config.max_batch_size,
        dynamic_batching=config.HasField("dynamic_batching"),
        triton_version=server.version,
        on_this_machine=connection.on_this_machine,
    )
