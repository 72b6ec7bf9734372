"""The commands that ask a server, under mutual TLS."""

import json
import os
import subprocess
import sys

import pytest

from distilrec.serving.process.security import TlsConfig
from distilrec.serving.process.server import TritonServer, free_ports

pytestmark = pytest.mark.server

COMMANDS = {
    "recommend": ["--history", "item-1", "--k", "3", "--json"],
    "load": ["--rate", "50", "--duration-s", "1", "--processes", "2", "--json"],
}


@pytest.fixture(scope="module")
def url(shop_run, shop_config, certificates, tmp_path_factory):  # noqa: ARG001 - the run fills the repository
    tls = TlsConfig(certificates / "server.crt", certificates / "server.key", certificates / "ours.crt")
    log = tmp_path_factory.mktemp("log") / "log"
    with TritonServer(shop_config.export.repository, free_ports(), log, tls=tls) as server:
        yield server.url


def distilrec(command, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "distilrec", command, *COMMANDS[command], *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_our_certificate_lets_in(url, certificates, command):
    files = [
        f"--tls-{name}={certificates / file}" for name, file in [("ca", "ours.crt"), ("cert", "client.crt"), ("key", "client.key")]
    ]
    result = distilrec(command, "--url", url, *files, "--metadata", "x-team=shop", "x-try=1", DISTILREC_TOKEN="secret")
    assert result.returncode == 0, result.stderr
    assert "secret" not in result.stdout + result.stderr
    found = json.loads(result.stdout)
    if command == "recommend":
        assert len(found["items"]) == 3
        return
    assert found["result"]["errors"] == {}
    assert found["result"]["requests"]["answered"] == found["result"]["requests"]["due"] > 20
    assert found["server"]["on_this_machine"]
    assert str(certificates) not in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("options", [("--tls-ca", "ours.crt"), ()], ids=["without a certificate", "without TLS"])
def test_other_clients_are_refused(url, certificates, command, options):
    arguments = [option if option.startswith("--") else certificates / option for option in options]
    result = distilrec(command, "--url", url, "--timeout-s", "2", *arguments)
    assert result.returncode == 1
    assert result.stdout == ""
    assert f"distilrec: {url}, model 'student': no " in result.stderr  # "server answers" or "answer within"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_key_is_reported_before_any_request(url, certificates, tmp_path, command):
    files = [f"--tls-ca={certificates / 'ours.crt'}", f"--tls-cert={certificates / 'client.crt'}"]
    result = distilrec(command, "--url", url, *files, "--tls-key", tmp_path / "none.key")
    assert result.returncode == 1
    assert result.stderr.startswith(f"distilrec: TLS key {tmp_path / 'none.key'}: cannot be read (No such file")
