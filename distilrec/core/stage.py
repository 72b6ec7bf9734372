"""The stage contract: read finished folders, write one folder, skip what has not changed.

A stage works in ``<out_dir>.partial``. An interrupted stage leaves it behind, and goes on from it (checkpoints) when it is
started again with the same settings; only a finished folder is renamed to ``out_dir``.
"""

import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distilrec import __version__
from distilrec.core import manifest as manifests
from distilrec.core.errors import ManifestError
from distilrec.core.files import replace_folder, write_text
from distilrec.core.manifest import Manifest

logger = logging.getLogger(__name__)

Inputs = Mapping[str, Path]
"""Finished stage folders by stage name."""

_SCRATCH = ".scratch"


def run_stage(
    stage: str,
    *,
    settings: dict[str, Any],
    seed: int,
    inputs: Inputs,
    out_dir: Path,
    work: Callable[[Path, Path], dict[str, Any]],
) -> Manifest:
    """Run ``work(folder, scratch) -> metrics`` unless ``out_dir`` already holds its result.

    Args:
        stage: name written into the manifest.
        settings: JSON-ready values the result depends on.
        seed: random seed the result depends on.
        inputs: finished folders ``work`` reads; each is verified first.
        out_dir: folder that appears when the stage has finished.
        work: writes its files into ``folder``; what it keeps for a resume (checkpoints) goes to ``scratch``.

    Raises:
        ManifestError: an input is not what its manifest says.
    """
    input_digests = {name: manifests.verify_manifest(path).digest for name, path in inputs.items()}
    # The version stands for the code: another one may read and write the same files differently.
    depends_on = {"stage": stage, "settings": settings, "seed": seed, "inputs": input_digests, "distilrec": __version__}
    fingerprint = manifests.sha256_of_json(depends_on)
    finished = _finished(out_dir, fingerprint)
    if finished is not None:
        logger.info("%s: unchanged, nothing to do (%s)", stage, out_dir)
        return finished

    logger.info("%s: running (%s)", stage, out_dir)
    partial = out_dir.with_name(out_dir.name + ".partial")
    _open_partial(partial, fingerprint)
    scratch = partial / _SCRATCH
    started = time.monotonic()
    metrics = work(partial, scratch)
    metrics = {**metrics, "seconds": round(time.monotonic() - started, 2)}

    shutil.rmtree(scratch)
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


def _finished(out_dir: Path, fingerprint: str) -> Manifest | None:
    """The manifest of ``out_dir`` when it holds the result for ``fingerprint``, whole."""
    if not (out_dir / manifests.FILE_NAME).exists():
        return None
    try:
        manifest = manifests.verify_manifest(out_dir)
    except ManifestError as error:
        logger.warning("%s\nIt is made anew.", error)
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
