"""The description of a served model, read from its configuration."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc import model_config_pb2

from clients.errors import ClientError
from distilrec.core.specs import RecommenderSpec

_DTYPES = {"int32": model_config_pb2.TYPE_INT32, "float32": model_config_pb2.TYPE_FP32}
_SIZED = ("history", "exclude", "items")


@dataclass(frozen=True)
class ModelInfo:
    """Description of a served model."""

    model: str
    version: str
    precision: str
    """"fp32", "fp16" or "int8"; empty where the server does not say."""
    spec: RecommenderSpec
    """Catalogue size, history length L, exclude length E and largest k."""
    max_batch_size: int
    """Histories in one request, at most."""
    vocabulary_sha256: str

    @property
    def k(self) -> int:
        """The largest k."""
        return self.spec.top_k

    @property
    def history_length(self) -> int:
        """L: newest items of a history that are read."""
        return self.spec.history_length

    @property
    def catalogue_size(self) -> int:
        """How many items can be recommended."""
        return self.spec.item_count


def read_info(config: Any, version: str) -> ModelInfo:
    """Read a ModelConfig message.

    Args:
        config: ModelConfig of one version of the model.
        version: That version.

    Raises:
        ClientError: the model is not a DistilRec recommender: other tensors, dtypes or sizes, or no vocabulary.
    """
    tensors = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in (*config.input, *config.output)}
    sizes = {name: tensors[name][1][0] for name in _SIZED if name in tensors and len(tensors[name][1]) == 1}
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    item_count, vocabulary = parameters.get("item_count", ""), parameters.get("vocabulary_sha256", "")
    if len(sizes) == len(_SIZED) and min(sizes.values()) > 0 and item_count.isdigit() and vocabulary:
        spec = RecommenderSpec(int(item_count), sizes["history"], sizes["exclude"], sizes["items"])
        expected = {tensor.name: (_DTYPES[tensor.dtype], tensor.shape) for tensor in (*spec.inputs, *spec.outputs)}
        if tensors == expected:
            return ModelInfo(config.name, version, parameters.get("precision", ""), spec, max(1, config.max_batch_size), vocabulary)
    raise ClientError(
        f"found the tensors {_listing(tensors.items())}; it is not a DistilRec recommender. Ask for the model that distilrec export"
        " wrote"
    )


def _listing(tensors: Iterable[tuple[str, tuple[int, tuple[int, ...]]]]) -> str:
    names = model_config_pb2.DataType.Name
    return ", ".join(f"{name} {names(dtype).removeprefix('TYPE_')} {list(dims)}" for name, (dtype, dims) in tensors) or "none"
