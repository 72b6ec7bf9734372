"""The description of a served model, read from its configuration."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import model_config_pb2

from clients.errors import ClientError
from distilrec.core.filters import PARAMETER as FILTERS
from distilrec.core.filters import FilterError, FilterValues, parse_filters
from distilrec.core.specs import RecommenderSpec, spec_of_tensors

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
    filters: FilterValues = field(default_factory=lambda: FilterValues({}))
    """Attributes of items that requests can filter by, with their values (``filters.values``)."""

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
    lengths = {name: dims[0] for name, (_, dims) in tensors.items() if len(dims) == 1}
    sizes = {name: lengths[name] for name in _SIZED if name in lengths}
    parameters = {name: value.string_value for name, value in config.parameters.items()}
    item_count, vocabulary = parameters.get("item_count", ""), parameters.get("vocabulary_sha256", "")
    if len(sizes) == len(_SIZED) and min(sizes.values()) > 0 and item_count.isdigit() and vocabulary:
        spec = spec_of_tensors(int(item_count), lengths)
        expected = {tensor.name: (_DTYPES[tensor.dtype], tensor.shape) for tensor in (*spec.inputs, *spec.outputs)}
        if tensors == expected:
            precision, batch = parameters.get("precision", ""), max(1, config.max_batch_size)
            return ModelInfo(config.name, version, precision, spec, batch, vocabulary, _filters(parameters, spec))
    raise ClientError(
        f"found the tensors {_listing(tensors.items())}; it is not a DistilRec recommender. Ask for the model that distilrec export"
        " wrote"
    )


def _filters(parameters: dict[str, str], spec: RecommenderSpec) -> FilterValues:
    try:
        filters = parse_filters(parameters.get(FILTERS, ""))
    except FilterError as error:
        raise ClientError(f"the model's parameter {FILTERS!r}: {error}; export again: distilrec export") from error
    if bool(filters) != (spec.filter_length > 0):
        raise ClientError(
            f"found {len(filters.values)} declared attributes and room for {spec.filter_length} values to filter by, expected"
            " both or none; export again: distilrec export"
        )
    return filters


def _listing(tensors: Iterable[tuple[str, tuple[int, tuple[int, ...]]]]) -> str:
    names = model_config_pb2.DataType.Name
    return ", ".join(f"{name} {names(dtype).removeprefix('TYPE_')} {list(dims)}" for name, (dtype, dims) in tensors) or "none"
