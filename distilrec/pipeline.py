"""All stages in their order, each in its folder below the run's."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from distilrec.config import Config
from distilrec.errors import MissingExtraError
from distilrec.manifest import Manifest
from distilrec.stage import Inputs

StageFunction = Callable[[Config, Inputs, Path], Manifest]

_STAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    # folder: (module with run(), extra that installs what it needs, folders it reads)
    "data": ("distilrec.data.stage", "train", ()),
    "teacher": ("distill.teacher_stage", "train", ("data",)),
    "targets": ("distill.targets_stage", "train", ("data", "teacher")),
    "student-undistilled": ("distill.student_stage", "train", ("data",)),
    "student": ("distill.student_stage", "train", ("data", "targets")),
    "export": ("export.stage", "export", ("data", "student")),
}

STAGES = tuple(_STAGES)
"""Names of the stages' folders, in their order."""


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
    manifest = function(config, {name: folder / name for name in inputs}, folder / stage)
    if stage == "export":
        _fill_repository(config, folder / stage)
    return manifest


def run_all(config: Config) -> dict[str, Manifest]:
    """Run all stages; those that are unchanged are skipped."""
    return {stage: run_stage(config, stage) for stage in STAGES}


def _fill_repository(config: Config, artefact: Path) -> None:
    from export.repository import fill_repository

    fill_repository(artefact, config.export)
