"""One served model at the level of tensors: asks Triton over gRPC and turns its failures into client errors."""

from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from clients.errors import ClientError, DeadlineExceeded, InvalidRequest, ModelNotFound, ServerUnavailable
from distilrec.runner import Answer
from distilrec.specs import MODEL_NAME, RecommenderSpec

DEFAULT_URL = "127.0.0.1:8001"

_TRITON_DTYPES = {"int32": "INT32", "float32": "FP32"}
_SIZED_TENSORS = ("history", "exclude", "items")


class GrpcModel:
    """A served model behind the serving contract.

    Args:
        url: host and port of Triton's gRPC endpoint.
        model: name of the model.
        timeout_s: seconds each call may take.

    Raises:
        ServerUnavailable: no server at ``url``.
        DeadlineExceeded: it does not answer in time.
        ModelNotFound: it does not serve ``model``.
        ClientError: ``model`` is not a recommender.
    """

    def __init__(self, url: str = DEFAULT_URL, model: str = MODEL_NAME, timeout_s: float = 5.0) -> None:
        self.url = url
        self.model = model
        self.timeout_s = timeout_s
        self._client = grpc.InferenceServerClient(url)
        try:
            config = self._client.get_model_config(model, client_timeout=timeout_s).config
            self.spec = self._spec(config)
            self.vocabulary_sha256: str = config.parameters["vocabulary_sha256"].string_value
        except InferenceServerException as error:
            self.close()
            self._fail(error)
        except ClientError:
            self.close()
            raise

    def recommend(self, history: NDArray[np.int32], exclude: NDArray[np.int32]) -> Answer:
        """int32 [B, L] and int32 [B, E] -> items int32 [B, K] and scores float32 [B, K].

        Raises:
            ServerUnavailable, DeadlineExceeded, ModelNotFound, InvalidRequest: as their names say.
        """
        items, scores, _ = self.recommend_with_version(history, exclude)
        return items, scores

    def recommend_with_version(
        self, history: NDArray[np.int32], exclude: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], str]:
        """As ``recommend``, and the version of the model that answered."""
        inputs = []
        for tensor, values in zip(self.spec.inputs, (history, exclude), strict=True):
            entry = grpc.InferInput(tensor.name, values.shape, _TRITON_DTYPES[tensor.dtype])
            entry.set_data_from_numpy(values)
            inputs.append(entry)
        try:
            result = self._client.infer(self.model, inputs, client_timeout=self.timeout_s)
        except InferenceServerException as error:
            self._fail(error)
        items, scores = (result.as_numpy(tensor.name) for tensor in self.spec.outputs)
        return items, scores, result.get_response().model_version

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _spec(self, config: Any) -> RecommenderSpec:
        """Sizes from the served configuration, which is where the server's truth lies."""
        dims = {tensor.name: tuple(tensor.dims) for tensor in (*config.input, *config.output)}
        item_count = config.parameters["item_count"].string_value
        if not dims.keys() >= set(_SIZED_TENSORS) or not item_count.isdigit():
            raise ClientError(f"{self.url}: model {self.model!r} has tensors {sorted(dims)}; it is not a DistilRec recommender")
        return RecommenderSpec(int(item_count), *(dims[name][0] for name in _SIZED_TENSORS))

    def _fail(self, error: InferenceServerException) -> NoReturn:
        status, message = str(error.status()), str(error.message())
        where = f"{self.url}, model {self.model!r}"
        if "DEADLINE_EXCEEDED" in status:
            raise DeadlineExceeded(f"{where}: no answer within {self.timeout_s} s") from error
        if "NOT_FOUND" in status or "unknown model" in message:
            raise ModelNotFound(f"{where}: the server does not serve this model ({message})") from error
        if "UNAVAILABLE" in status:
            raise ServerUnavailable(f"{where}: no server answers ({message}). Start one with: distilrec serve") from error
        if "INVALID_ARGUMENT" in status:
            raise InvalidRequest(f"{where}: {message}") from error
        raise ClientError(f"{where}: {status}: {message}") from error
