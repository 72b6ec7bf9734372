"""The stage contract: read finished folders, write one folder, skip what has not changed.

A stage works in ``<out_dir>.partial``. An interrupted stage leaves it behind, and goes on from it (checkpoints) when it is
started again with the same settings; only a finished folder is renamed to ``out_dir``.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distilrec.core import manifest as manifests
from distilrec.core.code import code_digest
from distilrec.core.errors import ManifestError
from distilrec.core.files import replace_folder, write_text
from distilrec.core.manifest import Manifest

logger = logging.getLogger(__name__)

Inputs = Mapping[str, Path]
"""Finished stage folders by stage name."""

Work = Callable[[Path, Path], dict[str, Any]]
"""``work(folder, scratch) -> metrics`` writes its files into ``folder``; what it keeps for a resume goes to ``scratch``."""

_SCRATCH = ".scratch"
_PARTIAL = ".partial"
_FORGOTTEN = "forgotten"
"""Fingerprint of a finished folder that is to be made again."""


def run_stage(
    stage: str,
    *,
    settings: dict[str, Any],
    seed: int,
    inputs: Inputs,
    out_dir: Path,
    work: Work,
    declarations: Iterable[type | Callable[..., Any]] = (),
) -> Manifest:
    """Run ``work`` unless ``out_dir`` already holds its result for these settings, seed, inputs and code.

    Args:
        stage: Name written into the manifest.
        settings: JSON-ready values that the result depends on.
        seed: Random seed that the result depends on.
        inputs: Finished folders that ``work`` reads; each is verified first.
        out_dir: Folder that appears when the stage has finished.
        work: Makes the result. Its module's code counts, and that of all that it imports of DistilRec.
        declarations: What the settings choose and the module of ``work`` does not import; its modules count, too.

    Raises:
        ManifestError: An input is damaged, ``out_dir`` is a folder that no stage has written, or nothing can be written.
    """
    digests = {name: manifests.verify_manifest(path).digest for name, path in inputs.items()}
    code = code_digest([work.__module__, *(declaration.__module__ for declaration in declarations)])
    origin: dict[str, Any] = {"stage": stage, "settings": settings, "seed": seed, "inputs": digests}
    fingerprint = manifests.sha256_of_json(origin | {"code": code})
    finished = _finished(out_dir, fingerprint)
    if finished is not None:
        logger.info("%s: unchanged, nothing to do (%s)", stage, out_dir)
        return finished
    _check_replaceable(out_dir)
    logger.info("%s: running (%s)", stage, out_dir)
    partial = out_dir.with_name(out_dir.name + _PARTIAL)
    metrics = _run_work(partial, fingerprint, work)
    versions, files = manifests.installed_versions(), manifests.record_files(partial)
    manifest = Manifest(**origin, fingerprint=fingerprint, versions=versions, files=files, metrics=metrics)
    _finish(partial, out_dir, manifest)
    return manifest


def _finish(partial: Path, out_dir: Path, manifest: Manifest) -> None:
    """Give the finished work its manifest and its name."""
    manifests.write_manifest(partial, manifest)
    _check_replaceable(out_dir)
    replace_folder(partial, out_dir)


def forget_stage(out_dir: Path) -> None:
    """Let the next ``run_stage`` run from its start. The finished folder stays readable until then."""
    shutil.rmtree(out_dir.with_name(out_dir.name + _PARTIAL), ignore_errors=True)
    if (out_dir / manifests.FILE_NAME).exists():
        manifest = manifests.read_manifest(out_dir)
        manifests.write_manifest(out_dir, manifest.model_copy(update={"fingerprint": _FORGOTTEN}))


@contextmanager
def _named_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into a ManifestError that names the place."""
    try:
        yield
    except OSError as error:
        raise ManifestError(
            f"{error.filename or folder}: cannot be written ({error.strerror}), expected a place for the results of a stage. Check"
            " its permissions, the mount and the free space."
        ) from error


def _run_work(partial: Path, fingerprint: str, work: Work) -> dict[str, Any]:
    """Do the work in ``partial``, which is left without its scratch; returns the metrics."""
    with _named_errors(partial):
        _open_partial(partial, fingerprint)
    scratch = partial / _SCRATCH
    started = time.monotonic()
    metrics = work(partial, scratch)
    shutil.rmtree(scratch)
    return {**metrics, "seconds": round(time.monotonic() - started, 2)}


def _finished(out_dir: Path, fingerprint: str) -> Manifest | None:
    """The manifest of ``out_dir`` if the folder is undamaged and holds the result for ``fingerprint``."""
    with _named_errors(out_dir):
        if not (out_dir / manifests.FILE_NAME).exists():
            return None
    try:
        manifest = manifests.verify_manifest(out_dir)
    except ManifestError as error:
        logger.warning("%s\nThe stage runs again.", error)
        return None
    return manifest if manifest.fingerprint == fingerprint else None


def _check_replaceable(out_dir: Path) -> None:
    """Refuse to replace files that no stage has written: a folder is a stage's own if it is empty or holds a manifest of DistilRec.

    A manifest that this version cannot read, or whose files are damaged, is still a stage's own.

    Raises:
        ManifestError: ``out_dir`` is a file, or a folder with anything else in it.
    """
    if not out_dir.exists() or (out_dir.is_dir() and (_has_manifest(out_dir) or not any(out_dir.iterdir()))):
        return
    raise ManifestError(
        f"{out_dir}: found files that no stage of DistilRec has written (no {manifests.FILE_NAME} of ours), expected an empty place"
        " or a finished stage. They are left as they are. Move them away, or choose another name for the run."
    )


def _has_manifest(folder: Path) -> bool:
    """Whether ``manifest.json`` is one of DistilRec, of any version."""
    try:
        content = json.loads((folder / manifests.FILE_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and "format_version" in content


def _open_partial(partial: Path, fingerprint: str) -> None:
    """Keep the scratch of an interrupted run with the same fingerprint, drop everything else."""
    scratch = partial / _SCRATCH
    note = scratch / "fingerprint"
    if note.exists() and note.read_bytes() == fingerprint.encode():
        for path in partial.iterdir():
            if path != scratch:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    shutil.rmtree(partial, ignore_errors=True)
    scratch.mkdir(parents=True)
    write_text(note, fingerprint)
