"""A version's folders and configurations, written beside and checked before they get their names."""

from collections.abc import Sequence
from pathlib import Path

from distilrec.config import ExportConfig
from distilrec.core.files import write_text
from distilrec.core.manifest import Manifest
from distilrec.core.specs import MODEL_NAME, RecommenderSpec
from distilrec.serving.rollout import warmup
from distilrec.serving.rollout.journal import flush, parse_config
from distilrec.serving.rollout.proving import check_copy
from export.repository.fill import artefact_facts
from export.repository.models import ServedModel
from export.repository.target import serving_target
from export.repository.versions import config_path, served_version


def stage(
    artefact: Path, manifest: Manifest, *, repository: Path, config: ExportConfig, number: int, models: Sequence[ServedModel]
) -> None:
    """Write folder and configuration of every model of version ``number`` beside, check them, and rename the folders in.

    Nothing is pinned, so no server sees the version unless it is told to.

    Raises:
        RepositoryError: what was written is not what it should be.
    """
    for model in models:
        target = repository / model.name / str(number)
        beside = target.with_name(f"{number}.partial")  # Triton reads folders with a number for a name only
        model.write(artefact, manifest, config, beside)
        check_copy(artefact, manifest, beside)
        flush(beside)
        beside.rename(target)
        text = model.render(artefact_facts(manifest), config, number)
        text += warmup.write(artefact, repository / model.name, number, text)
        write_text(config_path(repository, model.name, number), text)
    serving_target(config).check(config_path(repository, MODEL_NAME, number), repository / MODEL_NAME / str(number))


def version_config(repository: Path, model: str, version: int) -> str:
    """A version's configuration: config.pbtxt while it is pinned, else its own file."""
    pinned = served_version(repository, model) == version
    path = repository / model / "config.pbtxt" if pinned else config_path(repository, model, version)
    return path.read_text(encoding="utf-8")


def config_spec(text: str) -> RecommenderSpec:
    """Sizes of the student, from its configuration."""
    config = parse_config(text)
    dims = {tensor.name: tensor.dims[0] for tensor in (*config.input, *config.output)}
    return RecommenderSpec(int(config.parameters["item_count"].string_value), dims["history"], dims["exclude"], dims["items"])
