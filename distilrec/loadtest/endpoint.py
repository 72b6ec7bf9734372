"""The server that a load test sends to: its description, and one answer."""

from dataclasses import dataclass

import numpy as np
from tritonclient.grpc import service_pb2

from clients.connection import Connection
from clients.errors import ClientError
from clients.methods import MODEL_CONFIG, MODEL_INFER, SERVER_METADATA, Method, Request, ResponseT
from clients.model_info import read_info
from clients.retry import client_error
from clients.steps import Call, CallFailed
from clients.transport import Transport
from clients.wire import infer_request, read_answer
from distilrec.core.specs import PADDING, RecommenderSpec


@dataclass(frozen=True)
class Endpoint:
    """A served model and its server."""

    spec: RecommenderSpec
    filter_values: int
    """Number of values of all attributes that requests can filter by."""
    model_version: str
    backend: str
    instances: int
    max_batch_size: int
    dynamic_batching: bool
    triton_version: str
    on_this_machine: bool
    """Whether the address says that the server shares this machine's processors with the clients."""


def examine(connection: Connection, model: str, timeout_s: float) -> Endpoint:
    """Ask the server for the model's configuration, and the model for one answer.

    Args:
        connection: Connection to Triton's gRPC endpoint.
        model: Name of the model.
        timeout_s: Seconds each call may take.

    Raises:
        ClientError: no server or model answers, a file of TLS is missing, or the model is not a recommender.
    """
    transport, url = Transport(connection), connection.url

    def ask(method: Method[ResponseT], request: Request) -> ResponseT:
        try:
            response: ResponseT = transport.carry_out(Call(method.name, request, timeout_s))
        except CallFailed as failure:
            raise client_error(failure, timeout_s) from failure
        return response

    try:
        server = ask(SERVER_METADATA, service_pb2.ServerMetadataRequest())
        config = ask(MODEL_CONFIG, service_pb2.ModelConfigRequest(name=model)).config
        info = read_info(config, "")
        _, _, version = read_answer(ask(MODEL_INFER, _empty_request(model, info.spec)), rows=1)
    except ClientError as error:
        raise error.at(url, model) from error.__cause__
    finally:
        transport.close()
    return Endpoint(
        spec=info.spec,
        filter_values=info.filters.count,
        model_version=version,
        backend=config.backend or config.platform,
        instances=sum(group.count for group in config.instance_group) or 1,
        max_batch_size=config.max_batch_size,
        dynamic_batching=config.HasField("dynamic_batching"),
        triton_version=server.version,
        on_this_machine=connection.on_this_machine,
    )


def _empty_request(model: str, spec: RecommenderSpec) -> Request:
    """A request without a history that chooses nothing."""
    history, exclude, *choices = (np.full((1, *tensor.shape), PADDING, np.int32) for tensor in spec.inputs)
    return infer_request(model, history, exclude, dict(zip((tensor.name for tensor in spec.choices), choices, strict=True)))
