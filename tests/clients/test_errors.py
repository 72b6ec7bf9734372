"""What a client says when there is no usable server. The rest is tested against a real one (test_client.py, test_faults.py)."""

import asyncio
import socket
import time

import pytest

from clients import AsyncRecommenderClient, RecommenderClient
from clients.errors import ClientError, DeadlineExceeded, ServerUnavailable
from distilrec.core.errors import DistilRecError
from distilrec.data.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("a",), ("A",))


def free_url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def ask_on_asyncio(url, **options):
    async def ask():
        async with AsyncRecommenderClient(url, **options) as client:
            return await client.recommend([])

    return asyncio.run(ask())


def ask(url, **options):
    with RecommenderClient(url, **options) as client:
        return client.recommend([])


@pytest.mark.parametrize("ask", [ask, ask_on_asyncio])
def test_nothing_listens(ask):
    url = free_url()
    with pytest.raises(
        ServerUnavailable, match=rf"{url}, model 'student': no server answers.*distilrec serve.*3 attempts in"
    ) as caught:
        ask(url, retries=2)
    assert (caught.value.url, caught.value.model) == (url, "student")


@pytest.mark.server
@pytest.mark.parametrize("ask", [ask, ask_on_asyncio])
@pytest.mark.parametrize("vocabulary", [VOCABULARY, None])
def test_something_accepts_and_never_answers(ask, vocabulary):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=rf"{url}.*no answer within 0\.8 s"):
            ask(url, vocabulary=vocabulary, timeout_s=0.8)
        assert time.monotonic() - started < 10


def test_many_without_a_server_is_an_error():
    with RecommenderClient(free_url(), retries=0) as client, pytest.raises(ServerUnavailable):
        client.recommend_many([["a"]] * 100)


def test_health_without_a_server():
    with RecommenderClient(url := free_url(), retries=0) as client:
        health = client.health()
        assert not health
        assert not health.live
        assert url in health.reason
        with pytest.raises(ServerUnavailable, match=r"waited 0\.5 s for it to be ready"):
            client.wait_until_ready(timeout_s=0.5)


def test_a_closed_client_says_so():
    client = RecommenderClient(free_url())
    client.close()
    with pytest.raises(ClientError, match="the client is closed"):
        client.recommend([])


def test_one_base_for_all():
    assert issubclass(ServerUnavailable, ClientError)
    assert issubclass(ClientError, DistilRecError)
