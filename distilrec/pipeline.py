"""All stages in their order, each in its folder below the run's, and what of it is served."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from distilrec.config import Config
from distilrec.errors import MissingExtraError
from distilrec.manifest import Manifest, read_manifest
from distilrec.specs import Precision
from distilrec.stage import Inputs

StageFunction = Callable[[Config, Inputs, Path], Manifest]


class _Stage(NamedTuple):
    module: str
    """Module with ``run()``."""
    extra: str
    """Installs what it needs."""
    inputs: Mapping[str, str]
    """Folder of each thing it reads."""


_STAGES = {
    "data": _Stage("distilrec.data.stage", "train", {}),
    "teacher": _Stage("distill.teacher_stage", "train", {"data": "data"}),
    "targets": _Stage("distill.targets_stage", "train", {"data": "data", "teacher": "teacher"}),
    "student-undistilled": _Stage("distill.student_stage", "train", {"data": "data"}),
    "student": _Stage("distill.student_stage", "train", {"data": "data", "targets": "targets"}),
    "export": _Stage("export.stage", "export", {"data": "data", "student": "student"}),
    # Only when INT8 needs it (see QadConfig):
    "student-qad": _Stage("distill.qad_stage", "train", {"data": "data", "student": "student"}),
    "export-qad": _Stage("export.stage", "export", {"data": "data", "student": "student-qad", "reference": "export"}),
}

STAGES = tuple(_STAGES)
"""Names of the stages' folders, in their order."""

_QAD_STAGES = ("student-qad", "export-qad")


def run_dir(config: Config) -> Path:
    """Folder of a run's stages."""
    return Path("runs") / config.name


def run_stage(config: Config, stage: str) -> Manifest:
    """Run one stage on what the stages before it have left.

    Raises:
        DistilRecError: as the stage says; ManifestError when an earlier stage has not been run.
    """
    module, extra, inputs = _STAGES[stage]
    folder = run_dir(config)
    try:
        function: StageFunction = import_module(module).run
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The package {error.name!r}", extra) from error
    return function(config, {role: folder / name for role, name in inputs.items()}, folder / stage)


def run_all(config: Config) -> Path:
    """Run all stages, those that are unchanged are skipped, and fill the repository; returns the artefact that is served."""
    for stage in STAGES:
        if stage not in _QAD_STAGES:
            manifest = run_stage(config, stage)
    if config.qad.use == "on" or (config.qad.use == "auto" and manifest.metrics["int8_within_budget"] is False):
        for stage in _QAD_STAGES:
            run_stage(config, stage)
    return fill_repository(config)


def served_artefact(config: Config) -> Path:
    """The export to serve: the one trained for INT8 where that is what let INT8 ship, else the plain one.

    Raises:
        ManifestError: nothing has been exported.
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
    """Put the artefact to serve into the Triton repository; returns the artefact.

    Args:
        config: of the run.
        with_benchmarks: also the teacher, and a model that does no work, to compare with.
    """
    from export import repository

    artefact = served_artefact(config)
    repository.fill_repository(artefact, config.export)
    if with_benchmarks:
        from distill.teacher_stage import load_teacher

        item_count = read_manifest(artefact).metrics["item_count"]
        repository.fill_benchmark_models(load_teacher(config, run_dir(config) / "teacher", item_count), artefact, config.export)
    return artefact
