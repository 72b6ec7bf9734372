"""Which version of a model a Triton repository serves: the one that its config.pbtxt pins."""

import contextlib
import json
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.core.errors import RepositoryError
from distilrec.core.files import write_text
from distilrec.core.specs import MODEL_NAME, SERVED_MODELS

JOURNAL = "versions.json"
"""What promotion knows of a repository's versions, in its root."""


def served_version(repository: Path, model: str = MODEL_NAME) -> int:
    """The version that a server of this repository loads.

    Raises:
        RepositoryError: there is no config.pbtxt, it cannot be read, or it does not pin one version.
    """
    path = repository / model / "config.pbtxt"
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
    except OSError as error:
        raise RepositoryError(f"{path}: cannot be read ({error.strerror}). Fill the repository: distilrec export") from error
    except (UnicodeDecodeError, text_format.ParseError) as error:
        raise RepositoryError(f"{path}: not a model configuration: {error}. Fill the repository again: distilrec export") from error
    versions = list(config.version_policy.specific.versions)
    if len(versions) != 1:
        raise RepositoryError(
            f"{path}: found versions {versions} pinned, expected one. Fill the repository again: distilrec export"
        )
    return int(versions[0])


def version_folder(repository: Path, model: str = MODEL_NAME) -> Path:
    """Folder of the served version.

    Raises:
        RepositoryError: as ``served_version``.
    """
    return repository / model / str(served_version(repository, model))


def config_path(repository: Path, model: str, version: int) -> Path:
    """A version's own configuration, which is copied to config.pbtxt when it is pinned. Triton ignores it."""
    return repository / model / f"config.{version}.pbtxt"


def used_numbers(repository: Path) -> set[int]:
    """All version numbers a repository has had, as far as journal and folders tell.

    Raises:
        RepositoryError: the journal cannot be read.
    """
    path = repository / JOURNAL
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["versions"] if path.exists() else []
        numbers = {int(entry["number"]) for entry in entries}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RepositoryError(f"{path}: found no journal of versions ({error!r}). Move it away to begin a new one.") from error
    folders = [repository / model for model in SERVED_MODELS]
    names = [path.name.split(".")[0] for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return numbers | {int(name) for name in names if name.isdigit()}


def pin(repository: Path, model: str, version: int, text: str) -> None:
    """Let a model's config.pbtxt be ``text``, which serves ``version``; that of another version before is kept to go back to."""
    path = repository / model / "config.pbtxt"
    with contextlib.suppress(RepositoryError):  # there is none yet, or none that anybody could go back to
        former = served_version(repository, model)
        if former != version:
            write_text(config_path(repository, model, former), path.read_text(encoding="utf-8"))
    write_text(path, text)
