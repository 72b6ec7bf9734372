"""New events of a finished run: the student learns from them, and is judged against the former one before it is served."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from distilrec.config import Config
from distilrec.core.errors import ConfigError, DataError, ManifestError
from distilrec.core.manifest import read_manifest
from distilrec.core.memory import give_back_memory
from distilrec.data import update_stage
from distilrec.data.files import digest_of
from distilrec.pipeline.finished import Generation, exported_artefact, exported_student, generation, is_refreshed, line_of
from distilrec.pipeline.folders import REFRESHED_DATA, REFRESHED_STUDENT, REFRESHED_TEXT, STUDENT_FOLDERS, run_dir
from distilrec.pipeline.generations import Update, all_updates, update_of, updates_of
from distilrec.pipeline.refresh import JUDGED_USERS, calibrated
from distilrec.pipeline.run_lock import locked_run

logger = logging.getLogger(__name__)

_CHOOSING = ("events", "min_rating", "consecutive_repeats")
"""Settings of section ``data`` that say what an event is."""

_FREE = {
    "epochs",
    "patience",
    "learning_rate",
    "dropout",
    "batch_size",
    "distillation",
    "weight_decay",
    "schedule",
    "warmup_epochs",
}
_FREE |= {"ema_decay", "optimizer", "precision", "negatives", "unknown_share", "id_dropout"}
"""Settings of the student that may change between trainings: they say how it learns, not what it is."""


def update(config: Config, interactions: Path, *, report: Callable[[str], None] = logger.info) -> Path:
    """Make the next generation of a run's student from new events, and judge it.

    The same file twice, and the same call after an interruption, lead to the same artefact. An update that was refused is not built
    upon: the next one begins from the student before it, and learns from the events of both.

    Args:
        config: Settings of the run.
        interactions: File of the events since the training or the update before, with the columns of the run's interactions.
        report: Is called with what is found.

    Returns:
        Folder of the artefact.

    Raises:
        ManifestError: The run is not finished.
        ConfigError: The settings are those of another student than the run's.
        DataError: The events cannot be used.
        RunLockedError: Another process is running stages in the run's folder.
        DistilRecError: An error of a stage; what is served stays.
    """
    folder = run_dir(config)
    if not folder.is_dir():
        raise ManifestError(f"{folder}: found no run, expected a finished one. Train it: distilrec run --preset {config.name}")
    with locked_run(folder):
        exported_student(config)  # raises where it is not the exported one
        _check_settings(config)
        config = _with_sizes(config)
        _finish_interrupted(config, report)
        digest = _digest(config, interactions)
        known = updates_of(folder, line_of(config))
        if (done := next((one for one in known if digest in one.digests), None)) is not None:
            report(f"update {done.number} has learned from {interactions} already")
            return done.export
        base = generation(config)
        for one in (refused := [one for one in known if one.number > base.number]):
            report(f"update {one.number} was not taken: its events are learned from again, from generation {base.number} on")
        new = _Events(update_stage.read_events(interactions, config.data), [digest])
        number = max((one.number for one in all_updates(folder)), default=0) + 1
        return _run(config, base, update_of(folder, number), _together(refused, new), report)


@dataclass(frozen=True)
class _Events:
    """Events to learn from, and the digests of their files."""

    events: pl.DataFrame
    digests: Sequence[str]


def _together(refused: Sequence[Update], new: _Events) -> _Events:
    """New events after those of refused updates, of which the last one holds the events of those before it."""
    if not refused:
        return new
    return _Events(pl.concat([refused[-1].events(), new.events]), [*refused[-1].digests, *new.digests])


def _finish_interrupted(config: Config, report: Callable[[str], None]) -> None:
    """Go on with an update that has its events, and was interrupted later."""
    known = updates_of(run_dir(config), line_of(config))
    if known and not known[-1].is_finished:
        report(f"update {known[-1].number} was interrupted: it goes on")
        base = generation(config)
        _run(config, base, known[-1], _Events(known[-1].events(), known[-1].digests), report)


def _digest(config: Config, interactions: Path) -> str:
    """Digest of the new file.

    Raises:
        DataError: It cannot be read, or is the one that the run was trained on.
    """
    try:
        digest = digest_of(interactions)
    except OSError as error:
        raise DataError(f"{interactions}: cannot be read ({error.strerror}), expected a file of new events") from error
    if digest == read_manifest(run_dir(config) / "data").settings.get("interactions_sha256"):
        raise DataError(f"{interactions}: found the file that the run was trained on, expected the events since then")
    return digest


def _check_settings(config: Config) -> None:
    """Refuse settings that would make another student than the one to be updated, or other events.

    Raises:
        ConfigError: They are not those of the run; the message names each.
    """
    folder = run_dir(config)
    student, data = read_manifest(folder / STUDENT_FOLDERS["distilled"]).settings, read_manifest(folder / "data").settings
    now = config.student.recorded(distilled=False) | {"history_length": config.history_length}
    faults = {f"student.{name}": (now.get(name), student.get(name)) for name in {*now, *student} - _FREE - {"repeats"}}
    chosen = config.data.model_dump(mode="json")
    faults |= {f"data.{name}": (chosen[name], data[name]) for name in _CHOOSING if name in data}
    found = [f"{name}: found {one!r}, trained with {other!r}" for name, (one, other) in sorted(faults.items()) if one != other]
    if found:
        raise ConfigError(
            "\n  ".join(["the settings are not those that the run was trained with:", *found])
            + f"\nPut them back, or train again: distilrec run --preset {config.name}"
        )


def _with_sizes(config: Config) -> Config:
    """The settings with the ``exclude_length`` of the trained artefact, which all its updates keep."""
    length = read_manifest(exported_artefact(config)).settings["exclude_length"]
    return config.model_copy(update={"export": config.export.model_copy(update={"exclude_length": length})})


def _run(config: Config, base: Generation, update: Update, given: _Events, report: Callable[[str], None]) -> Path:
    """Run the stages of an update; those that are finished are skipped."""
    # Here, because they load PyTorch, ONNX and transformers, which are optional and slow to load.
    from distill.stages import refresh as refresh_stages
    from distill.stages import update as stages
    from export import stage as export_stage

    former = _former(config, base)
    trained = run_dir(config) / "data"
    inputs, line = {"former": former.data}, line_of(config)
    found = update_stage.run(
        config, given.events, given.digests, inputs, update.data, number=update.number, line=line, trained=trained
    )
    for sentence in _describe(found.metrics, update.number):
        report(sentence)
    texts = {"data": update.data, "trained_data": former.data, "trained_text": former.text}
    refresh_stages.run_text(config, texts, update.text)
    models = {"data": update.data, "former": former.student}
    learned = {}
    if config.update.former_weight:
        stages.run_targets(config, models, update.targets)
        learned = {"targets": update.targets}
    stages.run_student(config, models | {"text": update.text, "projection": base.student} | learned, update.student)
    ships = read_manifest(base.verdict).metrics["ships"]
    stages.run_verdict(config, models | {"student": update.student}, update.verdict, ships=ships)
    proofs = {"data": update.data, "verdict": update.verdict, "student": update.student}
    settings = calibrated(config, base.artefact, update.data, update.folder / "calibration.npz")
    export_stage.run(settings, proofs, update.export, max_users=JUDGED_USERS)
    give_back_memory()
    return update.export


def _former(config: Config, base: Generation) -> Generation:
    """What an update begins from: a generation, or the refresh of its catalogue.

    Raises:
        ManifestError: The refresh was interrupted.
    """
    folder = run_dir(config)
    if not is_refreshed(config, base):
        return base
    refreshed = Generation(
        base.number, folder / REFRESHED_DATA, folder / REFRESHED_TEXT, folder / REFRESHED_STUDENT, base.verdict, base.artefact
    )
    if read_manifest(refreshed.student).inputs["data"] != read_manifest(refreshed.data).digest:
        raise ManifestError(
            f"{refreshed.student}: found a refresh that was interrupted, expected a finished one. Do it again: distilrec refresh"
        )
    return refreshed


def _describe(found: Mapping[str, Any], number: int) -> list[str]:
    """Sentences about the new events."""
    learned, later = found["training_interactions"], found["events_for_later"]
    return [
        f"update {number}: {found['events']:,} events, {learned:,} of {found['users']:,} users to learn from, {later:,} for later",
        f"update {number}: {found['new_items']:,} new items (afterwards {found['items']:,}), {found['exemplars']:,} exemplars kept",
    ]


def verdict_on(artefact: Path) -> str:
    """The reason of the verdict on an update, by its artefact."""
    return str(read_manifest(artefact.parent / "verdict").metrics["reason"])
