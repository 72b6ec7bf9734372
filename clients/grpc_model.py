"""A served model at the level of tensors, for callers that have item indices: evaluation, promotion, the health probe."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from clients import retry
from clients.connection import DEFAULT_URL, Connection, Tls
from clients.errors import ClientError
from clients.methods import MODEL_INFER, MODEL_STATISTICS, Method, Request, ResponseT
from clients.model_info import ModelInfo
from clients.retry import RetryPolicy
from clients.session import Session
from clients.steps import Call, CallFailed, Deadline, drive
from clients.transport import Transport
from clients.wire import ModelAnswer, front_door_request, infer_request, read_answer, read_front_door
from distilrec.core.runner import NOTHING_CHOSEN, Answer, Choices, request_arrays
from distilrec.core.specs import CANDIDATE_SUFFIX, FRONT_DOOR_NAME, MODEL_NAME, RecommenderSpec, candidate_name

_NO_RETRIES = RetryPolicy(retries=0)


class GrpcModel:
    """A served model behind the serving contract. Nothing is retried: every failure is an error at once.

    Args:
        url: host and port of Triton's gRPC endpoint.
        model: name of the model.
        timeout_s: seconds each call may take, as for ``RecommenderClient``.
        tls: as for ``RecommenderClient``.
        metadata: sent with each call.
        spec: sizes of the model. With them, optional tensors that a request leaves out are sent as 0; without them, as is right for
            a model that has none, requests are sent as they are.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        model: str = MODEL_NAME,
        timeout_s: float = 5.0,
        *,
        tls: Tls | bool = False,
        metadata: Mapping[str, str] | None = None,
        spec: RecommenderSpec | None = None,
    ) -> None:
        self._spec = spec
        self.url, self.model, self.timeout_s = url, model, timeout_s
        self._transport = Transport(Connection(url, tls, metadata or {}))
        self._session = Session(url, model, None, _NO_RETRIES, lambda: self._transport.epoch)

    def recommend(self, history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN) -> Answer:
        """Recommend K items after each of B histories.

        Args:
            history: int32 [B, L]: item indices, oldest first, padded with 0 on the left.
            exclude: int32 [B, E]: item indices that must not be recommended, padded with 0.
            choices: Optional tensors, int32 [B, ...].

        Returns:
            Items int32 [B, K], best first, and their scores float32 [B, K].

        Raises:
            ServerUnavailable, DeadlineExceeded, Overloaded, ModelNotFound, InvalidRequest: as their names say.
            ClientError: the answer is not a recommender's.
        """
        items, scores, _ = self.recommend_with_version(history, exclude, choices)
        return items, scores

    def recommend_with_version(
        self, history: NDArray[np.int32], exclude: NDArray[np.int32], choices: Choices = NOTHING_CHOSEN
    ) -> ModelAnswer:
        """As ``recommend``, with the version of the model that answered."""
        if self._spec is not None:
            arrays = request_arrays(self._spec, history, exclude, choices)
            choices = {tensor.name: arrays[tensor.name] for tensor in self._spec.choices}
        response = self._call(MODEL_INFER, infer_request(self.model, history, exclude, choices))
        try:
            return read_answer(response, len(history))
        except ClientError as error:
            raise error.at(self.url, self.model) from None

    def ask_front_door(
        self,
        histories: Sequence[Sequence[str]],
        excludes: Sequence[Sequence[str]],
        k: int,
        choices: Mapping[str, Any] = NOTHING_CHOSEN,
    ) -> tuple[list[list[str]], NDArray[np.float32], str]:
        """Ask the front door of the same server, as ``wire.front_door_request``; results as ``wire.read_front_door``.

        A candidate's front door is the candidate, too. Errors are those of ``recommend``.
        """
        model = candidate_name(FRONT_DOOR_NAME) if self.model.endswith(CANDIDATE_SUFFIX) else FRONT_DOOR_NAME
        response = self._call(MODEL_INFER, front_door_request(histories, excludes, k, choices, model))
        return read_front_door(response)

    def counts(self, version: str) -> tuple[int, int]:
        """Return how many requests a version has answered and failed since it was first loaded. Raises as ``recommend``."""
        reply = self._call(MODEL_STATISTICS, service_pb2.ModelStatisticsRequest(name=self.model, version=version))
        stats = reply.model_stats[0].inference_stats
        return int(stats.success.count), int(stats.fail.count)

    def info(self) -> ModelInfo:
        """Describe the served model. Raises as ``recommend``, and ClientError if it is not a recommender."""
        return drive(self._session.info(Deadline(self.timeout_s)), self._transport.carry_out)

    def _call(self, method: Method[ResponseT], request: Request) -> ResponseT:
        try:
            response: ResponseT = self._transport.carry_out(Call(method.name, request, self.timeout_s))
        except CallFailed as failure:
            raise retry.client_error(failure, self.timeout_s).at(self.url, self.model) from failure
        return response

    def close(self) -> None:
        """Close the connection. Calls without an answer are waited for, at most a second, and then cancelled."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
