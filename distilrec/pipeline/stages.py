"""All stages of a run in their order, each with a folder below the run's folder, and which student and export of it ship."""

import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from distilrec.config import Config
from distilrec.core.errors import ConfigError, MissingExtraError
from distilrec.core.manifest import Manifest, read_manifest, verify_manifest
from distilrec.core.memory import give_back_memory
from distilrec.core.ranks import is_first, processes
from distilrec.core.stage import forget_stage
from distilrec.data.dataset import load_dataset
from distilrec.data.sizes import with_sizes
from distilrec.data.vocabulary import FILE_NAME as VOCABULARY
from distilrec.data.vocabulary import load_vocabulary
from distilrec.pipeline.finished import (
    exported_artefact,
    mixture_weights,
    served_artefact,
    shipped_student,
    weights_are_found,
)
from distilrec.pipeline.folders import MIXED_TARGETS, STUDENT_FOLDERS, STUDENT_VERDICT, TEACHERS_VERDICT, run_dir, teacher_folders
from distilrec.pipeline.run_lock import locked_run
from distilrec.pipeline.settings import save_settings

logger = logging.getLogger(__name__)

StageFunction = Callable[..., Manifest]
"""``run(config, inputs, out_dir, **options)``."""


class _Stage(NamedTuple):
    """A stage: its function, and the folders that it reads."""

    module: str
    """Module that defines the function."""
    extra: str
    """Extra that installs the packages of the stage."""
    inputs: Mapping[str, str]
    """Name of the stage folder of each input, by the input's role."""
    options: Mapping[str, Any] = {}
    """Further keyword arguments of the function."""
    function: str = "run"
    reads_shipped_student: bool = False
    """Whether it has one more input, ``student``: the folder of the student that the stage ``student-verdict`` has chosen."""


_QAD_STAGES = ("student-qad", "export-qad")


def stages(config: Config) -> dict[str, _Stage]:
    """All stages of a run by the names of their folders, in the order in which they run."""
    data = {"data": "data"}
    trained = data | {"text": "text"}
    graph = {"data": _Stage("distilrec.data.stage", "train", {}), "text": _Stage("distill.stages.text", "train", data)}
    for name, teacher in config.teachers.items():
        learned = _add_mixture(graph, dict.fromkeys(teacher.learns_from, 1.0))
        graph[f"teacher-{name}"] = _Stage("distill.stages.teacher", "train", trained | learned, {"name": name})
        asked = data | {"teacher": f"teacher-{name}"}
        graph[f"targets-{name}"] = _Stage("distill.stages.targets", "train", asked, {"name": name})
    graph["student-undistilled"] = _Stage("distill.stages.student", "train", trained)
    judged = {name: f"teacher-{name}" for name in config.student_teachers}
    options = {"weights": config.student_teachers, "fixed": config.targets.weights is not None}
    judges = data | {"undistilled": "student-undistilled"}
    graph[TEACHERS_VERDICT] = _Stage("distill.stages.teachers_verdict", "train", judges | judged, options)
    if weights_are_found(config):
        inputs = data | {"verdict": TEACHERS_VERDICT} | {name: f"targets-{name}" for name in config.student_teachers}
        graph[MIXED_TARGETS] = _Stage("distill.stages.targets", "train", inputs, {}, "run_mix")
        learned = {"targets": MIXED_TARGETS}
    else:
        learned = _add_mixture(graph, config.student_teachers)
    graph["student"] = _Stage("distill.stages.student", "train", trained | learned)
    graph[STUDENT_VERDICT] = _Stage("distill.stages.student_verdict", "train", data | STUDENT_FOLDERS)
    verdict = data | {"verdict": STUDENT_VERDICT}
    graph["export"] = _Stage("export.stage", "export", verdict, reads_shipped_student=True)
    # These two run only if INT8 needs them (see QadConfig).
    graph["student-qad"] = _Stage("distill.stages.qad", "train", data, reads_shipped_student=True)
    graph["export-qad"] = _Stage("export.stage", "export", verdict | {"student": "student-qad", "reference": "export"})
    return graph


def _add_mixture(graph: dict[str, _Stage], weights: Mapping[str, float]) -> dict[str, str]:
    """Add the stage that mixes the soft targets of several teachers.

    Args:
        graph: Stages so far; the new stage is added to it.
        weights: Weights of the teachers by name.

    Returns:
        The input that a student of these teachers reads; empty without teachers.
    """
    if not weights:
        return {}
    folder = f"targets-{next(iter(weights))}"
    if len(weights) > 1:
        # Two students may have the same teachers with other weights.
        folder = "targets-" + "+".join(name if weight == 1 else f"{weight:g}x{name}" for name, weight in weights.items())
        inputs = {"data": "data"} | {name: f"targets-{name}" for name in weights}
        graph[folder] = _Stage("distill.stages.targets", "train", inputs, {"weights": dict(weights)}, "run_mix")
    return {"targets": folder}


def run_stage(config: Config, stage: str, *, force: bool = False) -> Manifest:
    """Run one stage on the folders of the stages before it.

    Args:
        config: Settings of the run.
        stage: Name of the stage's folder.
        force: Whether it runs again, from its start, where nothing has changed.

    Raises:
        DistilRecError: An error of the stage; ManifestError if an earlier stage has not been run; RunLockedError if another process
            is running stages in the run's folder.
    """
    found, folder = stages(config)[stage], run_dir(config)
    try:
        function: StageFunction = getattr(import_module(found.module), found.function)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The package {error.name!r}", found.extra) from error
    inputs = {role: folder / name for role, name in found.inputs.items()}
    with locked_run(folder):
        if force:
            if processes() > 1:
                raise ConfigError("found --force with several processes, expected it from one: run it once without torchrun")
            forget_stage(folder / stage)
        if "data" in inputs:
            config = with_sizes_of_data(config)
        if found.reads_shipped_student:
            inputs["student"] = shipped_student(config)
        try:
            return function(config, inputs, folder / stage, **found.options)
        finally:
            give_back_memory()


def with_sizes_of_data(config: Config) -> Config:
    """The settings with the sizes that follow from the run's data (``distilrec.data.sizes``).

    Raises:
        ManifestError: The stage ``data`` has not been run, or its folder is damaged.
    """
    if config.export.exclude_length != "auto":
        return config
    folder = run_dir(config) / "data"
    verify_manifest(folder)
    return with_sizes(config, load_dataset(folder, len(load_vocabulary(folder / VOCABULARY))))


def run_all(config: Config, *, serve: bool = True, force: bool = False) -> Path:
    """Run all stages except those that are unchanged, and fill the repository with the artefact to serve.

    Args:
        config: Settings of the run.
        serve: False to leave the repository as it is.
        force: Whether all stages run again, from their start, where nothing has changed.

    Returns:
        Folder of the artefact to serve.

    Raises:
        DistilRecError: As ``run_stage``.
    """
    with locked_run(run_dir(config)):
        if is_first():
            save_settings(config, run_dir(config))
        for stage in stages(config):
            if stage not in _QAD_STAGES:
                manifest = run_stage(config, stage, force=force)
        if config.qad.use == "on" or (config.qad.use == "auto" and manifest.metrics["int8_within_budget"] is False):
            for stage in _QAD_STAGES:
                run_stage(config, stage, force=force)
        return fill_repository(config) if serve and is_first() else served_artefact(config)


def fill_repository(config: Config, *, with_benchmarks: bool = False) -> Path:
    """Fill the Triton repository with the artefact to serve.

    Args:
        config: Settings of the run.
        with_benchmarks: True to add the teacher (unless it is lists) and a model that does no work, for comparison.

    Returns:
        Folder of the artefact.
    """
    # Here, because ONNX and PyTorch are optional and slow to load.
    from export.repository import fill as repository

    # The teacher knows the catalogue of the training alone.
    artefact = exported_artefact(config) if with_benchmarks else served_artefact(config)
    if config.rollout.approval == "required" and repository.is_filled(config.export.repository):
        logger.info(
            '%s serves on as it is: rollout.approval = "required". Next: distilrec promote %s', config.export.repository, artefact
        )
        return artefact
    repository.fill_repository(artefact, config.export)
    if with_benchmarks:
        # Likewise.
        from distill.models.teachers.load import load_ensemble
        from export.repository.benchmark_models import fill_benchmark_models

        item_count = read_manifest(artefact).metrics["item_count"]
        weights = mixture_weights(config)
        servable = all(config.teachers[name].scores_any_history for name in weights)
        teacher = load_ensemble(config, weights, teacher_folders(config), item_count) if servable else None
        fill_benchmark_models(teacher, artefact, config.export)
    return artefact
