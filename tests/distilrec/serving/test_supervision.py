"""``distilrec serve`` on a real tritonserver that dies, hangs at the stop or was left behind."""

import contextlib
import os
import re
import signal
import socket
import stat
import threading
import time
from pathlib import Path

import pytest
from golden_load import Load
from supervised import regions

from clients.errors import ClientError
from clients.grpc_model import GrpcModel
from distilrec.core.golden import load_golden
from distilrec.serving.doctor import examine
from distilrec.serving.process import wheel
from distilrec.serving.process.control import ModelControl
from distilrec.serving.process.environment import free_ports
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.process.server import TritonServer

pytestmark = pytest.mark.server


@pytest.fixture
def golden(serving_config):
    return load_golden(serving_config.repository / "student" / "1" / "golden.npz")


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_server_that_dies_under_load_is_back_and_answers(serve, golden):
    served = serve()
    first = served.server_pid
    with Load(served.url, {1: golden}) as load:
        time.sleep(0.5)
        os.kill(first, signal.SIGSEGV)
        served.wait_for("tritonserver is ready again")
        answered = load.answered
        time.sleep(2)
        assert load.answered > answered + 20
    assert not load.wrong
    assert served.server_pid != first
    assert "watchdog: tritonserver ended (SIGSEGV); starting it again now" in served.text()
    assert "distilrec_watchdog_server_deaths_total 1\n" in served.metrics()
    assert "distilrec_watchdog_restarts_total 0\n" in served.metrics()
    assert served.stop() == 0
    assert not served.pid_file.exists()


def test_repeated_deaths_back_off_and_leave_no_shared_memory(serve, golden):
    served = serve()
    at_start = regions(served)
    for deaths in range(1, 4):
        os.kill(served.server_pid, signal.SIGSEGV)
        served.wait_for("tritonserver is ready again", count=deaths)
    found = re.findall(r"starting it again (now|in [\d.]+ s)", served.text())
    assert found == ["now", "in 0.1 s", "in 0.2 s"]
    prefix = at_start[0].name.rpartition("_")[0]
    left = set(at_start[0].parent.glob(f"{prefix}_*"))
    assert left == set(regions(served))
    assert not left & set(at_start)
    with GrpcModel(served.url) as model:
        model.recommend(golden.history[:1], golden.exclude[:1])
    assert served.stop() == 0


def test_sigterm_during_a_restart_stops_cleanly(serve):
    served = serve()
    os.kill(served.server_pid, signal.SIGSEGV)
    served.wait_for("starting it again")
    assert served.stop() == 0
    assert served.text().splitlines()[-1] == "stopped"
    assert "Traceback" not in served.text()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", served.ports.grpc)) != 0


def test_server_that_someone_else_stopped_is_back(serve, golden):
    """Its probes fail while it drains, so it may be a death or a heal; in any case it answers again."""
    served = serve()
    first = served.server_pid
    os.kill(first, signal.SIGTERM)
    served.wait_for("tritonserver is ready again")
    assert served.server_pid != first
    with GrpcModel(served.url) as model:
        model.recommend(golden.history[:1], golden.exclude[:1])
    assert served.stop() == 0


def test_restart_that_fails_is_tried_again_until_the_repository_is_whole(serve, serving_config, golden):
    served = serve()
    model = serving_config.repository / "recommend" / "1" / "model.py"
    whole = model.read_text()
    model.write_text("raise ValueError('broken by the test')\n")
    os.kill(served.server_pid, signal.SIGSEGV)
    served.wait_for(r"trying again in 1 s")
    served.wait_for(r"trying again in 2 s")
    model.write_text(whole)
    served.wait_for("tritonserver is ready again")
    with GrpcModel(served.url) as served_model:
        served_model.recommend(golden.history[:1], golden.exclude[:1])
    assert served.stop() == 0


def test_serve_ends_with_status_1_after_five_restarts_that_failed(serve, serving_config):
    served = serve()
    (serving_config.repository / "recommend" / "1" / "model.py").write_text("raise ValueError('broken by the test')\n")
    os.kill(served.server_pid, signal.SIGSEGV)
    assert served.process.wait(120) == 1
    assert served.text().count("trying again in") == 4
    assert "is not started again" in served.text()
    assert not served.pid_file.exists()


def test_without_a_watchdog_the_end_of_the_server_is_said_and_fails(serve):
    served = serve("--no-watchdog")
    os.kill(served.server_pid, signal.SIGSEGV)
    assert served.process.wait(60) == 1
    assert "tritonserver has ended with status -11 and is not started again" in served.text()


def test_stop_is_bounded_after_expired_deadlines(serve, golden):
    served = serve()
    end = time.monotonic() + 3

    def storm():
        with GrpcModel(served.url, timeout_s=0.02) as model:
            while time.monotonic() < end:
                with contextlib.suppress(ClientError):
                    model.recommend(golden.history[:1], golden.exclude[:1])

    threads = [threading.Thread(target=storm) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    began = time.monotonic()
    served.stop()
    assert time.monotonic() - began < 25  # 10 s for requests that are lost, and what it takes to end


def test_server_left_by_a_killed_serve_is_ended_by_the_next(serve, golden):
    first = serve()
    orphan = first.server_pid
    first.process.kill()
    first.process.wait()
    assert not is_gone(orphan)
    second = serve(ports=first.ports)
    assert is_gone(orphan)
    assert f"ending tritonserver {orphan}: the distilrec serve that watched it ({first.process.pid}) was killed" in second.text()
    with GrpcModel(second.url) as model:
        model.recommend(golden.history[:1], golden.exclude[:1])
    assert second.stop() == 0


def test_shared_memory_of_requests_is_private(serve):
    served = serve()
    assert {stat.S_IMODE(path.stat().st_mode) for path in regions(served)} == {0o600}
    assert served.stop() == 0


def test_risk_of_the_servers_release_is_said_at_the_start(serve):
    served = serve()
    assert "triton-inference-server/server#7368" in served.text()
    assert ModelControl(served.url, ControlSecret()).version() == wheel.SERVER_VERSION
    server = next(part for part in examine(served.url) if part.name == "server")
    assert f"{served.url} is ready; tritonserver {wheel.SERVER_VERSION} can be ended by any client" in server.detail
    assert served.stop() == 0


def test_http_is_closed_unless_it_is_asked_for(serve):
    served = serve()
    assert not is_open(served.ports.http)
    assert "HTTP" not in served.text()
    assert served.stop() == 0
    served = serve("--http", ports=served.ports)
    assert is_open(served.ports.http)
    assert f", HTTP on 127.0.0.1:{served.ports.http}; Ctrl-C ends it" in served.text()
    assert "--http: every account of this machine can end tritonserver 2.51.0 with one small HTTP request" in served.text()
    assert served.stop() == 0


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_secret_leaves_the_process_list_before_the_models_are_loaded(serving_config, tmp_path):
    """What every account can read in the process list from the server's start until it is ready."""
    secret, seen = ControlSecret(), []
    stop = threading.Event()

    def watch():
        while not stop.is_set():
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    if secret.value.encode() in path.read_bytes():
                        seen.append(time.monotonic())
            time.sleep(0.005)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        with TritonServer(serving_config.repository, free_ports(), tmp_path / "log", secret=secret) as server:
            ready = time.monotonic()
            stop.set()
            watching.join()
            assert {(model.name, model.state) for model in ModelControl(server.url, secret).index()} >= {("student", "READY")}
    finally:
        stop.set()
    assert not seen or ready - max(seen) > 0.1
