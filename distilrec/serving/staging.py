"""A version's folders and configurations, written beside and checked before they get their names."""

from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig
from distilrec.files import write_text
from distilrec.manifest import Manifest
from distilrec.serving.journal import flush, parse_config
from distilrec.serving.proving import check_copy
from distilrec.specs import MODEL_NAME, RecommenderSpec
from distilrec.versions import config_path, served_version
from export.repository import ServedModel, artefact_facts
from export.triton_check import check_config


def stage(
    artefact: Path, manifest: Manifest, *, repository: Path, config: ExportConfig, number: int, models: Sequence[ServedModel]
) -> None:
    """Write folder and configuration of every model of version ``number`` beside, check them, and rename the folders in.

    Nothing is pinned, so no server sees the version unless it is told to.

    Raises:
        RepositoryError: what was written is not what it should be.
    """
    for model in models:
        target = repository / model.name / str(number)
        beside = target.with_name(f"{number}.partial")  # Triton reads folders with a number for a name only
        model.write(artefact, manifest, config, beside)
        check_copy(artefact, manifest, beside)
        flush(beside)
        beside.rename(target)
        text = model.render(artefact_facts(manifest), config, number)
        write_text(config_path(repository, model.name, number), text + warmup(text))
    check_config(config_path(repository, MODEL_NAME, number), repository / MODEL_NAME / str(number))


def warmup(text: str) -> str:
    """Warm-up for a config.pbtxt: one request alone and one full batch, before the version gets its first real one.

    It is a gate too: a version that fails is refused before anybody has asked it. Zeros do, an empty history, for the time
    of a request does not depend on what is in it; that answers are right is what the golden requests show.
    """
    config, addition = parse_config(text), model_config_pb2.ModelConfig()
    for size in sorted({1, max(1, config.max_batch_size)}):
        sample = addition.model_warmup.add(name=f"batch of {size}", batch_size=size, count=1)
        for tensor in config.input:
            if not tensor.optional:
                values = sample.inputs[tensor.name]
                values.data_type, values.zero_data = tensor.data_type, True
                values.dims.extend(max(1, dim) for dim in tensor.dims)
    return str(text_format.MessageToString(addition))


def version_config(repository: Path, model: str, version: int) -> str:
    """A version's configuration: config.pbtxt while it is pinned, else its own file."""
    pinned = served_version(repository, model) == version
    path = repository / model / "config.pbtxt" if pinned else config_path(repository, model, version)
    return path.read_text(encoding="utf-8")


def config_spec(text: str) -> RecommenderSpec:
    """Sizes of the student, from its configuration."""
    config = parse_config(text)
    dims = {tensor.name: tensor.dims[0] for tensor in (*config.input, *config.output)}
    return RecommenderSpec(int(config.parameters["item_count"].string_value), dims["history"], dims["exclude"], dims["items"])
