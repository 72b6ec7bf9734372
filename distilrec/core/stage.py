"""The stage contract: read finished folders, write one folder, skip what has not changed.

A stage works in ``<out_dir>.partial``. An interrupted stage leaves it behind, and goes on from it (checkpoints) when it is
started again with the same settings; only a finished folder is renamed to ``out_dir``.
"""

import json
import logging
import shutil
import tempfile
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
from distilrec.core.ranks import is_first

logger = logging.getLogger(__name__)

Inputs = Mapping[str, Path]
"""Finished stage folders by stage name."""

Work = Callable[[Path, Path], dict[str, Any]]
"""``work(folder, scratch) -> metrics`` writes its files into ``folder``; what it keeps for a resume goes to ``scratch``."""

_SCRATCH = ".scratch"
_PARTIAL = ".partial"
_NOTE = "fingerprint"
"""File in the scratch that says whose it is."""
_POLL_S = 0.2
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
    shared: bool = False,
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
        shared: Whether all processes do the work together (``core.ranks``). Otherwise the first does it, and the others wait.

    Raises:
        ManifestError: An input is damaged, ``out_dir`` is a folder that no stage has written, or nothing can be written.
    """
    digests = {name: manifests.verify_manifest(path).digest for name, path in inputs.items()}
    code = code_digest([work.__module__, *(declaration.__module__ for declaration in declarations)])
    origin: dict[str, Any] = {"stage": stage, "settings": settings, "seed": seed, "inputs": digests}
    fingerprint = manifests.sha256_of_json(origin | {"code": code})
    if not is_first():
        return _follow(out_dir, fingerprint, work if shared else None)
    finished = _finished(out_dir, fingerprint)
    if finished is not None:
        logger.info("%s: unchanged, nothing to do (%s)", stage, out_dir)
        return finished
    return _make(out_dir, fingerprint, origin, work)


def _make(out_dir: Path, fingerprint: str, origin: dict[str, Any], work: Work) -> Manifest:
    """Do the work, and give it its manifest and its name."""
    _check_replaceable(out_dir)
    logger.info("%s: running (%s)", origin["stage"], out_dir)
    partial = out_dir.with_name(out_dir.name + _PARTIAL)
    metrics = _run_work(partial, fingerprint, work)
    versions, files = manifests.installed_versions(), manifests.record_files(partial)
    manifest = Manifest(**origin, fingerprint=fingerprint, versions=versions, files=files, metrics=metrics)
    manifests.write_manifest(partial, manifest)
    _check_replaceable(out_dir)
    replace_folder(partial, out_dir)
    return manifest


def _follow(out_dir: Path, fingerprint: str, work: Work | None) -> Manifest:
    """Take part in the work of the first process where there is any, and wait until it has finished the stage.

    What this process makes is thrown away. If the first process fails, torchrun ends this one.
    """
    if work is not None and not _has_fingerprint(out_dir, fingerprint):
        scratch = out_dir.with_name(out_dir.name + _PARTIAL) / _SCRATCH
        _wait_until(lambda: (scratch / _NOTE).exists() and (scratch / _NOTE).read_text("utf-8") == fingerprint)
        with tempfile.TemporaryDirectory() as folder:
            work(Path(folder), scratch)
    _wait_until(lambda: _has_fingerprint(out_dir, fingerprint))
    return manifests.verify_manifest(out_dir)


def _has_fingerprint(out_dir: Path, fingerprint: str) -> bool:
    try:
        return manifests.read_manifest(out_dir).fingerprint == fingerprint
    except ManifestError:
        return False


def _wait_until(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(_POLL_S)


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
    note = scratch / _NOTE
    if note.exists() and note.read_bytes() == fingerprint.encode():
        for path in partial.iterdir():
            if path != scratch:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    shutil.rmtree(partial, ignore_errors=True)
    scratch.mkdir(parents=True)
    write_text(note, fingerprint)
