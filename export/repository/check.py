"""Checks a config.pbtxt against the model it serves: Triton's parser accepts what is then served wrongly or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.core.errors import RepositoryError
from distilrec.core.specs import CHOICE_SIZES, MODEL_FILE, PLAN_FILE, RecommenderSpec
from export.artefact import HEAD_FILE
from export.engines.plan import read_plan_manifest
from export.repository.config import TRITON_DTYPES

Tensors = dict[str, tuple[int, tuple[int, ...]]]
"""Triton's data type and the dims without the batch, by name of the tensor."""


def check_against_graph(path: Path, version_folder: Path) -> None:
    """Check a config.pbtxt in itself, and against ``MODEL_FILE`` in the folder of the version it serves.

    Raises:
        RepositoryError: The graph cannot be read, or the configuration has faults: all are listed.
    """
    check_config(path, version_folder, _graph_tensors(version_folder / MODEL_FILE))


def check_served(path: Path, version_folder: Path) -> None:
    """Check a config.pbtxt in itself, and against what the folder of the version it serves holds: a graph, or an approximate head.

    Raises:
        RepositoryError: What is served cannot be read, or the configuration has faults: all are listed.
    """
    if not (version_folder / HEAD_FILE).exists():
        check_against_graph(path, version_folder)
        return
    try:
        found = json.loads((version_folder / HEAD_FILE).read_text(encoding="utf-8"))
        sizes: Any = {name: int(found[name]) for name in ("history_length", "exclude_length", "top_k", *CHOICE_SIZES)}
        spec = RecommenderSpec(int(found["item_count"]), **sizes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RepositoryError(
            f"{version_folder / HEAD_FILE}: found no settings of an approximate head ({error!r}). Export again: distilrec export"
        ) from error
    tensors = {tensor.name: (TRITON_DTYPES[tensor.dtype], tensor.shape) for tensor in (*spec.inputs, *spec.outputs)}
    check_config(path, version_folder, tensors)


def check_against_engine(path: Path, version_folder: Path) -> None:
    """Check a config.pbtxt in itself, and against the manifest of ``PLAN_FILE`` in the folder of the version it serves.

    Raises:
        EngineError: The manifest cannot be read.
        RepositoryError: The configuration has faults: all are listed.
    """
    manifest = read_plan_manifest(version_folder / PLAN_FILE)
    tensors = {tensor.name: (TRITON_DTYPES[tensor.dtype], tensor.shape) for tensor in manifest.tensors}
    largest = max(profile.max_batch_size for profile in manifest.profiles)
    check_config(path, version_folder, tensors, largest_batch_size=largest)


def check_config(path: Path, version_folder: Path, tensors: Tensors, *, largest_batch_size: int | None = None) -> None:
    """Check a config.pbtxt in itself, and against the tensors of the model it serves.

    Args:
        path: The config.pbtxt, in the folder of its model.
        version_folder: Folder of the version that it serves.
        tensors: Inputs and outputs of the model in that folder.
        largest_batch_size: Largest batch that the model runs; None for a model that runs any.

    Raises:
        RepositoryError: Lists all faults, with what was found and what was expected.
    """
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise RepositoryError(f"{path}: not a model configuration: {error}") from error
    faults = [*_own_faults(config, path, version_folder), *_tensor_faults(config, tensors)]
    if largest_batch_size is not None and config.max_batch_size > largest_batch_size:
        faults.append(f"max_batch_size: found {config.max_batch_size}, expected at most {largest_batch_size}, the model's")
    if faults:
        raise RepositoryError(
            f"{path} does not fit {version_folder}:\n  " + "\n  ".join(faults) + "\nExport again: distilrec export"
        )


def _own_faults(config: model_config_pb2.ModelConfig, path: Path, version_folder: Path) -> Iterator[str]:
    if config.name != path.parent.name:
        yield f"name: found {config.name!r}, expected {path.parent.name!r}, the folder's"
    if config.max_batch_size < 1:
        yield f"max_batch_size: found {config.max_batch_size}, expected 1 or more, as requests are batched"
    number = version_folder.name.split(".")[0]  # of a partial folder, too
    if list(config.version_policy.specific.versions) != [int(number)]:
        yield f"version_policy: found {list(config.version_policy.specific.versions)}, expected {number} alone"
    if not config.backend and not config.platform:
        yield "found neither backend nor platform"
    for group in config.instance_group:
        if group.count < 1:
            yield f"instance_group: found {group.count} instances, expected 1 or more"
    for tensor in (*config.input, *config.output):
        if not tensor.dims or any(size < 1 for size in tensor.dims):
            yield f"{tensor.name}: found dims {list(tensor.dims)}, expected sizes above 0"


def _tensor_faults(config: model_config_pb2.ModelConfig, tensors: Tensors) -> Iterator[str]:
    stated: Tensors = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in (*config.input, *config.output)}
    for name in sorted(stated | tensors):
        if stated.get(name) != tensors.get(name):
            yield f"{name}: stated {stated.get(name)}, the model has {tensors.get(name)}"


def _graph_tensors(path: Path) -> Tensors:
    import onnx  # not at the top: settings are validated by modules that import this one, also where there is no ONNX

    dtypes = {onnx.TensorProto.INT32: model_config_pb2.TYPE_INT32, onnx.TensorProto.FLOAT: model_config_pb2.TYPE_FP32}
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf and file errors of many classes
        raise RepositoryError(f"{path}: not an ONNX model: {error}. Export again: distilrec export") from error
    return {
        tensor.name: (
            dtypes.get(tensor.type.tensor_type.elem_type, model_config_pb2.TYPE_INVALID),
            tuple(size.dim_value for size in tensor.type.tensor_type.shape.dim[1:]),
        )
        for tensor in (*graph.input, *graph.output)
    }
