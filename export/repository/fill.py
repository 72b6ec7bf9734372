"""Puts an export's models into the Triton model repository."""

import filecmp
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from distilrec.config import ExportConfig, spec_of_artefact
from distilrec.core.errors import RepositoryError, UnwritableRepositoryError
from distilrec.core.files import flush_folder, write_text
from distilrec.core.filters import FilterValues
from distilrec.core.manifest import Manifest, verify_manifest
from distilrec.core.specs import FIRST_VERSION, MODEL_NAME, Precision
from distilrec.data import vocabulary as vocabularies
from export.repository.config import HEADER, ServedModelFacts
from export.repository.journal import Journal, VersionInfo, decide_move, load_journal, recover
from export.repository.locks import locked
from export.repository.models import MODELS
from export.repository.target import manifest_for_target, serving_target
from export.repository.versions import config_path, next_number, partial_folder, used_numbers, version_folder

IDENTITY_NAME = "identity"
"""Name of the model that does no work, for benchmarks."""

TEACHER_NAME = "teacher"
"""Name under which the teacher is served, for benchmarks."""


def artefact_facts(manifest: Manifest) -> ServedModelFacts:
    """What configurations state of an export stage's model."""
    return ServedModelFacts(
        spec_of_artefact(manifest),
        manifest.metrics["vocabulary_sha256"],
        Precision(manifest.metrics["precision"]),
        FilterValues(manifest.metrics.get("filters", {})),
    )


def fill_repository(artefact: Path, config: ExportConfig) -> None:
    """Put an export stage's models into the repository and pin them; the next start of a server serves them.

    They get a number that no version has had, because a server may have loaded any earlier one. What is there already with the same
    content keeps its number. A kill at any moment leaves the former versions pinned or the new one, and the next command cleans up.

    Raises:
        ManifestError: the artefact is not what its manifest says.
        RepositoryError: the repository cannot be written, or another command is changing it.
    """
    manifest = manifest_for_target(verify_manifest(artefact), config)
    serving_target(config).check_fit(artefact, manifest, config)
    repository, names = config.repository, [model.name for model in MODELS]
    try:
        repository.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RepositoryError(f"{repository}: cannot be written: {error}") from error
    with locked(repository):
        journal = _recovered(repository, names)
        new = FIRST_VERSION if _is_empty(repository, journal) else next_number(repository)
        try:
            number = _stage(artefact, manifest, config, new, journal.numbers("serving"))
            entry = VersionInfo(
                number=number,
                state="staged",
                artefact=manifest.digest,
                vocabulary_sha256=manifest.metrics["vocabulary_sha256"],
                time=datetime.now(UTC),
            )
            decide_move(repository, names, journal.put(entry), number)
        except BaseException:
            _discard(repository, names, {new, *journal.numbers("serving")})
            raise
        recover(repository, names)
        _remove_benchmark_models(repository)


def is_filled(repository: Path) -> bool:
    """Whether the repository pins a version that has its files."""
    try:
        return (version_folder(repository) / vocabularies.FILE_NAME).exists()
    except RepositoryError:
        return False


def _recovered(repository: Path, names: Sequence[str]) -> Journal:
    """The journal, after what was interrupted before."""
    try:
        return recover(repository, names)
    except UnwritableRepositoryError:
        raise
    except RepositoryError:  # nothing is pinned yet, or not one and the same version: this export mends it
        return load_journal(repository)


def _stage(artefact: Path, manifest: Manifest, config: ExportConfig, new: int, pinned: Sequence[int]) -> int:
    """Write folders, under their partial names, and configurations of a version of all models.

    Args:
        artefact: Folder of the export stage.
        manifest: Its manifest.
        config: Settings of the repository.
        new: Number for a version that is not there yet.
        pinned: Number of the version that is pinned, if there is one.

    Returns:
        The version's number: the pinned one where only the configuration may differ.
    """
    repository, number = config.repository, new
    partials = {model: partial_folder(repository / model.name / str(new)) for model in MODELS}
    for model, partial in partials.items():
        model.write(artefact, manifest, config, partial)
    for served in pinned:
        if all(_holds(repository / model.name / str(served), partial) for model, partial in partials.items()):
            for partial in partials.values():
                shutil.rmtree(partial)
            number = served
    for model, partial in partials.items():
        if partial.exists():
            flush_folder(partial)
        write_text(config_path(repository, model.name, number), model.render(artefact_facts(manifest), config, number))
    student = repository / MODEL_NAME / str(number)
    staged = partial_folder(student) if partial_folder(student).exists() else student
    serving_target(config).check(config_path(repository, MODEL_NAME, number), staged)
    return number


def _is_empty(repository: Path, journal: Journal) -> bool:
    """Whether no server can have loaded a version: there is none, or the first one has no files but those of a checkout."""
    if used_numbers(repository) - {FIRST_VERSION} or journal.numbers("good"):
        return False
    folders = [repository / model.name / str(FIRST_VERSION) for model in MODELS]
    return not all((folder / vocabularies.FILE_NAME).exists() for folder in folders)


def _holds(folder: Path, other: Path) -> bool:
    """Whether ``folder`` has all files of ``other``, with the same content."""
    names = [path.name for path in other.iterdir()]
    return folder.is_dir() and filecmp.cmpfiles(folder, other, names, shallow=False)[0] == names


def _discard(repository: Path, names: Sequence[str], numbers: set[int]) -> None:
    """Remove what was staged under these numbers."""
    for model in (repository / name for name in names):
        for number in numbers:
            shutil.rmtree(partial_folder(model / str(number)), ignore_errors=True)
            config_path(repository, model.name, number).unlink(missing_ok=True)
        with suppress(OSError):  # other versions are in it, or it does not exist
            model.rmdir()


def _remove_benchmark_models(repository: Path) -> None:
    """Remove the models of the last artefact; a model of the same name with another configuration than ours stays."""
    for name in (IDENTITY_NAME, TEACHER_NAME):
        config = repository / name / "config.pbtxt"
        if config.is_file() and config.read_text(encoding="utf-8").startswith(HEADER):
            shutil.rmtree(repository / name)
