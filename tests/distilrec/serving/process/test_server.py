"""Against a real tritonserver: the answers are the model's, bad requests harm nobody, start and stop are clean."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient import grpc

from clients import RecommenderClient
from clients.grpc_model import GrpcModel
from distill.models.runner import TorchRunner
from distill.models.students.build import load_student
from distill.models.teachers.load import load_teacher
from distilrec.config import spec_of_run
from distilrec.core.errors import ServerError
from distilrec.core.manifest import read_manifest, write_manifest
from distilrec.core.specs import Precision
from distilrec.data import stage as data_stage
from distilrec.data.dataset import held_out
from distilrec.evaluation.contract import BATCH_TOLERANCE, agreement, check_contract
from distilrec.evaluation.parity import SCORE_TOLERANCE, check_parity, compare, edge_requests
from distilrec.evaluation.ranking import recommend_all
from distilrec.serving.process import wheel
from distilrec.serving.process.server import Ports, TritonServer, free_ports
from export.artefact import model_path
from export.graph.onnx_runner import OnnxRunner
from export.repository.benchmark_models import fill_benchmark_models
from export.repository.fill import fill_repository

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def shop(shop_run):
    return data_stage.load(shop_run / "data")


def test_triton_answers_as_pytorch_for_200_held_out_users(shop_server, shop_run, shop_config, shop):
    dataset, vocabulary = shop
    spec = spec_of_run(shop_config, len(vocabulary))
    users = held_out(dataset, "test", spec, max_users=200)
    assert len(users.users) == 200
    reference = TorchRunner(load_student(shop_config, shop_run / "student", len(vocabulary)), spec)
    with GrpcModel(shop_server.url) as served:
        assert served.info().spec == spec
        answers = [served.recommend(users.history[i : i + 1], users.exclude[i : i + 1]) for i in range(200)]
        parity = compare(
            reference.recommend(users.history, users.exclude),
            (np.concatenate([items for items, _ in answers]), np.concatenate([scores for _, scores in answers])),
        )
        assert parity.misplaced == 0
        assert parity.max_score_error <= SCORE_TOLERANCE
        check_parity(reference, served, *edge_requests(spec))


def test_bad_indices_harm_nobody_in_their_batch(shop_server, shop_config, shop):
    dataset, vocabulary = shop
    spec = spec_of_run(shop_config, len(vocabulary))
    users = held_out(dataset, "test", spec, max_users=60)
    bad = np.full((1, spec.history_length), 2**31 - 1, np.int32)
    with GrpcModel(shop_server.url) as served, ThreadPoolExecutor(16) as pool:
        expected = [served.recommend(users.history[i : i + 1], users.exclude[i : i + 1])[0].tolist() for i in range(60)]

        def ask(request: int) -> list[list[int]]:
            row = request % 60
            history = bad if request % 7 == 0 else users.history[row : row + 1]
            return served.recommend(history, users.exclude[row : row + 1])[0].tolist()

        answers = list(pool.map(ask, range(300)))
    good = [request for request in range(300) if request % 7]
    assert [answers[request] for request in good] == [expected[request % 60] for request in good]


def test_requests_are_batched(shop_server, shop_config, shop):
    dataset, vocabulary = shop
    spec = spec_of_run(shop_config, len(vocabulary))
    users = held_out(dataset, "test", spec, max_users=8)

    def executions(client) -> tuple[int, int]:
        stats = client.get_inference_statistics("student").model_stats[0]
        return stats.inference_count, stats.execution_count

    with grpc.InferenceServerClient(shop_server.url) as raw, GrpcModel(shop_server.url) as served, ThreadPoolExecutor(32) as pool:
        before = executions(raw)
        list(pool.map(lambda i: served.recommend(users.history[i % 8][None], users.exclude[i % 8][None]), range(600)))
        after = executions(raw)
    assert after[0] - before[0] == 600
    assert after[1] - before[1] < 600


def test_taken_port_is_said_plainly(shop_config):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"port {port} \(http\) on 127\.0\.0\.1 is taken.*--http-port"):
            TritonServer(shop_config.export.repository, Ports(free_ports().grpc, port, free_ports().metrics), http=True)


def test_repository_without_a_model_is_refused(shop_config, tmp_path):
    shutil.copytree(shop_config.export.repository, tmp_path / "repo", ignore=shutil.ignore_patterns("model.onnx"))
    with pytest.raises(ServerError, match=r"found no .*model\.onnx\. Fill the repository first"):
        TritonServer(tmp_path / "repo", free_ports())


def test_model_for_another_vocabulary_is_not_served(shop_config, tmp_path):
    shutil.copytree(shop_config.export.repository, tmp_path / "repo")
    config = tmp_path / "repo" / "student" / "config.pbtxt"
    config.write_text(re.sub(r'"[0-9a-f]{64}"', '"' + "0" * 64 + '"', config.read_text()))
    with pytest.raises(ServerError, match=r"(?s)before it was ready.*was made for vocabulary"):
        TritonServer(tmp_path / "repo", free_ports(), tmp_path / "log")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("shop_run")
def test_serve_ends_cleanly_when_told(shop_config, sent):
    ports = free_ports()
    command = [sys.executable, "-m", "distilrec", "serve", "--repository", str(shop_config.export.repository)]
    command += [f"--{name}-port={port}" for name, port in vars(ports).items()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().startswith(f"ready: gRPC on 127.0.0.1:{ports.grpc}")
        with RecommenderClient(f"127.0.0.1:{ports.grpc}") as client:
            assert len(client.recommend([])) == 10
        process.send_signal(sent)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    # Where the secret lies stands before it, or was read ahead with the first line.
    assert output.splitlines()[-1] == "stopped"
    assert "Traceback" not in errors
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", ports.grpc)) != 0


def test_plain_tritonserver_command_serves_the_repository(shop_config, tmp_path):
    """What the README says: tritonserver --model-repository triton_repo, in the activated environment."""
    launcher = wheel.write_launcher()
    assert launcher == Path(sys.prefix) / "bin" / "tritonserver"
    ports = free_ports()
    # No DistilRec variables, and PATH as an activated environment has it.
    environment = {"PATH": f"{launcher.parent}:{os.defpath}", "HOME": str(tmp_path)}
    command = ["tritonserver", "--model-repository", str(shop_config.export.repository)]
    command += ["--grpc-port", str(ports.grpc), "--http-port", str(ports.http), "--metrics-port", str(ports.metrics)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        with RecommenderClient(f"127.0.0.1:{ports.grpc}") as client:
            client.wait_until_ready(timeout_s=30)
            assert len(client.recommend(["item-1"])) == 10
    finally:
        process.terminate()
        status = process.wait(60)
    assert status == 0


def test_stopping_leaves_no_process_and_status_0(shop_config, tmp_path):
    with TritonServer(shop_config.export.repository, free_ports(), tmp_path / "log") as server:
        pid = server.pid
    assert server.stop() == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_precision_is_served_and_keeps_the_contract(shop_run, shop_config, shop, precision, tmp_path):
    """The artefact is filled in as if the verdict had chosen this precision."""
    manifest = read_manifest(shop_run / "export")
    artefact = tmp_path / "export"
    shutil.copytree(shop_run / "export", artefact)
    write_manifest(artefact, manifest.model_copy(update={"metrics": manifest.metrics | {"precision": precision}}))
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo"})
    fill_repository(artefact, config)
    dataset, vocabulary = shop
    spec = spec_of_run(shop_config, len(vocabulary))
    users = held_out(dataset, "test", spec)
    path = model_path(artefact, Precision(precision))
    with TritonServer(config.repository, free_ports(), tmp_path / "log") as server, GrpcModel(server.url) as served:
        edges = edge_requests(spec)
        history, exclude = np.concatenate([edges[0], users.history[:50]]), np.concatenate([edges[1], users.exclude[:50]])
        check_contract(served, spec, history, exclude, BATCH_TOLERANCE[Precision(precision)])
        found = served.recommend(users.history[:64], users.exclude[:64])
        expected = OnnxRunner(path, spec).recommend(users.history[:64], users.exclude[:64])
        assert compare(expected, found).misplaced == 0
        assert server.stop() == 0


@pytest.fixture(scope="module")
def runners(shop_run, shop_config, shop, shop_server):
    """Everything that recommends, behind the one interface."""
    spec = spec_of_run(shop_config, len(shop[1]))
    found = {precision: OnnxRunner(model_path(shop_run / "export", precision), spec) for precision in Precision}
    with GrpcModel(shop_server.url) as served:
        yield {**found, "torch": TorchRunner(load_student(shop_config, shop_run / "student", len(shop[1])), spec), "triton": served}


@pytest.mark.parametrize("name", ["torch", *Precision, "triton"])
def test_contract_is_kept_by_every_runner(runners, name, shop, shop_config):
    spec = spec_of_run(shop_config, len(shop[1]))
    users = held_out(shop[0], "test", spec)
    edges = edge_requests(spec)
    history, exclude = np.concatenate([edges[0], users.history[:50]]), np.concatenate([edges[1], users.exclude[:50]])
    check_contract(runners[name], spec, history, exclude, BATCH_TOLERANCE.get(name, SCORE_TOLERANCE))
    expected = runners["torch"].recommend(users.history, users.exclude)
    found = recommend_all(runners[name], users, 60, str(name))
    least = {Precision.FP16: 0.99, Precision.INT8: 0.9}.get(name, 0.9999)
    assert agreement(expected, found, users).overlap_at_10 >= least


def test_teacher_and_idle_model_are_served_for_benchmarks(shop_run, shop_config, shop, tmp_path):
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo"})
    teacher = load_teacher(shop_config, "sequence", shop_run / "teacher-sequence", len(shop[1]))
    fill_repository(shop_run / "export", config)
    fill_benchmark_models(teacher, shop_run / "export", config)
    spec = spec_of_run(shop_config, len(shop[1]))
    users = held_out(shop[0], "test", spec, max_users=40)
    with TritonServer(config.repository, free_ports(), tmp_path / "log") as server:
        with GrpcModel(server.url, "teacher") as served:
            found = served.recommend(users.history, users.exclude)
        with GrpcModel(server.url, "identity") as idle:
            items, _ = idle.recommend(users.history, users.exclude)
    assert compare(TorchRunner(teacher, spec).recommend(users.history, users.exclude), found).misplaced == 0
    assert items.shape == (40, 20)
    assert not items.any()


@pytest.mark.parametrize("crashes", [1, 2])
def test_a_crash_at_the_start_is_tried_once_more(shop_config, shop_run, tmp_path, monkeypatch, caplog, crashes):
    fill_repository(shop_run / "export", shop_config.export.model_copy(update={"repository": tmp_path / "repo"}))
    real = wheel.server_command
    tries = tmp_path / "tries"
    script = f'echo >> {tries}; [ $(wc -l < {tries}) -gt {crashes} ] && exec "$@"; kill -ABRT $$'

    def crashing(options):
        command, environment = real(options)
        return ["bash", "-c", script, "bash", *command], environment

    monkeypatch.setattr(wheel, "server_command", crashing)
    if crashes == 1:
        with TritonServer(tmp_path / "repo", free_ports(), tmp_path / "log") as server:
            assert server.access.is_ready()
        assert "tritonserver crashed at its start (SIGABRT); starting it once more" in caplog.text
    else:
        with pytest.raises(ServerError, match="ended with status -6 before it was ready"):
            TritonServer(tmp_path / "repo", free_ports(), tmp_path / "log")
        assert len(tries.read_text().splitlines()) == 2
