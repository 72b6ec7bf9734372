"""An exported artefact on the Hugging Face hub: push it with its model card, and pull it for a server.

The repository holds the artefact in the folder ``export``, and the card of the student that it was made of as README.md.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distilrec.config import Config
from distilrec.core.errors import HubError, MissingExtraError
from distilrec.core.files import replace_folder
from distilrec.core.manifest import verify_manifest
from distilrec.evaluation.model_card import FILE_NAME as CARD
from distilrec.pipeline.finished import exported_student, served_artefact

FOLDER = "export"
"""Folder of the artefact in the repository."""


def push(config: Config, repository: str, *, public: bool = False) -> str:
    """Upload the artefact that is served, and its model card, in one commit.

    Args:
        config: Settings of the run.
        repository: "user/name"; it is made where it does not exist.
        public: Whether a new repository can be read by everybody.

    Returns:
        Address of the commit.

    Raises:
        ManifestError: Nothing has been exported, or a file of it is damaged.
        HubError: The hub refuses, or cannot be reached.
        MissingExtraError: The package ``huggingface_hub`` is not installed.
    """
    artefact = served_artefact(config)
    verify_manifest(artefact)
    card = exported_student(config) / CARD
    with _hub(repository) as hub:
        api = hub.HfApi()
        api.create_repo(repository, private=not public, exist_ok=True)
        files = {
            f"{FOLDER}/{path.relative_to(artefact).as_posix()}": path for path in sorted(artefact.rglob("*")) if path.is_file()
        }
        added = [hub.CommitOperationAdd(name, path) for name, path in {CARD: card, **files}.items()]
        # What an earlier export had and this one has not.
        gone = [name for name in api.list_repo_files(repository) if name.startswith(f"{FOLDER}/") and name not in files]
        removed = [hub.CommitOperationDelete(name) for name in gone]
        commit = api.create_commit(repository, [*added, *removed], commit_message=f"DistilRec run {config.name}")
    return str(commit.commit_url)


def pull(repository: str, folder: Path, *, revision: str | None = None) -> Path:
    """Download an artefact, and check it against its manifest before it takes its place.

    Args:
        repository: "user/name".
        folder: Folder of the artefact; a former artefact in it is replaced.
        revision: Branch, tag or commit; None for the newest.

    Returns:
        ``folder``.

    Raises:
        ManifestError: It is no whole artefact; ``folder`` stays as it was.
        HubError: The hub refuses, or cannot be reached.
        MissingExtraError: The package ``huggingface_hub`` is not installed.
    """
    if folder.exists():
        verify_manifest(folder)  # nothing else is ever replaced
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}.") as scratch:
        with _hub(repository) as hub:
            hub.snapshot_download(repository, revision=revision, local_dir=scratch, allow_patterns=[f"{FOLDER}/**"])
        verify_manifest(Path(scratch) / FOLDER)
        replace_folder(Path(scratch) / FOLDER, folder)
    return folder


@contextmanager
def _hub(repository: str) -> Iterator[Any]:
    """The package ``huggingface_hub``, whose errors become ours."""
    try:
        import huggingface_hub  # optional
        from huggingface_hub.errors import HFValidationError, HTTPError  # type: ignore[attr-defined]  # of its HTTP client
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The package {error.name!r}", "train") from error
    try:
        yield huggingface_hub
    except (HTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise HubError(
            f"{repository}: the hub could not be used: {reason}. Check the name (user/name), the token (`hf auth login`,"
            " HF_TOKEN) and the address (HF_ENDPOINT)."
        ) from error
