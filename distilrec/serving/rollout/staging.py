"""A version's folders and configurations, written under another name and checked before they get their own."""

from collections.abc import Sequence
from pathlib import Path

from distilrec.config import ExportConfig
from distilrec.core.files import flush_folder, write_text
from distilrec.core.manifest import Manifest
from distilrec.core.specs import MODEL_NAME
from distilrec.serving.rollout import warmup
from distilrec.serving.rollout.checks import check_copy
from export.repository.fill import artefact_facts
from export.repository.models import ServedModel
from export.repository.target import serving_target
from export.repository.versions import config_path, partial_folder


def stage(
    artefact: Path, manifest: Manifest, *, repository: Path, config: ExportConfig, number: int, models: Sequence[ServedModel]
) -> None:
    """Write and check folder and configuration of every model of version ``number``, then rename the folders to their names.

    Nothing is pinned, so a server serves the version only when it is loaded explicitly.

    Raises:
        RepositoryError: what was written is not what it should be.
    """
    for model in models:
        target = repository / model.name / str(number)
        partial = partial_folder(target)
        model.write(artefact, manifest, config, partial)
        check_copy(artefact, manifest, partial)
        flush_folder(partial)
        partial.rename(target)
        text = model.render(artefact_facts(manifest), config, number)
        text += warmup.write(artefact, repository / model.name, number, text)
        write_text(config_path(repository, model.name, number), text)
    serving_target(config).check(config_path(repository, MODEL_NAME, number), repository / MODEL_NAME / str(number))
