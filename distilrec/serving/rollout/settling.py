"""What a killed promotion left in a running server: asked of the server, before any file is removed."""

from collections.abc import Sequence
from pathlib import Path

from distilrec.core.errors import DistilRecError, ServerError
from distilrec.core.specs import MODEL_NAME
from distilrec.serving.rollout.live import ReportStep, Server, bring_back
from distilrec.serving.rollout.live_checks import LiveChecks
from export.repository.journal import INTERRUPTED, Journal, decide_move, read_journal, recover
from export.repository.versions import config_path, parse_config, served_version, version_configs

_IN_USE = ("READY", "LOADING")


def loaded_versions(server: Server, names: Sequence[str]) -> dict[str, set[int]]:
    """Versions that a server answers with, or is loading, by model. Raises ServerError."""
    loaded: dict[str, set[int]] = {name: set() for name in names}
    for entry in server.control.index():
        if entry.name in loaded and entry.state in _IN_USE:
            loaded[entry.name].add(int(entry.version))
    return loaded


def settle(repository: Path, names: Sequence[str], server: Server | None, report: ReportStep) -> Journal:
    """Finish or undo an interrupted promotion, by what the server has loaded. The caller holds the lock.

    A version that the server answers with in all models, and with its golden answers, is pinned: clients have it already. Otherwise
    the pinned version is loaded again. No version that the server has loaded loses its files.

    Args:
        repository: The model repository.
        names: Its models.
        server: The server that runs on it; None where there is none.
        report: Is called with each step that was taken.

    Returns:
        The journal as it was written.

    Raises:
        ServerError: the server cannot be asked, or the pinned version cannot be loaded again. No file was removed.
        RepositoryError: the journal or a config.pbtxt cannot be read.
    """
    if server is None:
        return recover(repository, names)
    loaded = loaded_versions(server, names)
    journal = read_journal(repository, names)
    interrupted = {entry.number for entry in journal.versions if entry.state == "failed" and entry.reason == INTERRUPTED}
    for number in sorted(interrupted & set().union(*loaded.values())):
        if all(number in loaded[name] for name in names) and _answers(server, repository, names, number):
            report(f"version {number} of an interrupted promotion serves and answers as it should: it is pinned now")
            decide_move(repository, names, journal, number)
        else:
            (pinned,) = journal.numbers("serving")
            report(f"version {number} of an interrupted promotion is loaded in part: version {pinned} is loaded again")
            bring_back(server, repository, names, pinned)
        break  # there is one promotion at a time, and this one is settled
    return recover_live(repository, names, server)


def recover_live(repository: Path, names: Sequence[str], server: Server | None) -> Journal:
    """As ``recover``, but the files of versions that the server has loaded stay; those of all where it does not say."""
    if server is None:
        return recover(repository, names)
    try:
        in_use = set().union(*loaded_versions(server, names).values())
    except ServerError:
        in_use = {entry.number for entry in read_journal(repository, names).versions}
    return recover(repository, names, in_use)


def live_version(repository: Path, names: Sequence[str], server: Server | None) -> int:
    """The version that clients get now: that of the server, where it is one that can be loaded again, else the pinned one."""
    pinned = served_version(repository)
    if server is None:
        return pinned
    loaded = loaded_versions(server, names)
    live = loaded[MODEL_NAME]
    if len(live) != 1 or any(versions != live for versions in loaded.values()):
        return pinned
    (number,) = live
    return number if all(config_path(repository, name, number).exists() for name in names) else pinned


def _answers(server: Server, repository: Path, names: Sequence[str], number: int) -> bool:
    """Whether the live server gives a version's golden answers."""
    try:
        config = parse_config(version_configs(repository, names, number)[MODEL_NAME])
        with LiveChecks(server.url, config.max_batch_size, server.tls) as checks:
            return checks.check_version(repository, names, number) is not None
    except (DistilRecError, OSError):
        return False
