"""The Triton model repository: config.pbtxt rendered from the spec, the model and its vocabulary put in place."""

import importlib.util
import shutil
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec import golden
from distilrec.config import ExportConfig
from distilrec.data import vocabulary as vocabularies
from distilrec.errors import RepositoryError
from distilrec.files import replace_folder, write_text
from distilrec.manifest import Manifest, verify_manifest
from distilrec.specs import FIRST_VERSION, MODEL_NAME, Precision, RecommenderSpec, TensorSpec
from export.storage import served_files

_TRITON_DTYPES = {"int32": model_config_pb2.TYPE_INT32, "float32": model_config_pb2.TYPE_FP32}
_HEADER = "# Rendered by `distilrec export` from the serving contract (distilrec/specs.py) and the settings; do not edit.\n"


def render_config(spec: RecommenderSpec, vocabulary_sha256: str, config: ExportConfig, version: int = FIRST_VERSION) -> str:
    """config.pbtxt for the CPU target: Python backend, ONNX Runtime, dynamic batching. The same arguments give the same text.

    Args:
        spec: sizes of the tensors.
        vocabulary_sha256: of the items.
        config: batch size and instances.
        version: the one version that is served, so that a restart never tries another that happens to lie there.
    """
    model = model_config_pb2.ModelConfig(
        name=MODEL_NAME,
        backend="python",
        max_batch_size=config.max_batch_size,
        input=[_input(tensor) for tensor in spec.inputs],
        output=[_output(tensor) for tensor in spec.outputs],
        # No queue policy and no delay: either costs latency and neither gains throughput on a CPU.
        dynamic_batching=model_config_pb2.ModelDynamicBatching(),
        instance_group=[
            model_config_pb2.ModelInstanceGroup(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=config.instances)
        ],
    )
    model.version_policy.specific.versions.append(version)
    model.parameters["item_count"].string_value = str(spec.item_count)
    model.parameters["vocabulary_sha256"].string_value = vocabulary_sha256
    return _HEADER + str(text_format.MessageToString(model))


def artefact_spec(manifest: Manifest) -> RecommenderSpec:
    """Sizes of an export stage's model."""
    item_count, sizes = manifest.metrics["item_count"], manifest.settings
    return RecommenderSpec(item_count, sizes["history_length"], sizes["exclude_length"], min(sizes["top_k"], item_count))


def write_version(artefact: Path, manifest: Manifest, folder: Path) -> None:
    """Write all files of a version of the model into ``folder``, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_text(folder / "model.py", _model_source())
    for path in served_files(artefact, Precision(manifest.metrics["precision"])):
        shutil.copyfile(path, folder / path.name)
    for name in (vocabularies.FILE_NAME, golden.FILE_NAME):
        shutil.copyfile(artefact / name, folder / name)


def fill_repository(artefact: Path, config: ExportConfig) -> Path:
    """Put an export stage's model into the repository as its first version, which is served; returns the model's folder.

    The version's folder is written beside and renamed; config.pbtxt comes last.

    Raises:
        ManifestError: the artefact is not what its manifest says.
        RepositoryError: the repository cannot be written.
    """
    manifest = verify_manifest(artefact)
    folder = config.repository / MODEL_NAME
    version = folder / str(FIRST_VERSION)
    beside = folder / f"{version.name}.partial"  # Triton reads folders with a number for a name only
    text = render_config(artefact_spec(manifest), manifest.metrics["vocabulary_sha256"], config)
    try:
        write_version(artefact, manifest, beside)
        # As one: a model with the weights of another would answer nonsense without a word.
        replace_folder(beside, version)
        write_text(folder / "config.pbtxt", text)
    except OSError as error:
        raise RepositoryError(f"{config.repository}: cannot be written: {error}") from error
    return folder


def _model_source() -> str:
    """The served model.py, as it stands in ``triton_repo/``."""
    # A namespace package: with an __init__.py, Triton would take its __pycache__ for a model.
    package = importlib.util.find_spec("triton_repo")
    for folder in package.submodule_search_locations or () if package else ():
        path = Path(folder) / MODEL_NAME / str(FIRST_VERSION) / "model.py"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise RepositoryError("found no triton_repo/student/1/model.py in the installed package; install distilrec again")


def _input(tensor: TensorSpec) -> model_config_pb2.ModelInput:
    return model_config_pb2.ModelInput(name=tensor.name, data_type=_TRITON_DTYPES[tensor.dtype], dims=tensor.shape)


def _output(tensor: TensorSpec) -> model_config_pb2.ModelOutput:
    return model_config_pb2.ModelOutput(name=tensor.name, data_type=_TRITON_DTYPES[tensor.dtype], dims=tensor.shape)
