"""Checks what a model repository must hold before a server starts on it."""

from pathlib import Path

from distilrec.core import filters, histories
from distilrec.core.errors import ServerError
from distilrec.core.specs import FRONT_DOOR_NAME, MODEL_FILE, MODEL_NAME, PLAN_FILE
from export.artefact import HEAD_FILE
from export.engines.plan import read_plan_manifest
from export.repository.versions import version_folder


def check_repository(repository: Path) -> None:
    """Refuse a repository whose models could not load: an incomplete version folder can hang the server.

    Raises:
        ServerError: config.pbtxt of the student, or a file that a pinned version needs, is missing.
        RepositoryError: a config.pbtxt cannot be read or pins no version.
    """
    folder = repository / MODEL_NAME
    if not (folder / "config.pbtxt").is_file():
        raise ServerError(
            f"{repository}: found no {folder / 'config.pbtxt'}. Fill the repository first: distilrec run --preset ml-100k"
        )
    version = version_folder(repository)
    model_file = next((name for name in (PLAN_FILE, HEAD_FILE) if (version / name).is_file()), MODEL_FILE)
    required = [version / name for name in ("model.py", model_file)]
    for config in sorted(repository.glob("*/config.pbtxt")):
        # A model of the Python backend reports by itself which other files it lacks, but without model.py the server hangs.
        if 'backend: "python"' in config.read_text(encoding="utf-8", errors="replace"):
            required.append(version_folder(repository, config.parent.name) / "model.py")
    if missing := [str(path) for path in dict.fromkeys(required) if not path.is_file()]:
        raise ServerError(f"{repository}: found no {', '.join(missing)}. Fill the repository first: distilrec run --preset ml-100k")
    if (repository / FRONT_DOOR_NAME / "config.pbtxt").is_file():
        _check_shared_files(version_folder(repository, FRONT_DOOR_NAME))


def plan_options(repository: Path) -> list[str]:
    """Options of the server that the pinned version's plan needs; none where it has no plan.

    A version-compatible plan brings code of its own TensorRT. The backend runs that only when it is told to.

    Raises:
        EngineError: the plan has no manifest, or one that was edited.
    """
    plan = version_folder(repository) / PLAN_FILE
    if not plan.is_file() or not read_plan_manifest(plan).version_compatible:
        return []
    return ["--backend-config=tensorrt,version-compatible=true"]


def _check_shared_files(front_door: Path) -> None:
    """Refuse a front door whose model.py came with an update of the code, without the files that it imports since then.

    Raises:
        ServerError: one of these files is missing.
    """
    source = (front_door / "model.py").read_text(encoding="utf-8", errors="replace")
    for shared in (Path(str(module.__file__)) for module in (histories, filters)):
        if f"from {shared.stem} import" in source and not (front_door / shared.name).is_file():
            raise ServerError(
                f"{front_door}: found a model.py that imports {shared.name}, and no {shared.name}: the repository was filled by an"
                " earlier version of DistilRec. Fill it again: distilrec export"
            )
