"""The versions of a Triton repository's models: their files, their numbers, and the one that each config.pbtxt pins."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.core.errors import RepositoryError
from distilrec.core.files import replace_folder, write_text
from distilrec.core.specs import MODEL_NAME, SERVED_MODELS

JOURNAL = "versions.json"
"""Name of the file in a repository's root that holds what promotion knows of its versions (``serving/rollout/journal.py``)."""

DRIFT_FILE = "drift.json"
"""Name of the file in a repository's root that holds what ``distilrec drift`` found."""

LARGEST_VERSION = 999_999_999
"""Largest number of a version. Folders with larger numbers are none of ours, and Triton cannot read much larger ones."""

WARMUP = "warmup"
"""Name of the folder below a model's folder in which Triton looks for the model's first requests."""


def parse_config(text: str) -> model_config_pb2.ModelConfig:
    """The configuration that the text of a config.pbtxt holds. Raises text_format.ParseError."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def served_version(repository: Path, model: str = MODEL_NAME) -> int:
    """The version that a server of this repository loads.

    Raises:
        RepositoryError: there is no config.pbtxt, it cannot be read, or it does not pin one version.
    """
    path = repository / model / "config.pbtxt"
    try:
        config = parse_config(path.read_text(encoding="utf-8"))
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


def partial_folder(version: Path) -> Path:
    """Where a version's folder is written before it is renamed to ``version``, or goes before it is removed.

    Triton reads only folders whose name is a number.
    """
    return version.with_name(f"{version.name}.partial")


def config_path(repository: Path, model: str, version: int) -> Path:
    """A version's own configuration, which becomes config.pbtxt when the version is pinned. Triton ignores it."""
    return repository / model / f"config.{version}.pbtxt"


def review_path(repository: Path, version: int) -> Path:
    """The page that people review before they approve a version. It lies in the root, where Triton looks only at folders."""
    return repository / f"review-{version}.html"


def version_configs(repository: Path, models: Iterable[str], version: int) -> dict[str, str]:
    """The configuration of each model's ``version``, by the model's name: config.pbtxt where it pins it, else its own file."""
    texts = {}
    for model in models:
        pinned = served_version(repository, model) == version
        path = repository / model / "config.pbtxt" if pinned else config_path(repository, model, version)
        texts[model] = path.read_text(encoding="utf-8")
    return texts


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
    numbers |= {int(name) for name in names if re.fullmatch("[0-9]{1,9}", name)}
    return {number for number in numbers if number <= LARGEST_VERSION}


def next_number(repository: Path) -> int:
    """One more than the largest number ever used: a response cache may still hold answers of any earlier version.

    Raises:
        RepositoryError: the journal cannot be read, or there is no larger number.
    """
    number = 1 + max(used_numbers(repository), default=0)
    if number > LARGEST_VERSION:
        raise RepositoryError(
            f"{repository}: found a folder or journal entry of version {LARGEST_VERSION}, expected smaller ones; remove it"
        )
    return number


def save_pinned(repository: Path, model: str, moving_to: int) -> None:
    """Keep the configuration of the version that is pinned now, unless it is the one that the pin moves to."""
    with contextlib.suppress(RepositoryError):  # there is no config.pbtxt yet, or none that could be gone back to
        former = served_version(repository, model)
        if former != moving_to:
            text = (repository / model / "config.pbtxt").read_text(encoding="utf-8")
            write_text(config_path(repository, model, former), text)


def move_pin(repository: Path, model: str, version: int) -> None:
    """Let config.pbtxt serve ``version``, by renames alone: of its folder, where that is still partial, and of its configuration.

    What has its name already is left as it is, so an interrupted move is finished by the same call.
    """
    folder = repository / model / str(version)
    if partial_folder(folder).exists():
        # All files at once: a model with the weights of another would answer nonsense without an error.
        replace_folder(partial_folder(folder), folder)
    with contextlib.suppress(FileNotFoundError):
        config_path(repository, model, version).replace(folder.with_name("config.pbtxt"))


def remove_version(repository: Path, model: str, version: int) -> None:
    """Remove a version that is not pinned. Its folder vanishes at once, by a rename to a name that Triton does not read."""
    folder = repository / model / str(version)
    if folder.exists():
        partial = partial_folder(folder)
        shutil.rmtree(partial, ignore_errors=True)
        folder.rename(partial)
        shutil.rmtree(partial, ignore_errors=True)
    config_path(repository, model, version).unlink(missing_ok=True)
    for request in (repository / model / WARMUP).glob(f"{version}.*"):
        request.unlink()
    with contextlib.suppress(OSError):  # requests of other versions are in there, or the folder does not exist
        (repository / model / WARMUP).rmdir()
