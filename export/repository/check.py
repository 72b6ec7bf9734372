"""Is a config.pbtxt that of the model beside it? ``text_format`` lets through what the server then serves wrongly or not at all."""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.core.errors import RepositoryError
from distilrec.core.specs import MODEL_FILE, PLAN_FILE
from export.engines.plan import read_plan_manifest

_ONNX_DTYPES = {onnx.TensorProto.INT32: model_config_pb2.TYPE_INT32, onnx.TensorProto.FLOAT: model_config_pb2.TYPE_FP32}
_PLAN_DTYPES = {"int32": model_config_pb2.TYPE_INT32, "float32": model_config_pb2.TYPE_FP32}

_Tensors = dict[str, tuple[int, tuple[int, ...]]]
"""Type and dims without the batch, by name."""


def check_config(path: Path, version_folder: Path) -> None:
    """Check the student's config.pbtxt in itself, and against the graph or engine of the version it pins.

    Args:
        path: config.pbtxt.
        version_folder: holds model.onnx or model.plan.

    Raises:
        RepositoryError: lists all faults, with what was found and what was expected.
    """
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise RepositoryError(f"{path}: not a model configuration: {error}") from error
    faults = [*_own_faults(config, path, version_folder)]
    plan = version_folder / PLAN_FILE
    found = _plan_tensors(plan, config) if plan.exists() else _onnx_tensors(version_folder / MODEL_FILE)
    stated: _Tensors = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in (*config.input, *config.output)}
    faults += [
        f"{name}: stated {stated.get(name)}, the model has {found.get(name)}"
        for name in sorted(stated | found)
        if stated.get(name) != found.get(name)
    ]
    if faults:
        raise RepositoryError(
            f"{path} does not fit {version_folder}:\n  " + "\n  ".join(faults) + "\nExport again: distilrec export"
        )


def _own_faults(config: model_config_pb2.ModelConfig, path: Path, version_folder: Path) -> Iterator[str]:
    if config.name != path.parent.name:
        yield f"name: found {config.name!r}, expected {path.parent.name!r}, the folder's"
    if config.max_batch_size < 1:
        yield f"max_batch_size: found {config.max_batch_size}, expected 1 or more, as requests are batched"
    if list(config.version_policy.specific.versions) != [int(version_folder.name)]:
        yield f"version_policy: found {list(config.version_policy.specific.versions)}, expected {version_folder.name} alone"
    if not config.backend and not config.platform:
        yield "found neither backend nor platform"
    for group in config.instance_group:
        if group.count < 1:
            yield f"instance_group: found {group.count} instances, expected 1 or more"
    for tensor in (*config.input, *config.output):
        if not tensor.dims or any(size < 1 for size in tensor.dims):
            yield f"{tensor.name}: found dims {list(tensor.dims)}, expected sizes above 0"


def _onnx_tensors(path: Path) -> _Tensors:
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf and file errors of many classes
        raise RepositoryError(f"{path}: not an ONNX model: {error}. Export again: distilrec export") from error
    return {
        tensor.name: (
            _ONNX_DTYPES.get(tensor.type.tensor_type.elem_type, 0),
            tuple(size.dim_value for size in tensor.type.tensor_type.shape.dim[1:]),
        )
        for tensor in (*graph.input, *graph.output)
    }


def _plan_tensors(path: Path, config: model_config_pb2.ModelConfig) -> _Tensors:
    manifest = read_plan_manifest(path)
    largest = max(profile.max_batch_size for profile in manifest.profiles)
    if config.max_batch_size > largest:
        raise RepositoryError(f"max_batch_size: found {config.max_batch_size}, expected at most {largest}, the engine's")
    return {tensor.name: (_PLAN_DTYPES[tensor.dtype], tensor.shape) for tensor in manifest.tensors}
