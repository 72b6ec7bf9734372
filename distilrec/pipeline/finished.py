"""What a finished run holds: its verdicts, the student and the export that are served, and the generations of its updates."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilrec.config import Config
from distilrec.core.errors import ManifestError
from distilrec.core.manifest import Manifest, read_manifest
from distilrec.core.specs import Precision
from distilrec.pipeline.folders import (
    REFRESHED_DATA,
    REFRESHED_EXPORT,
    REFRESHED_STUDENT,
    STUDENT_FOLDERS,
    STUDENT_VERDICT,
    TEACHERS_VERDICT,
    run_dir,
)
from distilrec.pipeline.generations import newest_taken, updates_of


def weights_are_found(config: Config) -> bool:
    """Whether the weights of the teachers are found on validation users; a single teacher needs none."""
    return config.targets.weights is None and len(config.student_teachers) > 1


def mixture_weights(config: Config) -> dict[str, float]:
    """Names and weights of the teachers that the student of a finished run learned from.

    Raises:
        ManifestError: The weights have not been found yet.
    """
    if not weights_are_found(config):
        return config.student_teachers
    from distill.data.mixture_weights import read_weights  # here, because it is a part of the extra that trains

    return read_weights(run_dir(config) / TEACHERS_VERDICT)


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
