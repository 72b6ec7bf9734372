"""The journal against the pins: after interruptions, after an export, and when one of them is damaged."""

from datetime import UTC, datetime

import pytest

from distilrec.core.errors import RepositoryError
from distilrec.serving.rollout.promotion import versions
from export.repository.journal import Journal, VersionInfo, reconcile


def entry(number, state, vocabulary="v"):
    return VersionInfo(number=number, state=state, vocabulary_sha256=vocabulary, time=datetime.now(UTC))


def states(entries):
    return {entry.number: entry.state for entry in entries}


def test_journal_follows_the_pin():
    journal = Journal(versions=(entry(1, "good"), entry(2, "serving"), entry(3, "staged")))
    assert states(reconcile(journal, 2, "v").versions) == {1: "good", 2: "serving", 3: "failed"}
    assert states(reconcile(journal, 3, "v").versions) == {1: "good", 2: "good", 3: "serving"}
    assert states(reconcile(journal, 1, "v").versions) == {1: "serving", 2: "good", 3: "failed"}
    back = journal.model_copy(update={"moving_to": 1})
    assert states(reconcile(back, 1, "v").versions) == {1: "serving", 2: "retired", 3: "failed"}
    assert reconcile(journal, 2, "other").find(2).vocabulary_sha256 == "other"


def test_pins_that_differ_for_no_known_reason_are_refused(serving_config):
    path = serving_config.repository / "recommend" / "config.pbtxt"
    path.write_text(path.read_text().replace("versions: 1", "versions: 7"))
    with pytest.raises(RepositoryError, match=r"found versions \{'vocabulary': 1, 'student': 1, 'recommend': 7\} pinned"):
        versions(serving_config.repository)


def test_journal_that_is_no_journal_is_said_plainly(serving_config):
    (serving_config.repository / "versions.json").write_text("{")
    with pytest.raises(RepositoryError, match=r"versions\.json: expected a journal of format version 1"):
        versions(serving_config.repository)
