"""Puts an export's models into the Triton model repository."""

import shutil
from pathlib import Path

from distilrec.config import ExportConfig, spec_of_artefact
from distilrec.core.errors import RepositoryError
from distilrec.core.files import replace_folder
from distilrec.core.manifest import Manifest, verify_manifest
from distilrec.core.specs import FIRST_VERSION, MODEL_NAME, Precision
from export.repository.config import HEADER, ServedModelFacts
from export.repository.models import MODELS
from export.repository.target import serving_target
from export.repository.versions import partial_folder, pin, used_numbers

IDENTITY_NAME = "identity"
"""Name of the model that does no work, for benchmarks."""

TEACHER_NAME = "teacher"
"""Name under which the teacher is served, for benchmarks."""


def artefact_facts(manifest: Manifest) -> ServedModelFacts:
    """What configurations state of an export stage's model."""
    return ServedModelFacts(
        spec_of_artefact(manifest), manifest.metrics["vocabulary_sha256"], Precision(manifest.metrics["precision"])
    )


def fill_repository(artefact: Path, config: ExportConfig) -> None:
    """Put an export stage's models into the repository and pin them; the next start of a server serves them.

    They replace version 1; after promotions they get the next number, so that no number ever means two models. Each version's
    folder is written under another name and then renamed; config.pbtxt comes last.

    Raises:
        ManifestError: the artefact is not what its manifest says.
        RepositoryError: the repository cannot be written.
    """
    manifest = verify_manifest(artefact)
    number = max(used_numbers(config.repository), default=FIRST_VERSION)
    number = number + 1 if number > FIRST_VERSION else FIRST_VERSION
    versions = {model: config.repository / model.name / str(number) for model in MODELS}
    try:
        _remove_benchmark_models(config.repository)
        try:
            for model, version in versions.items():
                model.write(artefact, manifest, config, partial_folder(version))
        except BaseException:
            for version in versions.values():
                shutil.rmtree(partial_folder(version), ignore_errors=True)
            raise
        for model, version in versions.items():
            # All files at once: a model with the weights of another would answer nonsense without an error.
            replace_folder(partial_folder(version), version)
            pin(config.repository, {model.name: model.render(artefact_facts(manifest), config, number)}, number)
        serving_target(config).check(config.repository / MODEL_NAME / "config.pbtxt", config.repository / MODEL_NAME / str(number))
    except OSError as error:
        raise RepositoryError(f"{config.repository}: cannot be written: {error}") from error


def _remove_benchmark_models(repository: Path) -> None:
    """Remove the models of the last artefact; a model of the same name with another configuration than ours stays."""
    for name in (IDENTITY_NAME, TEACHER_NAME):
        config = repository / name / "config.pbtxt"
        if config.is_file() and config.read_text(encoding="utf-8").startswith(HEADER):
            shutil.rmtree(repository / name)
