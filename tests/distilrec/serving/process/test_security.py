"""Against a real tritonserver: strangers change nothing, and TLS lets in whom it should."""

import json
import socket
import stat
import time
from pathlib import Path

import pytest
from certificates import openssl
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from clients import DeadlineExceeded, RecommenderClient, ServerUnavailable, Tls
from clients.grpc_model import GrpcModel
from distilrec.core.errors import ServerError
from distilrec.serving.health.watchdog import Watchdog
from distilrec.serving.process.control import ModelControl
from distilrec.serving.process.loopback import call
from distilrec.serving.process.security import (
    SECRET_VARIABLE,
    ControlSecret,
    TlsConfig,
    client_secret,
    hide_from_process_list,
    published,
    read_secret,
    secret_path,
    server_secret,
)
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.rollout.live import Server
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.promotion import PromotionError, promote
from export.repository.fill import fill_repository

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def repository(shop_run, shop_config, tmp_path_factory):
    config = shop_config.export.model_copy(update={"repository": tmp_path_factory.mktemp("served") / "repo"})
    fill_repository(shop_run / "export", config)
    return config.repository


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory):
    with TritonServer(repository, free_ports(), tmp_path_factory.mktemp("log") / "log", secret=ControlSecret()) as server:
        yield server


@pytest.fixture(scope="module")
def tls_server(repository, certificates, tmp_path_factory):
    """A server that certifies itself, and whose owner asks it over HTTP."""
    tls = TlsConfig(certificates / "server.crt", certificates / "server.key")
    log = tmp_path_factory.mktemp("log") / "log"
    with TritonServer(repository, free_ports(), log, secret=ControlSecret(), tls=tls) as server:
        yield server


WRONG = {"triton-grpc-protocol-distilrec-control": "guessed-guessed-guessed"}


@pytest.mark.parametrize("headers", [None, WRONG], ids=["without", "wrong"])
def test_stranger_changes_nothing_over_grpc(server, headers):
    attack = json.dumps({"backend": "python", "max_batch_size": 0})
    files = {"file:1/model.py": b"raise SystemExit"}
    with grpc.InferenceServerClient(server.url) as client:
        attempts = [
            lambda: client.load_model("evil", headers=headers, config=attack, files=files, client_timeout=5),
            lambda: client.load_model("student", headers=headers, client_timeout=5),
            lambda: client.unload_model("student", headers=headers, client_timeout=5),
            lambda: client.get_model_repository_index(headers=headers, client_timeout=5),
            lambda: client.register_system_shared_memory("region", "/region", 16, headers=headers, client_timeout=5),
            lambda: client.update_log_settings({"log_file": "/tmp/stolen"}, headers=headers, client_timeout=5),
            lambda: client.update_trace_settings(settings={"trace_level": ["OFF"]}, headers=headers, client_timeout=5),
        ]
        for attempt in attempts:
            with pytest.raises(InferenceServerException, match="is restricted"):
                attempt()
        assert client.is_model_ready("student", client_timeout=5)


@pytest.mark.parametrize("headers", [{}, {"distilrec-control": "guessed-guessed-guessed"}], ids=["without", "wrong"])
@pytest.mark.parametrize(
    "path", ["repository/models/evil/load", "repository/models/student/unload", "repository/index", "logging", "trace/setting"]
)
def test_stranger_changes_nothing_over_open_http(shop_server, path, headers):
    assert post(shop_server, path, b"{}", headers) == 403


def post(server, path, body, headers):
    """Status of the answer."""
    return call(f"http://127.0.0.1:{server.ports.http}", "POST", f"/v2/{path}", timeout_s=5, body=body, headers=headers).status


def tensor_of(shape):
    tensor = {"name": "history", "datatype": "INT32", "shape": shape, "data": [1]}
    return json.dumps({"inputs": [tensor]}).encode()


# Each ends tritonserver 2.51, or takes 17 GB, where it reads the body.
HOSTILE = {
    "overflow": tensor_of([2**31, 2**31]),
    "terabytes": tensor_of([1, 10**12]),
    "gigabytes": tensor_of([1, 3 * 10**9]),
    "brackets": b'{"inputs":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_http_request_is_refused_before_its_body_is_read(tls_server, kind):
    before = tls_server.request_memory_bytes()
    for path in ("models/student/infer", "models/student/versions/1/infer", "models/student/generate", "repository/index"):
        for headers in ({}, {"distilrec-control": "guessed-guessed-guessed"}):
            assert post(tls_server, path, HOSTILE[kind], headers) == 403
    assert tls_server.access.is_ready()
    assert tls_server.request_memory_bytes() < before + 20e6


def test_http_is_closed_without_tls(server):
    with pytest.raises(ConnectionRefusedError):
        post(server, "models/student/infer", HOSTILE["brackets"], {})


@pytest.mark.parametrize("fixture", ["server", "tls_server"])
def test_secret_opens_model_control(request, fixture):
    server = request.getfixturevalue(fixture)
    url = server.control_url
    ModelControl(url, server.secret).unload("student")
    assert {entry.name: entry.state for entry in ModelControl(url, server.secret).index()}["student"] != "READY"
    ModelControl(url, server.secret).load("student")
    states = {(entry.name, entry.version): entry.state for entry in ModelControl(url, server.secret).index()}
    assert states == dict.fromkeys([("student", "1"), ("recommend", "1"), ("vocabulary", "1")], "READY")
    with pytest.raises(ServerError, match=r"cannot load model 'nobody': .*failed to poll"):
        ModelControl(url, server.secret).load("nobody")
    with pytest.raises(ServerError, match=r"is restricted.*--secret-file or DISTILREC_CONTROL_SECRET"):
        ModelControl(url, ControlSecret()).load("student")


@pytest.mark.parametrize("scheme", ["", "http://"])
def test_control_times_out_and_says_so(scheme):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"{scheme}127.0.0.1:{deaf.getsockname()[1]}"
        with pytest.raises(ServerError, match=r"did not load model 'student' within 0.3 s.*restart the server"):
            ModelControl(url, ControlSecret()).load("student", timeout_s=0.3)


def test_no_server_is_not_ready_and_has_no_version():
    for url in ("127.0.0.1:9", "http://127.0.0.1:9"):
        control = ModelControl(url, ControlSecret())
        assert (control.is_ready(), control.version()) == (False, None)


def test_plain_client_needs_no_secret(server):
    with GrpcModel(server.url) as model:
        assert model.info().k == 20


def test_secret_is_not_in_the_process_list(server):
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        assert server.secret.value.encode() not in command
    assert b"--grpc-restricted-protocol=" in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert server.secret.value not in server.log.read_text()
    assert server.secret.value not in repr(server.secret)


def test_hiding_says_when_it_could_not():
    assert not hide_from_process_list(2**22 + 1, ControlSecret())


def test_without_a_secret_nobody_controls_models(shop_server):
    with pytest.raises(ServerError, match="is restricted"):
        ModelControl(shop_server.url, ControlSecret()).load("student")


def test_published_secret_is_for_its_owner_and_goes_at_the_end(tmp_path, monkeypatch):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    secret, new = server_secret(None)
    assert new
    assert secret != server_secret(None)[0]
    path = secret_path(8001)
    with published(secret, path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert client_secret(8001) == secret
    assert not path.exists()
    with pytest.raises(ServerError, match=r"control-8001: cannot read the control secret.*DISTILREC_CONTROL_SECRET"):
        client_secret(8001)


def test_secret_path_follows_the_users_folders(monkeypatch):
    for name in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert secret_path(1) == Path.home() / ".cache" / "distilrec" / "control-1"
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert secret_path(1) == Path("/cache/distilrec/control-1")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602])
def test_secret_that_others_can_read_is_refused(tmp_path, mode, monkeypatch):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    path = tmp_path / "secret"
    path.write_text(ControlSecret().value)
    path.chmod(mode)
    with pytest.raises(ServerError, match=rf"found mode {mode:04o}, expected 0600.*chmod 600"):
        server_secret(path)
    path.chmod(0o600)
    secret, new = server_secret(path)
    assert (secret, new) == (read_secret(path), False)


def test_secret_from_the_environment_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv(SECRET_VARIABLE, "from-the-environment")
    assert server_secret(tmp_path / "none") == (ControlSecret("from-the-environment"), False)
    assert client_secret(8001).value == "from-the-environment"


@pytest.mark.parametrize("value", ["short", "with spaces in the middle", "line\nbreak-line-break", "käse-käse-käse-käse", ""])
def test_unusable_secret_is_refused(value):
    with pytest.raises(ServerError, match="expected at least 16 of"):
        ControlSecret(value)


def ask(server: TritonServer, tls: Tls | bool = False) -> str:
    """Version that answered."""
    with RecommenderClient(server.url, tls=tls, timeout_s=3, retries=0) as client:
        return client.recommend(["item-1"]).model_version


def test_mutual_tls_lets_in_our_client_alone(serving_config, shop_run, certificates, tmp_path):
    def credentials(name: str | None, root: str = "ours") -> Tls:
        files = (certificates / f"{name}.crt", certificates / f"{name}.key") if name else ()
        return Tls(certificates / f"{root}.crt", *files)

    tls = TlsConfig(certificates / "server.crt", certificates / "server.key", certificates / "ours.crt")
    with TritonServer(serving_config.repository, free_ports(), tmp_path / "tls.log", secret=ControlSecret(), tls=tls) as server:
        assert ask(server, credentials("client")) == "1"
        for refused in (credentials(None), credentials("stranger"), credentials("client", root="theirs"), False):
            with pytest.raises((ServerUnavailable, DeadlineExceeded)):
                ask(server, refused)
        live = Server(server.url, server.secret, credentials("client"))
        promote(shop_run / "export", serving_config.repository, serving_config, live, limits=Limits(watch_s=0.2, max_p99_ms=2000))
        with pytest.raises(PromotionError, match="cannot list the models"):
            promote(shop_run / "export", serving_config.repository, serving_config, Server(server.url, server.secret))
        # Our own probes and model control go over loopback, with the secret and without a certificate.
        with Watchdog(server, interval_s=0.05) as watchdog:
            ModelControl(server.control_url, server.secret).unload("student")
            for _ in range(100):
                if watchdog.heals:
                    break
                time.sleep(0.1)
        assert watchdog.heals == 1
        assert ask(server, credentials("client")) == "2"
        assert server.stop() == 0


def test_one_sided_tls_takes_every_client_that_trusts_it(tls_server, certificates):
    assert ask(tls_server, Tls(certificates / "ours.crt")) == "1"
    with pytest.raises((ServerUnavailable, DeadlineExceeded)):
        ask(tls_server)
    with pytest.raises(ServerUnavailable):
        ask(tls_server, tls=True)


def test_unusable_tls_files_are_refused_before_the_start(certificates, tmp_path, repository):
    text, locked = tmp_path / "text.pem", tmp_path / "locked.key"
    text.write_text("no certificate")
    openssl(certificates, "rsa", "-aes256", "-passout", "pass:x", "-in", "server.key", "-out", str(locked))
    good, key = certificates / "server.crt", certificates / "server.key"
    faults = {
        r"TLS certificate .*none\.crt: no such file": TlsConfig(tmp_path / "none.crt", key),
        r"TLS key .*none\.key: no such file": TlsConfig(good, tmp_path / "none.key"),
        r"client authority .*none\.crt: no such file": TlsConfig(good, key, tmp_path / "none.crt"),
        r"expected PEM files that belong together": TlsConfig(good, certificates / "client.key"),
        r"text\.pem and key .* cannot be used": TlsConfig(text, key),
        r"the key without a passphrase": TlsConfig(good, locked),
        r"client authority .*text\.pem: expected PEM certificates": TlsConfig(good, key, text),
    }
    for message, tls in faults.items():
        with pytest.raises(ServerError, match=message):
            TritonServer(repository, free_ports(), tls=tls)
