"""All stages of a run in their order, each with a folder below the run's folder, and which student and export of it ship."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from distilrec.config import Config, StudentName
from distilrec.core.errors import ConfigError, ManifestError, MissingExtraError
from distilrec.core.manifest import Manifest, read_manifest, verify_manifest
from distilrec.core.memory import give_back_memory
from distilrec.core.ranks import is_first, processes
from distilrec.core.specs import Precision
from distilrec.core.stage import forget_stage
from distilrec.data.dataset import load_dataset
from distilrec.data.sizes import with_sizes
from distilrec.data.vocabulary import FILE_NAME as VOCABULARY
from distilrec.data.vocabulary import load_vocabulary
from distilrec.pipeline.generations import newest_taken, updates_of
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


TEACHERS_VERDICT = "teachers-verdict"
"""Folder of the stage that judges the teachers."""

MIXED_TARGETS = "mixed-targets"
"""Folder of their soft targets, mixed with the weights that this stage found."""

STUDENT_FOLDERS: dict[StudentName, str] = {"undistilled": "student-undistilled", "distilled": "student"}
"""Stage folder of each student."""

STUDENT_VERDICT = "student-verdict"
"""Stage folder of the choice between the students."""

_QAD_STAGES = ("student-qad", "export-qad")

REFRESHED_DATA, REFRESHED_TEXT = "refreshed-data", "refreshed-text"
REFRESHED_STUDENT, REFRESHED_EXPORT = "refreshed-student", "refreshed-export"
"""Stage folders of a refresh: a run's catalogue, the embeddings of its texts, its student and its export as they are now."""


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
    if _weights_are_found(config):
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


def _weights_are_found(config: Config) -> bool:
    """Whether the weights of the teachers are found on validation users; a single teacher needs none."""
    return config.targets.weights is None and len(config.student_teachers) > 1


def mixture_weights(config: Config) -> dict[str, float]:
    """Names and weights of the teachers that the student of a finished run learned from.

    Raises:
        ManifestError: The weights have not been found yet.
    """
    if not _weights_are_found(config):
        return config.student_teachers
    from distill.data.mixture_weights import read_weights  # here, because it is a part of the extra that trains

    return read_weights(run_dir(config) / TEACHERS_VERDICT)


def run_dir(config: Config) -> Path:
    """Folder that holds the stage folders of a run."""
    return Path("runs") / config.name


def teacher_folders(config: Config) -> dict[str, Path]:
    """Folder of each teacher by its name."""
    return {name: run_dir(config) / f"teacher-{name}" for name in config.teachers}


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


def teachers_verdict(config: Config) -> dict[str, Any]:
    """Metrics of the stage ``teachers-verdict``: weights of the teachers, the reason, and the figures.

    Raises:
        ManifestError: The stage has not been run.
    """
    return read_manifest(run_dir(config) / TEACHERS_VERDICT).metrics


def student_verdict(config: Config) -> dict[str, Any]:
    """Metrics of the stage ``student-verdict``: which student ships, why, and the figures.

    Raises:
        ManifestError: The stage has not been run.
    """
    return read_manifest(run_dir(config) / STUDENT_VERDICT).metrics


def shipped_student(config: Config) -> Path:
    """Folder of the student that the stage ``student-verdict`` has chosen.

    Raises:
        ManifestError: The stage has not been run, or a student has been trained again since.
    """
    verdict = run_dir(config) / STUDENT_VERDICT
    manifest = read_manifest(verdict)
    folders = {name: run_dir(config) / stage for name, stage in STUDENT_FOLDERS.items()}
    for name, folder in folders.items():
        if manifest.inputs[name] != read_manifest(folder).digest:
            raise ManifestError(
                f"{verdict}: found a verdict on another student than the one in {folder}, expected one on both present students."
                f" Compare them: distilrec export --preset {config.name}"
            )
    return folders[manifest.metrics["ships"]]


@dataclass(frozen=True)
class Generation:
    """The folders of a run's models: as they were trained, or as an update made them."""

    number: int
    """Number of the update; 0 for the training."""
    data: Path
    text: Path
    student: Path
    verdict: Path
    artefact: Path


def line_of(config: Config) -> str:
    """Digest of the trained student that was exported, which all its updates go back to.

    Raises:
        ManifestError: Nothing has been exported.
    """
    return read_manifest(exported_artefact(config)).inputs["student"]


def generation(config: Config) -> Generation:
    """The newest models of a run that may be served: those of the last update that was taken, or those of the training.

    Raises:
        ManifestError: Nothing has been exported, or a student has been trained again since.
    """
    folder = run_dir(config)
    newest = newest_taken(updates_of(folder, line_of(config)), config.export.repository)
    if newest is not None:
        return Generation(newest.number, newest.data, newest.text, newest.student, newest.verdict, newest.export)
    student = exported_student(config)
    return Generation(0, folder / "data", folder / "text", student, folder / STUDENT_VERDICT, exported_artefact(config))


def is_refreshed(config: Config, generation: Generation) -> bool:
    """Whether the last refresh of the run's catalogue was one of these models."""
    refreshed = run_dir(config) / REFRESHED_DATA
    return refreshed.exists() and read_manifest(refreshed).inputs["data"] == read_manifest(generation.data).digest


def served_artefact(config: Config, *, updates: bool = True) -> Path:
    """Folder of the export to serve: that of the newest update that was taken, or the one that training led to, as refreshed last.

    Args:
        config: Settings of the run.
        updates: False for the trained models, which the evaluation and the report of a run are about.

    Raises:
        ManifestError: Nothing has been exported.
    """
    newest = newest_taken(updates_of(run_dir(config), line_of(config)), config.export.repository) if updates else None
    exported, refreshed = newest.export if newest else exported_artefact(config), run_dir(config) / REFRESHED_EXPORT
    if not refreshed.exists():
        return exported
    student, trained = read_manifest(run_dir(config) / REFRESHED_STUDENT), read_manifest(exported)
    found = read_manifest(refreshed)
    same_student = (found.inputs["student"], student.inputs["student"]) == (student.digest, trained.inputs["student"])
    same_sizes = all(found.settings[name] == trained.settings[name] for name in _SIZES)
    return refreshed if same_student and same_sizes else exported


_SIZES = ("history_length", "exclude_length", "top_k")


def exported_student(config: Config) -> Path:
    """Folder of the student that ``exported_artefact`` was made of.

    Raises:
        ManifestError: Nothing has been exported, or a student has been trained again since.
    """
    folder = run_dir(config) / "student-qad" if exported_artefact(config).name == "export-qad" else shipped_student(config)
    expected = read_manifest(exported_artefact(config)).inputs["student"]
    if read_manifest(folder).digest != expected:
        raise ManifestError(f"{folder}: found another student than the exported one. Export it: distilrec export")
    return folder


def exported_artefact(config: Config) -> Path:
    """Folder of the export of the trained student: of the one trained for INT8 if INT8 ships only by that training, else the plain.

    Raises:
        ManifestError: Nothing has been exported.
    """
    plain, qad = (run_dir(config) / name for name in ("export", "export-qad"))
    exported = read_manifest(plain)
    if config.qad.use == "off" or not qad.exists() or (_serves_int8(exported) and exported.metrics["int8_within_budget"]):
        return plain
    trained_for_int8 = read_manifest(qad)
    fresh = trained_for_int8.inputs["reference"] == exported.digest
    return qad if fresh and _serves_int8(trained_for_int8) else plain


def _serves_int8(manifest: Manifest) -> bool:
    return bool(manifest.metrics["precision"] == Precision.INT8.value)


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
