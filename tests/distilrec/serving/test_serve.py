"""What ``distilrec serve`` does before the server starts."""

import pytest

from distilrec.core.errors import RepositoryError, ServerError
from distilrec.serving.process.environment import free_ports
from distilrec.serving.serve import ServeSettings, run_server
from export.repository.locks import LOCK_NAME


@pytest.fixture
def repository(tmp_path):
    """A student that pins version 1, under a journal that cannot be read; the path has the words of another error."""
    repository = tmp_path / "cannot be written"
    (repository / "student").mkdir(parents=True)
    (repository / "student" / "config.pbtxt").write_text("version_policy { specific { versions: 1 } }")
    (repository / "versions.json").write_text("{")
    return repository


@pytest.fixture(autouse=True)
def signals_stay(monkeypatch):
    monkeypatch.setattr("distilrec.serving.serve.signal.signal", lambda *_: None)


def start(repository):
    run_server(ServeSettings(repository, free_ports()), print)


def test_broken_journal_stops_the_start_whatever_its_message_says(repository):
    with pytest.raises(RepositoryError, match=r"versions\.json: expected a journal"):
        start(repository)


def test_repository_that_cannot_be_written_is_served_as_it_is(repository):
    """The server's own check is reached, past the journal."""
    (repository / LOCK_NAME).mkdir()
    with pytest.raises(ServerError, match=r"found no .*model\.py"):
        start(repository)
