"""Against a real tritonserver: a dead model process is healed, wrong answers are reported, a stop under load loses nothing."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from golden_load import Load
from google.protobuf import json_format
from tritonclient import grpc

from clients.errors import ClientError
from clients.grpc_model import GrpcModel
from distilrec.core.errors import DataError, ServerError
from distilrec.core.golden import Golden, load_golden
from distilrec.serving.health import memory
from distilrec.serving.health.leftovers import Leftovers
from distilrec.serving.health.probe import PATIENCE, Fault, ProbeResult, judge, over_grpc, over_http
from distilrec.serving.health.watchdog import Watchdog
from distilrec.serving.process.control import ModelControl
from distilrec.serving.process.processes import ModelProcesses
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.process.server import TritonServer, free_ports
from export.repository.fill import fill_repository
from export.repository.versions import parse_config, version_configs

pytestmark = pytest.mark.server


@pytest.fixture
def repository(shop_run, shop_config, tmp_path):
    """Student and front door, as an export fills them in; two instances each."""
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo", "instances": 2})
    fill_repository(shop_run / "export", config)
    return config.repository


@pytest.fixture
def golden(repository):
    return load_golden(repository / "student" / "1" / "golden.npz")


@pytest.fixture
def server(repository, tmp_path):
    with TritonServer(repository, free_ports(), tmp_path / "log", secret=ControlSecret()) as server:
        yield server


def busy(server, golden, threads=4):
    """Load without a pause."""
    return Load(server.url, {1: golden}, threads, pause_s=0)


def stubs(server: TritonServer, model: str) -> list[int]:
    """Living model processes."""
    found = []
    for path in Path(f"/proc/{server.pid}/task").glob("*/children"):
        for pid in path.read_text().split():
            if f"/{model}/" in Path(f"/proc/{pid}/cmdline").read_text():
                found.append(int(pid))
    return found


def wait_for(condition, timeout_s: float) -> float:
    """Seconds until ``condition()`` held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, f"not within {timeout_s} s"
        time.sleep(0.02)
    return time.monotonic() - began


@pytest.mark.parametrize("model", ["student", "recommend"])
def test_killed_model_process_is_healed_under_load(server, golden, model):
    with Watchdog(server, metrics_port=0) as watchdog, busy(server, golden) as load:
        wait_for(lambda: load.answered > 200 and watchdog.last_success_s, 10)
        assert not load.failed
        victim = stubs(server, model)[0]
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: watchdog.heals, 5)
        healed = time.monotonic()
        before = load.answered
        time.sleep(3)  # another heal would come now, if what is left of the dead process were taken for a new one
        assert load.answered > before + 200
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{watchdog.metrics_port}/metrics").read().decode()
    assert healed - killed < 5
    assert [error for began, error in load.failed if not killed - 2 <= began <= healed] == []
    assert not load.wrong
    assert (watchdog.heals, watchdog.restarts, watchdog.faults[Fault.PROCESS_DEAD]) == (1, 0, 1)
    assert len([pid for pid in stubs(server, model) if pid != victim]) >= 2
    assert "distilrec_watchdog_heals_total 1\n" in metrics
    assert 'distilrec_watchdog_faults_total{reason="process_dead"} 1\n' in metrics
    assert "distilrec_watchdog_last_success_timestamp_seconds 1" in metrics
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 20  # not the exit timeout, which the dead process's request would otherwise take


def test_killed_process_of_an_idle_model_is_healed_once(server):
    """Whether the probe fails first or the process table is seen first."""
    with Watchdog(server) as watchdog:
        for heals in (1, 2):
            wait_for(lambda: time.time() - watchdog.last_success_s < 1, 10)
            os.kill(stubs(server, "student")[-1], signal.SIGKILL)
            wait_for(lambda: watchdog.heals == heals, 10)  # noqa: B023
            time.sleep(1.5)
    assert (watchdog.heals, watchdog.restarts) == (2, 0)
    assert server.stop() == 0


def test_nothing_is_healed_under_load_or_when_versions_are_reloaded(server, golden):
    with Watchdog(server) as watchdog, busy(server, golden, threads=16) as load:
        for _ in range(3):
            (server.repository / "student" / "config.pbtxt").touch()
            ModelControl(server.control_url, server.secret).load("student")
            time.sleep(0.7)
    assert load.answered
    assert not load.failed
    assert (watchdog.heals, watchdog.restarts) == (0, 0)
    assert not set(watchdog.faults) - {Fault.DEADLINE}


def test_unloaded_student_is_loaded_again(server):
    with Watchdog(server, interval_s=0.1) as watchdog:
        ModelControl(server.url, server.secret).unload("student")
        wait_for(lambda: watchdog.heals, 10)
    states = {entry.name: entry.state for entry in ModelControl(server.url, server.secret).index()}
    assert states["student"] == "READY"
    assert watchdog.faults[Fault.UNAVAILABLE] >= PATIENCE[Fault.UNAVAILABLE]


def test_server_is_restarted_when_loading_fails_twice(server, golden, monkeypatch):
    def refuse(*_, **__):
        raise ServerError("refused by the test")

    monkeypatch.setattr(ModelControl, "load", refuse)
    before, ended = server.pid, []
    waiting = threading.Thread(target=lambda: ended.append(server.wait()))
    waiting.start()
    with Watchdog(server) as watchdog:
        os.kill(stubs(server, "student")[0], signal.SIGKILL)
        wait_for(lambda: watchdog.restarts, 30)
        wait_for(lambda: time.time() - watchdog.last_success_s < 1, 10)
        assert not ended
    assert server.pid != before
    assert (watchdog.heals, watchdog.restarts, watchdog.faults[Fault.HEAL_FAILED]) == (0, 1, 2)
    assert over_grpc(server.url, 2)(golden.history[:1], golden.exclude[:1]).version == 1
    assert server.stop() == 0
    waiting.join(5)
    assert ended == [0]


def test_without_a_secret_the_server_is_restarted(repository, golden, tmp_path):
    with TritonServer(repository, free_ports(), tmp_path / "log") as server, Watchdog(server) as watchdog:
        os.kill(stubs(server, "student")[0], signal.SIGKILL)
        wait_for(lambda: watchdog.restarts, 30)
        assert over_grpc(server.url, 2)(golden.history[:1], golden.exclude[:1]).version == 1


def test_memory_that_a_huge_id_took_is_given_back(server, golden, caplog, monkeypatch):
    monkeypatch.setattr(memory, "PATIENCE_S", 1.0)
    huge = grpc.InferInput("history", [1, 1], "BYTES")
    huge.set_data_from_numpy(np.array([[b"a" * 60_000_000]], np.object_))
    before, first = server.request_memory_bytes(), server.pid
    with Watchdog(server, metrics_port=0, memory_growth_mb=100) as watchdog, grpc.InferenceServerClient(server.url) as client:
        wait_for(lambda: watchdog.last_success_s, 10)
        client.infer("recommend", [huge], client_timeout=60)
        kept = server.request_memory_bytes() - before
        wait_for(lambda: server.pid != first, 30)
        wait_for(lambda: watchdog.last_success_s > time.time() - 0.5 and server.alive, 30)
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{watchdog.metrics_port}/metrics").read().decode()
    assert kept > 100e6
    assert server.request_memory_bytes() < before + 10e6
    assert (watchdog.memory_restarts, watchdog.restarts, watchdog.deaths) == (1, 0, 0)
    assert "distilrec_watchdog_memory_restarts_total 1\n" in metrics
    assert [record.message for record in caplog.records if "MB more memory than after its start" in record.message]
    assert over_grpc(server.url, 2)(golden.history[:1], golden.exclude[:1]).version == 1


def test_wrong_answers_are_reported_and_not_healed(server, golden, caplog):
    Golden(golden.history, golden.exclude, golden.items[:, ::-1].copy(), golden.scores).save(
        server.repository / "student" / "1" / "golden.npz"
    )
    with caplog.at_level("WARNING"), Watchdog(server, interval_s=0.05) as watchdog:
        wait_for(lambda: watchdog.faults[Fault.WRONG_ANSWER] >= 5, 10)
    assert (watchdog.heals, watchdog.restarts, watchdog.last_success_s) == (0, 0, 0)
    assert len([record for record in caplog.records if "wrong_answer" in record.message]) == 1


def test_missing_golden_requests_are_said_at_once(server):
    (server.repository / "student" / "1" / "golden.npz").unlink()
    with pytest.raises(DataError, match=r"golden\.npz: no such file"):
        Watchdog(server)


def test_http_and_grpc_probes_get_the_same_answer(shop_server, golden):
    for row in range(len(golden.history)):
        one = golden.rows(slice(row, row + 1))
        for send in (over_grpc(shop_server.url, 2), over_http(f"http://127.0.0.1:{shop_server.ports.http}", 2, {})):
            answer = send(one.history, one.exclude)
            assert judge(one, answer.items, answer.scores) == ProbeResult(None)
            assert answer.version == 1


def test_sigterm_under_load_answers_what_was_accepted(server, golden):
    with busy(server, golden, threads=16) as load:
        wait_for(lambda: load.answered > 500, 20)
        stopped = time.monotonic()
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0
    assert not load.wrong
    # A request that was accepted and lost would be reported as a cancelled or broken call. Later ones are not accepted, and the
    # last of them see the endpoint close.
    assert [error for began, error in load.failed if began <= stopped and not is_refusal(error)] == []
    assert {error for _, error in load.failed if not is_refusal(error)} <= {"CANCELLED: CANCELLED"}


def is_refusal(error: str) -> bool:
    # Triton's answers before and after the model is unloaded; at the end no server listens any more.
    refused = ("Server is stopping", "NOT_FOUND: Request for unknown model", "Connection refused")
    return any(part in error for part in refused)


def test_children_that_are_no_model_processes_are_left_alone():
    child = subprocess.Popen([sys.executable, "-c", ""])
    try:
        processes = ModelProcesses()
        time.sleep(0.5)
        assert [processes.dead(os.getpid()) for _ in range(3)] == [set()] * 3
    finally:
        child.wait()


def test_taken_metrics_port_is_said_plainly(server):
    with pytest.raises(ServerError, match=r"port \d+ \(watchdog metrics\) on 127\.0\.0\.1 is taken.*--watchdog-port"):
        Watchdog(server, metrics_port=server.ports.metrics)


def test_processes_of_a_version_that_never_unloads_are_ended(repository, golden, tmp_path, monkeypatch):
    """A request that is not answered keeps its version UNLOADING, as requests that tritonserver 2.51 lost do."""
    monkeypatch.setattr("distilrec.serving.health.watchdog.Leftovers", partial(Leftovers, limit_s=1.0))
    monkeypatch.setattr("distilrec.serving.health.watchdog._LEFTOVERS_EVERY_S", 0.2)
    student = repository / "student"
    shutil.copytree(student / "1", student / "2")
    hung = "    def execute(self, requests):\n        import time; time.sleep(600)\n\n    def unused(self, requests):"
    code = (student / "2" / "model.py").read_text()
    (student / "1" / "model.py").write_text(code.replace("    def execute(self, requests):", hung))
    configs = version_configs(repository, ["student"], 1)
    newer = str(json_format.MessageToJson(parse_config(configs["student"].replace("versions: 1", "versions: 2"))))
    secret = ControlSecret()
    with TritonServer(repository, free_ports(), tmp_path / "log", secret=secret) as server, GrpcModel(server.url) as model:
        old = stubs(server, "student")
        with pytest.raises(ClientError):
            GrpcModel(server.url, timeout_s=0.2).recommend(golden.history[:1], golden.exclude[:1])
        ModelControl(server.url, secret).load("student", 30, newer)
        with Watchdog(server, interval_s=0.1) as watchdog:
            deadline = time.monotonic() + 20
            while set(old) & set(stubs(server, "student")) and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(0.5)
            assert watchdog.ended in {1, 2}  # an instance without a request ends by itself or with the others
            assert watchdog.heals == 0
            assert "distilrec_watchdog_processes_ended_total" in watchdog.metrics()
        assert not set(old) & set(stubs(server, "student"))
        assert model.recommend_with_version(golden.history[:1], golden.exclude[:1])[2] == "2"
