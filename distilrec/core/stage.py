"""The stage contract: read finished folders, write one folder, skip what has not changed.

A stage works in ``<out_dir>.partial``. An interrupted stage leaves it behind, and goes on from it (checkpoints) when it is
started again with the same settings; only a finished folder is renamed to ``out_dir``.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
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
    work: Callable[[Path, Path], dict[str, Any]],
    declarations: Iterable[type] = (),
) -> Manifest:
    """Run ``work(folder, scratch) -> metrics`` unless ``out_dir`` already holds its result.

    The result depends on the settings, the seed, the inputs and the code: that of the module that defines ``work``, of
    ``declarations``, and of all that these import of DistilRec.

    Args:
        stage: Name written into the manifest.
        settings: JSON-ready values that the result depends on.
        seed: Random seed that the result depends on.
        inputs: Finished folders that ``work`` reads; each is verified first.
        out_dir: Folder that appears when the stage has finished.
        work: Writes its files into ``folder``; what it keeps for a resume (checkpoints) goes to ``scratch``.
        declarations: Kinds that the settings choose, whose modules the stage's own module does not import.

    Raises:
        ManifestError: An input is not what its manifest says.
    """
    input_digests = {name: manifests.verify_manifest(path).digest for name, path in inputs.items()}
    code = code_digest([work.__module__, *(declaration.__module__ for declaration in declarations)])
    fingerprint = manifests.sha256_of_json(
        {"stage": stage, "settings": settings, "seed": seed, "inputs": input_digests, "code": code}
    )
    finished = _finished(out_dir, fingerprint)
    if finished is not None:
        logger.info("%s: unchanged, nothing to do (%s)", stage, out_dir)
        return finished

    logger.info("%s: running (%s)", stage, out_dir)
    partial = out_dir.with_name(out_dir.name + _PARTIAL)
    metrics = _work(partial, fingerprint, work)
    manifest = Manifest(
        stage=stage,
        fingerprint=fingerprint,
        settings=settings,
        seed=seed,
        inputs=input_digests,
        versions=manifests.installed_versions(),
        files=manifests.record_files(partial),
        metrics=metrics,
    )
    manifests.write_manifest(partial, manifest)
    replace_folder(partial, out_dir)
    return manifest


def forget_stage(out_dir: Path) -> None:
    """Let the next ``run_stage`` run from its start. The finished folder stays readable until then."""
    shutil.rmtree(out_dir.with_name(out_dir.name + _PARTIAL), ignore_errors=True)
    if (out_dir / manifests.FILE_NAME).exists():
        manifest = manifests.read_manifest(out_dir)
        manifests.write_manifest(out_dir, manifest.model_copy(update={"fingerprint": _FORGOTTEN}))


def _work(partial: Path, fingerprint: str, work: Callable[[Path, Path], dict[str, Any]]) -> dict[str, Any]:
    """Do the work in ``partial``, which is left without its scratch; returns the metrics."""
    _open_partial(partial, fingerprint)
    scratch = partial / _SCRATCH
    started = time.monotonic()
    metrics = work(partial, scratch)
    shutil.rmtree(scratch)
    return {**metrics, "seconds": round(time.monotonic() - started, 2)}


def _finished(out_dir: Path, fingerprint: str) -> Manifest | None:
    """The manifest of ``out_dir`` if the folder is undamaged and holds the result for ``fingerprint``."""
    if not (out_dir / manifests.FILE_NAME).exists():
        return None
    try:
        manifest = manifests.verify_manifest(out_dir)
    except ManifestError as error:
        logger.warning("%s\nThe stage runs again.", error)
        return None
    return manifest if manifest.fingerprint == fingerprint else None


def _open_partial(partial: Path, fingerprint: str) -> None:
    """Keep the scratch of an interrupted run with the same fingerprint, drop everything else."""
    scratch = partial / _SCRATCH
    note = scratch / "fingerprint"
    if note.exists() and note.read_text() == fingerprint:
        for path in partial.iterdir():
            if path != scratch:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    shutil.rmtree(partial, ignore_errors=True)
    scratch.mkdir(parents=True)
    write_text(note, fingerprint)
