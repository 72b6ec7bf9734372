"""New, changed and retired items of a finished run, without training: from a list of all items to an artefact to serve."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from distilrec.config import Config, spec_of_artefact
from distilrec.core.errors import DataError, ManifestError
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import Head
from distilrec.data import refresh_stage
from distilrec.data.files import digest_of
from distilrec.data.item_filters import changed_filters
from distilrec.data.refresh import (
    Catalogue,
    CatalogueChange,
    Listing,
    check_plausible,
    features_of,
    find_changes,
    load_catalogue,
)
from distilrec.data.stage import filters_of, locate, prepare_filters
from distilrec.data.tables import read_items
from distilrec.pipeline.finished import generation, is_refreshed
from distilrec.pipeline.folders import REFRESHED_DATA, REFRESHED_EXPORT, REFRESHED_STUDENT, REFRESHED_TEXT, run_dir
from distilrec.pipeline.run_lock import locked_run
from distilrec.pipeline.stages import with_sizes_of_data

logger = logging.getLogger(__name__)

JUDGED_USERS = 1000
"""Validation users that the precisions of a refreshed student are measured by: it was judged by all of them when it was trained."""

_SHOWN = 5


def plan_refresh(config: Config, items: Path) -> CatalogueChange:
    """What a refresh by a list of all items would change; nothing is written.

    Args:
        config: Settings of the run.
        items: File with a row for each item that may be recommended, and the columns that the run's catalogue has.

    Raises:
        ManifestError: The run is not finished.
        DataError: The list or the vectors cannot be read, or are of another catalogue.
    """
    return _changes(config, _known(config), _listing(config, items), items)


def refresh(config: Config, items: Path, *, force: bool = False, report: Callable[[str], None] = logger.info) -> Path:
    """Make an artefact whose catalogue is that of a list of all items. Only what has changed is made again.

    Args:
        config: Settings of the run.
        items: As in ``plan_refresh``.
        force: Whether most items may be retired.
        report: Is called with what is found.

    Returns:
        Folder of the artefact to serve: the one that training led to where the list changes nothing.

    Raises:
        ManifestError: The run is not finished.
        DataError: The list or the vectors cannot be read, or are of another catalogue.
        RunLockedError: Another process is running stages in the run's folder.
        DistilRecError: An error of the export; the former artefact stays.
    """
    folder = run_dir(config)
    if not folder.is_dir():
        raise ManifestError(f"{folder}: found no run, expected a finished one. Train it: distilrec run --preset {config.name}")
    with locked_run(folder):
        known = _known(config)
        listing = _listing(config, items)
        change = _changes(config, known, listing, items)
        if not force:
            check_plausible(known, change, listing.where)
        for line in describe(change):
            report(line)
        if change:
            _write_catalogue(config, change, items)
        return _export(config) if _is_current(config) else generation(config).artefact


def describe(change: CatalogueChange) -> list[str]:
    """Sentences about a change."""
    lines = []
    for what in ("new", "changed", "retired", "returned"):
        ids = getattr(change, what)
        more = ", ..." if len(ids) > _SHOWN else ""
        lines.append(f"{what}: {len(ids):,} items" + (f" ({', '.join(ids[:_SHOWN])}{more})" if ids else ""))
    if change.refiltered:
        lines.append(f"other values to filter by: {change.refiltered:,} items")
    vocabulary = change.catalogue.vocabulary
    served = len(vocabulary) - len(vocabulary.retired)
    return [*lines, f"afterwards: {served:,} items can be recommended, {len(vocabulary.retired):,} are retired"]


def _known(config: Config) -> Catalogue:
    """The catalogue of the last refresh of these models, or that of their training or update."""
    return load_catalogue(run_dir(config) / REFRESHED_DATA if _is_current(config) else generation(config).data)


def _is_current(config: Config) -> bool:
    """Whether there was a refresh of the data that the present models learned from."""
    return is_refreshed(config, generation(config))


def _changes(config: Config, known: Catalogue, listing: Listing, items: Path) -> CatalogueChange:
    """What the list changes in the catalogue, and in the attributes that requests filter by."""
    change = find_changes(known, listing)
    if not config.data.filters:
        return change
    former = filters_of(run_dir(config) / REFRESHED_DATA if _is_current(config) else generation(config).data)
    now = prepare_filters(change.catalogue.vocabulary, locate(config.data).model_copy(update={"items": items}))
    retired = change.catalogue.vocabulary.retired_indices()
    return replace(change, filters=now, refiltered=changed_filters(former, now, but=retired))


def _listing(config: Config, items: Path) -> Listing:
    data = locate(config.data)
    trained = load_catalogue(generation(config).data)
    frame = read_items(items, data.item_columns, features_of(trained.schema, data.features))
    if frame.is_empty():
        raise DataError(f"{items}: found no item, expected a row for each item that may be recommended")
    return Listing(str(items), frame, data.vectors)


def _write_catalogue(config: Config, change: CatalogueChange, items: Path) -> None:
    folder = run_dir(config)
    inputs = {"data": generation(config).data} | ({"former": folder / REFRESHED_DATA} if _is_current(config) else {})
    files = {"items": items} | config.data.vector_files
    listed = {f"{name}_sha256": digest_of(path) for name, path in files.items()}
    refresh_stage.run(change, inputs, folder / REFRESHED_DATA, listed=listed, seed=config.seed)


def _export(config: Config) -> Path:
    """Run the stages after the catalogue's; those that are unchanged are skipped."""
    config = with_sizes_of_data(config)
    # Here, because they load PyTorch, ONNX and transformers, which are optional and slow to load.
    from distill.stages import refresh as stages
    from export import stage as export_stage
    from export.artefact import served_head

    folder, base = run_dir(config), generation(config)
    trained = {"trained_data": base.data, "trained_text": base.text}
    data = {"data": folder / REFRESHED_DATA}
    stages.run_text(config, data | trained, folder / REFRESHED_TEXT)
    models = {"text": folder / REFRESHED_TEXT, "student": base.student}
    stages.run_student(config, data | trained | models, folder / REFRESHED_STUDENT)
    inputs = data | {"verdict": base.verdict, "student": folder / REFRESHED_STUDENT}
    # Always the export of the training, so that the result does not depend on how many refreshes led there.
    if served_head(read_manifest(base.artefact)) is Head.APPROXIMATE and config.export.head != "exhaustive":
        inputs["former"] = base.artefact
    settings = calibrated(config, base.artefact, folder / REFRESHED_DATA, folder / "refreshed-calibration.npz")
    export_stage.run(settings, inputs, folder / REFRESHED_EXPORT, max_users=JUDGED_USERS)
    return folder / REFRESHED_EXPORT


def calibrated(config: Config, former: Path, data: Path, copy: Path) -> Config:
    """The settings, where recorded requests are for the catalogue as it is now: indices of the former items mean the same in it.

    Args:
        config: Settings of the run.
        former: Artefact that the requests were recorded for.
        data: Data folder of the catalogue as it is now.
        copy: File that the requests are written to.
    """
    calibration = config.export.calibration
    if calibration.requests is None:
        return config
    from export.graph.calibration import load_calibration  # as in ``_export``

    trained = read_manifest(former)
    recorded = load_calibration(calibration.requests, spec_of_artefact(trained), trained.metrics["vocabulary_sha256"])
    present = read_manifest(data).metrics["vocabulary_sha256"]
    replace(recorded, vocabulary_sha256=present).save(copy)
    export = config.export.model_copy(update={"calibration": calibration.model_copy(update={"requests": copy})})
    return config.model_copy(update={"export": export})
