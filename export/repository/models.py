"""The models of the repository that are filled, promoted and served together: each with its files and its configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig
from distilrec.core import filters, golden, histories
from distilrec.core.files import write_text
from distilrec.core.manifest import Manifest
from distilrec.core.specs import FIRST_VERSION, FRONT_DOOR_NAME, MODEL_NAME, VOCABULARY_NAME
from distilrec.data import item_filters
from distilrec.data import vocabulary as vocabularies
from distilrec.evaluation import ranking_record
from export.artefact import proof_path
from export.repository.config import ServedModelFacts, config_text, declare_filters, pinned_config, run_on_cpu, set_parameters
from export.repository.target import serving_target
from export.repository.version_files import copy_served, make_version, model_source


class ServedModel(NamedTuple):
    """A model of the repository.

    Args:
        name: Name of the model, and of its folder in the repository.
        write: ``write(artefact, manifest, config, folder)`` writes all files of a version into ``folder``, which is made again.
            It raises RepositoryError where the artefact lacks what the target needs.
        render: ``render(facts, config, version)`` returns its config.pbtxt, which serves that one version.
    """

    name: str
    write: Callable[[Path, Manifest, ExportConfig, Path], None]
    render: Callable[[ServedModelFacts, ExportConfig, int], str]


def write_student(artefact: Path, manifest: Manifest, config: ExportConfig, folder: Path) -> None:
    """Write what the target runs, the vocabulary, the golden requests and the record of how well it ranks."""
    files = {name: artefact / name for name in (vocabularies.FILE_NAME, item_filters.FILE_NAME)}
    files |= {name: proof_path(artefact, manifest, name) for name in (golden.FILE_NAME, ranking_record.FILE_NAME)}
    for name in (ranking_record.FILE_NAME, item_filters.FILE_NAME):
        if not files[name].exists():  # exports of earlier versions have no record, and most have no filters
            del files[name]
    make_version(folder, files)
    serving_target(config).write(artefact, manifest, folder)
    # For every target: others ignore it, and in a checkout this folder is where it comes from.
    write_text(folder / "model.py", model_source(MODEL_NAME))


def render_student(facts: ServedModelFacts, config: ExportConfig, version: int = FIRST_VERSION) -> str:
    """The student's configuration, in the form of the target."""
    return serving_target(config).render(MODEL_NAME, facts, config, version)


def write_front_door(artefact: Path, manifest: Manifest, config: ExportConfig, folder: Path) -> None:
    """Write the vocabulary, what the front door shares with DistilRec, and the graph where the front door runs it itself."""
    # model.py runs where DistilRec is not installed; it cuts histories and reads filters as the client and the evaluation do.
    shared = {path.name: path for path in (Path(histories.__file__), Path(filters.__file__))}
    make_version(folder, {vocabularies.FILE_NAME: artefact / vocabularies.FILE_NAME} | shared)
    if serving_target(config).front_door_runs_graph:
        copy_served(artefact, manifest, folder)
    write_text(folder / "model.py", model_source(FRONT_DOOR_NAME))


def render_front_door(facts: ServedModelFacts, config: ExportConfig, version: int = FIRST_VERSION) -> str:
    """The front door's configuration: histories and exclusions of any length as strings, ids as strings out."""
    model = pinned_config(FRONT_DOOR_NAME, version)
    model.backend = "python"
    # Rows of one request. There is no dynamic batching: where one string tensor is cut short, Triton's Python backend fails the
    # whole batch before model.py sees any of it.
    model.max_batch_size = config.max_batch_size
    string, int32, fp32 = model_config_pb2.TYPE_STRING, model_config_pb2.TYPE_INT32, model_config_pb2.TYPE_FP32
    model.input.add(name="history", data_type=string, dims=[-1])
    model.input.add(name="exclude", data_type=string, dims=[-1], optional=True)
    model.input.add(name="k", data_type=int32, dims=[1], optional=True)
    # What a request may choose; each is left out where the model does not have it.
    choices = {"filter": (string, -1), "allow": (string, -1), "repeats": (string, 1), "similar": (int32, 1)}
    for tensor in facts.spec.choices:
        data_type, length = choices[tensor.name]
        model.input.add(name=tensor.name, data_type=data_type, dims=[length], optional=True)
    model.output.add(name="item_ids", data_type=string, dims=[-1])
    model.output.add(name="scores", data_type=fp32, dims=[-1])
    model.output.add(name="unknown_ids", data_type=string, dims=[-1])
    lengths = [name for name in ("filter_length", "allow_length") if getattr(facts.spec, name)]
    names = ("item_count", "history_length", "exclude_length", "top_k", *lengths)
    set_parameters(model, **{name: str(getattr(facts.spec, name)) for name in names}, vocabulary_sha256=facts.vocabulary_sha256)
    declare_filters(model, facts)
    if not serving_target(config).front_door_runs_graph:
        set_parameters(model, upstream=MODEL_NAME)
    return config_text(model, run_on_cpu(model, config))


def write_vocabulary(artefact: Path, _manifest: Manifest, _config: ExportConfig, folder: Path) -> None:
    """Write the vocabulary."""
    make_version(folder, {vocabularies.FILE_NAME: artefact / vocabularies.FILE_NAME})
    write_text(folder / "model.py", model_source(VOCABULARY_NAME))


def render_vocabulary(facts: ServedModelFacts, _config: ExportConfig, version: int = FIRST_VERSION) -> str:
    """The configuration of the model that sends the vocabulary's file in parts."""
    model = pinned_config(VOCABULARY_NAME, version)
    model.backend = "python"
    model.input.add(name="offset", data_type=model_config_pb2.TYPE_INT64, dims=[1])
    model.output.add(name="content", data_type=model_config_pb2.TYPE_STRING, dims=[1])
    model.output.add(name="total_bytes", data_type=model_config_pb2.TYPE_INT64, dims=[1])
    model.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=1)
    set_parameters(model, vocabulary_sha256=facts.vocabulary_sha256)
    return config_text(model, "1 instance: a client asks once, when it connects, and after a promotion.")


MODELS = (
    ServedModel(VOCABULARY_NAME, write_vocabulary, render_vocabulary),
    ServedModel(MODEL_NAME, write_student, render_student),
    ServedModel(FRONT_DOOR_NAME, write_front_door, render_front_door),
)
"""In the order of ``SERVED_MODELS``; each comes after those that it sends requests to."""
