"""Stage ``update-data``: new events appended to what a run remembers of its history."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from distilrec.config import Config, DataConfig, spec_of_run
from distilrec.core.errors import DataWarning
from distilrec.core.manifest import Manifest, read_manifest
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import attributes, findings, item_filters, user_ids
from distilrec.data.files import shown
from distilrec.data.refresh import Catalogue, Listing, features_of, grow, load_catalogue
from distilrec.data.stage import attributes_of, locate, prepare_filters
from distilrec.data.tables import read_interactions, read_items
from distilrec.data.update import SortedEvents, UpdateData, make_update, sort_events
from distilrec.data.update_state import (
    UpdateState,
    grown,
    has_state,
    load_state,
    save_exemplars,
    save_requests,
    save_state,
    trained_state,
)
from distilrec.data.vocabulary import FILE_NAME

_EVENTS_FILE = "events.parquet"
"""The new events as they were read."""

REPLAY_FILE, EARLIER_FILE, NEW_START_FILE = "replay.npz", "earlier.npz", "new_start.npy"
"""The exemplars that this update replays, the earlier held-out users that it is judged by, and where its new events begin."""


def read_events(path: Path, config: DataConfig) -> pl.DataFrame:
    """New events, in order of time; the file has the columns of the run's interactions.

    Raises:
        DataError: As ``tables.read_interactions``.
    """
    frame = read_interactions(path, locate(config))
    return frame.filter(~findings.repeats_in_a_row(frame)) if config.consecutive_repeats == "drop" else frame


def run(
    config: Config,
    events: pl.DataFrame,
    digests: Sequence[str],
    inputs: Inputs,
    out_dir: Path,
    *,
    number: int,
    line: str,
    trained: Path,
) -> Manifest:
    """Write the folder, which later stages read as that of stage ``data``.

    Args:
        config: Settings of the run.
        events: New events, as ``read_events`` returns them.
        digests: Digests of the files that they were read from.
        inputs: ``former``: data folder of the training, of a refresh, or of the update before.
        out_dir: Folder of the finished stage.
        number: Number of the update.
        line: Digest of the trained student that all updates of a line go back to.
        trained: Data folder of the training.

    Raises:
        DataError: The events cannot be used; nothing is written.
    """

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DataWarning)
            metrics = _write(config, events, inputs["former"], folder, number=number, trained=trained)
        for warning in caught:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return metrics | {"warnings": [str(w.message) for w in caught if issubclass(w.category, DataWarning)]}

    settings = {"number": number, "line": line, "interactions_sha256": list(digests)} | _settings(config)
    return run_stage("update-data", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def _settings(config: Config) -> dict[str, Any]:
    sizes = {"history_length": config.history_length, "exclude_length": config.export.exclude_length}
    chosen = {"exemplars", "judged_users", "min_events", "remembered_users"}
    settings = sizes | config.update.model_dump(mode="json", include=chosen)
    # For the model card, which reads them of the stage ``data``.
    return settings | {"source": config.data.source, "k_core": config.data.k_core, "split": "the newest event of some users"}


def _write(config: Config, events: pl.DataFrame, former: Path, folder: Path, *, number: int, trained: Path) -> dict[str, Any]:
    before, data = load_catalogue(former), locate(config.data)
    state = _state(config, former, len(before.vocabulary), trained)
    listing = _listing(before, data)
    min_events = config.update.min_events or config.data.k_core
    usable = sort_events(state, before.vocabulary, events, set(listing.items["item_id"]), min_events)
    _warn(usable, min_events)
    catalogue = grow(before, usable.new_items, listing)
    vocabulary = catalogue.vocabulary
    spec = spec_of_run(config, len(vocabulary))
    # A seed of its own for each update, so that not the same users are held out each time.
    seed = int(np.random.SeedSequence([config.seed, number]).generate_state(1)[0])
    state = grown(state, len(vocabulary))
    made = make_update(state, vocabulary, usable, spec, config.update, number=number, seed=seed)
    _save(folder, catalogue, made, former=state, events=events, data=data)
    return _metrics(made, usable, before, catalogue, len(events))


def _state(config: Config, former: Path, item_count: int, trained: Path) -> UpdateState:
    """What the update before left; of the first one, what the training leaves."""
    if has_state(former):
        return grown(load_state(former), item_count)
    last_time = float(read_manifest(trained).metrics["found"]["last_time"])
    return trained_state(former, spec_of_run(config, item_count), settings=config.update, last_time=last_time, seed=config.seed)


def _listing(before: Catalogue, data: DataConfig) -> Listing:
    """What the catalogue's file says of items now; it lists nothing where there is no such file."""
    nothing = pl.DataFrame(schema={"item_id": pl.String, "title": pl.String})
    items = nothing if data.items is None else read_items(data.items, data.item_columns, features_of(before.schema, data.features))
    return Listing(str(data.items), items, data.vectors)


def _warn(events: SortedEvents, min_events: int) -> None:
    """Count what was not used."""
    unknown = events.unknown
    if events.late:
        _say(f"{events.late:,} event(s) are older than the last event that was learned from; they are left out")
    if len(unknown):
        items = unknown["item_id"].n_unique()
        _say(
            f"{len(unknown):,} event(s) of {items:,} unknown item(s) (such as {shown(unknown['item_id'][0])}), which are neither in"
            f" the catalogue nor have {min_events} events yet, are kept for the next update"
        )
    if events.forgotten:
        _say(f"{events.forgotten:,} of the oldest events of unknown items are no longer kept")


def _say(message: str) -> None:
    warnings.warn(message, DataWarning, stacklevel=3)


def _save(
    folder: Path, catalogue: Catalogue, made: UpdateData, *, former: UpdateState, events: pl.DataFrame, data: DataConfig
) -> None:
    made.dataset.save(folder)
    np.save(folder / NEW_START_FILE, made.new_start)
    catalogue.vocabulary.save(folder / FILE_NAME)
    for part in (catalogue.schema, catalogue.content):
        if part is not None:
            part.save(folder)
    filters = prepare_filters(catalogue.vocabulary, data)
    if filters is not None:
        filters.save(folder / item_filters.FILE_NAME)
    user_ids.save(made.users, folder)
    if data.users is not None:
        attributes.save(attributes_of(pl.Series("user_id", made.users, dtype=pl.String), data), folder)
    save_exemplars(former.exemplars, folder / REPLAY_FILE)
    save_requests(former.requests, folder / EARLIER_FILE)
    save_state(made.state, folder)
    events.write_parquet(folder / _EVENTS_FILE)


def _metrics(made: UpdateData, events: SortedEvents, before: Catalogue, now: Catalogue, given: int) -> dict[str, Any]:
    dataset = made.dataset
    return {
        "users": dataset.user_count,
        "items": len(now.vocabulary),
        "former_items": len(before.vocabulary),
        "new_items": len(events.new_items),
        "interactions": len(dataset.items),
        "training_interactions": int((dataset.validation_start - made.new_start).sum()),
        "vocabulary_sha256": now.vocabulary.sha256,
        "events": given,
        "late_events": events.late,
        "events_for_later": len(made.state.later),
        "exemplars": len(made.state.exemplars.update),
        "last_time": made.state.last_time,
    }


def given_events(folder: Path) -> pl.DataFrame:
    """The new events as an update has read them, from its stage folder."""
    return pl.read_parquet(folder / _EVENTS_FILE)
