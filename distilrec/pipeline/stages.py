"""All stages of a run in their order, each with a folder below the run's folder, and the choice of the export to serve."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from distilrec.config import Config
from distilrec.core.errors import MissingExtraError
from distilrec.core.manifest import Manifest, read_manifest
from distilrec.core.specs import Precision
from distilrec.core.stage import forget_stage
from distilrec.pipeline.run_lock import locked_run

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
    learned = _add_mixture(graph, config.student_teachers)
    graph["student-undistilled"] = _Stage("distill.stages.student", "train", trained)
    graph["student"] = _Stage("distill.stages.student", "train", trained | learned)
    graph["export"] = _Stage("export.stage", "export", data | {"student": "student"})
    # These two run only if INT8 needs them (see QadConfig).
    graph["student-qad"] = _Stage("distill.stages.qad", "train", data | {"student": "student"})
    graph["export-qad"] = _Stage("export.stage", "export", data | {"student": "student-qad", "reference": "export"})
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
    with locked_run(folder):
        if force:
            forget_stage(folder / stage)
        return function(config, {role: folder / name for role, name in found.inputs.items()}, folder / stage, **found.options)


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
        for stage in stages(config):
            if stage not in _QAD_STAGES:
                manifest = run_stage(config, stage, force=force)
        if config.qad.use == "on" or (config.qad.use == "auto" and manifest.metrics["int8_within_budget"] is False):
            for stage in _QAD_STAGES:
                run_stage(config, stage, force=force)
        return fill_repository(config) if serve else served_artefact(config)


def served_artefact(config: Config) -> Path:
    """Folder of the export to serve: the student trained for INT8 if INT8 ships only by that training, else the plain student.

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

    artefact = served_artefact(config)
    repository.fill_repository(artefact, config.export)
    if with_benchmarks:
        # Likewise.
        from distill.models.teachers.load import load_ensemble
        from export.repository.benchmark_models import fill_benchmark_models

        item_count = read_manifest(artefact).metrics["item_count"]
        servable = all(config.teachers[name].scores_any_history for name in config.student_teachers)
        teacher = load_ensemble(config, teacher_folders(config), item_count) if servable else None
        fill_benchmark_models(teacher, artefact, config.export)
    return artefact
