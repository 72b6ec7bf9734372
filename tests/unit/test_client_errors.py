"""What a client says when there is no server worth the name. The rest is tested against a real one in tests/serving."""

import socket
import time

import pytest

from clients import RecommenderClient
from clients.errors import ClientError, DeadlineExceeded, ServerUnavailable
from distilrec.data.vocabulary import Vocabulary
from distilrec.errors import DataError, DistilRecError

VOCABULARY = Vocabulary(("a",), ("A",))


def test_nothing_listens():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(ServerUnavailable, match=rf"{url}, model 'student': no server answers .*distilrec serve"):
            RecommenderClient(url, vocabulary=VOCABULARY)


def test_something_accepts_and_never_answers():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=rf"{url}.*no answer within 0\.3 s"):
            RecommenderClient(url, vocabulary=VOCABULARY, timeout_s=0.3)
        assert time.monotonic() - started < 10


def test_missing_vocabulary(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        RecommenderClient("127.0.0.1:9", vocabulary=tmp_path / "v.json")


def test_one_base_for_all():
    assert issubclass(ServerUnavailable, ClientError)
    assert issubclass(ClientError, DistilRecError)
