"""Options of a connection: what they make, and what the commands say of those that cannot be used."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from clients import ClientError, Tls
from clients.connection import Connection
from distilrec.cli.connection import connection_of, tls_of

AUTHORITY, CERTIFICATE, KEY = Path("ca.pem"), Path("me.pem"), Path("me.key")
STRANGER = "recs.example.com:443"


@pytest.mark.parametrize(
    ("files", "wanted", "expected"),
    [
        ((None, None, None), False, False),
        ((None, None, None), True, True),
        ((AUTHORITY, None, None), False, Tls(AUTHORITY)),
        ((None, CERTIFICATE, KEY), True, Tls(None, CERTIFICATE, KEY)),
    ],
)
def test_any_file_of_tls_means_tls(files, wanted, expected):
    assert tls_of(*files, wanted=wanted) == expected


def test_metadata_and_token_are_sent():
    connection, warning = connection_of(STRANGER, True, ["x-team=shop", "x-query=a=b", "x-none="], "secret")
    assert connection == Connection(STRANGER, True, connection.metadata)
    assert connection.metadata == {"x-team": "shop", "x-query": "a=b", "x-none": "", "authorization": "Bearer secret"}
    assert warning is None


@pytest.mark.parametrize("token", [None, ""])
def test_without_a_token_nothing_is_sent(token):
    assert connection_of(STRANGER, False, [], token) == (Connection(STRANGER), None)


def test_an_authorization_of_its_own_goes_before_the_token():
    connection, warning = connection_of(STRANGER, False, ["authorization=Basic abc"], "secret")
    assert connection.metadata == {"authorization": "Basic abc"}
    assert warning is None


@pytest.mark.parametrize(
    ("url", "tls", "exposed"),
    [(STRANGER, False, True), (STRANGER, True, False), (STRANGER, Tls(AUTHORITY), False), ("localhost:8001", False, False)],
)
def test_a_token_that_goes_to_a_stranger_unencrypted_is_warned_of(url, tls, exposed):
    _, warning = connection_of(url, tls, [], "secret")
    assert (warning is not None) is exposed
    if warning:
        assert f"DISTILREC_TOKEN goes to {url} unencrypted; use --tls" in warning
        assert "secret" not in warning


@pytest.mark.parametrize(("pair", "message"), [("key", "found 'key', expected KEY=VALUE"), ("Key=x", "expected lower-case keys")])
def test_metadata_that_cannot_be_sent(pair, message):
    with pytest.raises(ClientError, match=message):
        connection_of(STRANGER, False, [pair], None)


def distilrec(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "distilrec", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=os.environ | environment)


class Listener(grpc.GenericRpcHandler):
    """Serves nothing, and knows what it was sent."""

    def __init__(self):
        self.sent = []

    def service(self, handler_call_details):
        self.sent.append(dict(handler_call_details.invocation_metadata))


@pytest.mark.parametrize("command", ["recommend", "load"])
def test_commands_send_metadata_and_the_token_of_the_environment(command):
    listener = Listener()
    server = grpc.server(ThreadPoolExecutor(1), handlers=[listener])
    url = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    result = distilrec(command, "--url", url, "--metadata", "x-team=shop", "x-try=1", DISTILREC_TOKEN="secret")
    server.stop(0).wait()
    assert result.returncode == 1
    assert result.stderr.startswith(f"distilrec: {url}, model 'student': UNIMPLEMENTED")
    assert listener.sent
    for sent in listener.sent:
        assert sent.items() >= {"x-team": "shop", "x-try": "1", "authorization": "Bearer secret"}.items()


@pytest.mark.parametrize("command", ["recommend", "load"])
def test_commands_warn_of_a_token_in_the_clear(command):
    result = distilrec(command, "--url", "stranger.invalid:1", "--timeout-s", "0.3", DISTILREC_TOKEN="secret")
    assert result.returncode == 1
    assert result.stderr.startswith("warning: the token of DISTILREC_TOKEN goes to stranger.invalid:1 unencrypted; use --tls\n")
    assert "secret" not in result.stderr


@pytest.mark.parametrize("command", ["recommend", "load"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metadata", "a=1", "key"], "--metadata: found 'key', expected KEY=VALUE"),
        (["--tls-ca", "none.pem"], "TLS authority none.pem: cannot be read (No such file or directory), expected a PEM file"),
        (["--tls-cert", "none.pem"], "TLS: found a certificate without a key"),
    ],
)
def test_what_cannot_be_used_is_one_message_of_the_command(command, arguments, message):
    result = distilrec(command, *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith(f"distilrec: {message}")
    assert "Traceback" not in result.stderr
