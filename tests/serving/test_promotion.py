"""Promotion in a real tritonserver under steady load: nobody notices a new version, nor one that is refused."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from distilrec.data.vocabulary import Vocabulary, load_vocabulary
from distilrec.errors import DistilRecError
from distilrec.golden import Golden, load_golden
from distilrec.manifest import read_manifest, record_files, write_manifest
from distilrec.serving.live import GrpcControl, Limits
from distilrec.serving.promotion import PromotionError, Server, promote, recover, rollback, versions
from distilrec.serving.server import TritonServer, find_tritonserver, free_ports
from distilrec.specs import RecommenderSpec
from distilrec.versions import served_version
from export.onnx_runner import OnnxRunner
from export.parity import compare, edge_requests
from export.repository import MODELS, artefact_spec, fill_repository, write_student

SECRET = {"triton-grpc-protocol-promotion": "s3cret"}
QUICK = Limits(watch_s=0.5, max_p99_ms=2000)
STEPS = ["the artefact is whole", "is staged", "is loaded", "answers as it should", "is pinned"]


def record(folder, spec=None, requests=None, **metrics):
    """Golden answers and manifest of an artefact whose model was edited."""
    manifest = read_manifest(folder)
    spec = spec or artefact_spec(manifest)
    former = load_golden(folder / "golden.npz")
    history, exclude = requests or (former.history, former.exclude)
    answer = OnnxRunner(folder / "fp32" / "model.onnx", spec).recommend(history, exclude)
    Golden(history, exclude, *answer).save(folder / "golden.npz")
    sizes = {"history_length": spec.history_length, "exclude_length": spec.exclude_length, "top_k": spec.top_k}
    update = {"settings": manifest.settings | sizes, "metrics": manifest.metrics | metrics, "files": record_files(folder)}
    write_manifest(folder, manifest.model_copy(update=update))
    return folder


def edit_weights(folder, edit):
    path = folder / "fp32" / "model.onnx"
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim == 2:
            tensor.CopyFrom(numpy_helper.from_array(edit(values).astype(np.float32), tensor.name))
    onnx.save(model, path)


@pytest.fixture(scope="module")
def variant(shop_run, tmp_path_factory):
    """Artefacts with the shop's sizes and vocabulary, and with other weights."""

    def make(seed):
        folder = tmp_path_factory.mktemp("artefact") / "export"
        shutil.copytree(shop_run / "export", folder, ignore=shutil.ignore_patterns("engines"))
        random = np.random.default_rng(seed)
        edit_weights(folder, lambda values: values + random.normal(0, values.std(), values.shape))
        return record(folder)

    return make


@pytest.fixture
def repository(shop_run, shop_config, tmp_path):
    config = shop_config.export.model_copy(update={"repository": tmp_path / "repo", "instances": 1, "max_batch_size": 8})
    fill_repository(shop_run / "export", config)
    return config


@pytest.fixture
def server(repository, tmp_path):
    """A server with model control, which needs a secret."""
    ports = free_ports()
    options = {"model-repository": repository.repository, "model-control-mode": "explicit", "log-info": "false"}
    options |= {"grpc-port": ports.grpc, "http-port": ports.http, "metrics-port": ports.metrics, "exit-timeout-secs": 10}
    options["grpc-restricted-protocol"] = "model-repository,model-config:promotion=s3cret"
    command = [*find_tritonserver(), "--disable-auto-complete-config", *(f"--{name}={value}" for name, value in options.items())]
    command += [f"--load-model={model.name}" for model in MODELS]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    url = f"127.0.0.1:{ports.grpc}"
    try:
        client = grpc.InferenceServerClient(url)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert process.poll() is None, (tmp_path / "log").read_text()
            with contextlib.suppress(InferenceServerException):
                if all(client.is_model_ready(model.name, client_timeout=1) for model in MODELS):
                    break
            time.sleep(0.1)
        client.close()
        yield Server(url, SECRET, load_timeout_s=30)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            # Its model processes are in its session.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(client, history, exclude):
    inputs = []
    for name, values in (("history", history), ("exclude", exclude)):
        inputs.append(grpc.InferInput(name, values.shape, "INT32"))
        inputs[-1].set_data_from_numpy(values)
    result = client.infer("student", inputs, client_timeout=10)
    return result.as_numpy("items"), result.as_numpy("scores"), int(result.get_response().model_version)


class Load:
    """Asks golden requests all the time, and holds each answer against the expectation of the version that gave it."""

    def __init__(self, url, expected, threads=2):
        self.expected, self.failed, self.wrong, self.took_ms, self.seen = expected, [], [], [], set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(url, place)) for place in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, url, row):
        with grpc.InferenceServerClient(url) as client:
            while not self._stop.is_set():
                golden = next(iter(self.expected.values()))
                row = (row + 1) % len(golden.history)
                begin = time.perf_counter()
                try:
                    items, scores, version = ask(client, golden.history[row, None], golden.exclude[row, None])
                except InferenceServerException as error:
                    self.failed.append(str(error))
                    continue
                self.took_ms.append((time.perf_counter() - begin) * 1000)
                self.seen.add(version)
                own = self.expected[version]
                parity = compare((own.items[row, None], own.scores[row, None]), (items, scores))
                if parity.misplaced or not parity.max_score_error <= 1e-4:
                    self.wrong.append((version, row))
                time.sleep(0.002)


def restart(repository, tmp_path, golden, version):
    """A plain start, as after a reboot, is healthy and gives the golden answers of ``version``."""
    with TritonServer(repository.repository, free_ports(), tmp_path / "restart.log") as server:
        with grpc.InferenceServerClient(server.url) as client:
            items, scores, answered = ask(client, golden.history[:8], golden.exclude[:8])
        assert answered == version
        assert not compare((golden.items[:8], golden.scores[:8]), (items, scores)).misplaced
        server.stop()


def served(repository):
    return {served_version(repository.repository, model.name) for model in MODELS}


def test_promotions_and_rollbacks_fail_no_request_and_mix_no_answers(variant, repository, server, shop_run, tmp_path):
    expected = {1: load_golden(shop_run / "export" / "golden.npz")}
    with Load(server.url, expected) as load:
        for number in (2, 3, 4, 5):
            artefact = variant(number)
            expected[number] = load_golden(artefact / "golden.npz")
            promotion = promote(artefact, repository.repository, repository, server, limits=QUICK)
            assert (promotion.version, promotion.former) == (number, number - 1)
            assert promotion.watched.failed == 0
            assert promotion.watched.requests > promotion.watched.probes > 5
        assert rollback(repository.repository, server).version == 4
        assert rollback(repository.repository, server).version == 3
        time.sleep(1)
    assert load.failed == []
    assert load.wrong == []
    assert load.seen == {1, 2, 3, 4, 5}
    assert len(load.took_ms) > 2000
    states = {entry.number: entry.state for entry in versions(repository.repository)}
    assert states == {1: "retired", 2: "good", 3: "serving", 4: "retired", 5: "retired"}
    restart(repository, tmp_path, expected[3], 3)


def corrupt(folder):
    (folder / "fp32" / "model.onnx").write_bytes(b"no model")
    write_manifest(folder, read_manifest(folder).model_copy(update={"files": record_files(folder)}))


def half_copied(folder):
    with (folder / "fp32" / "model.onnx").open("r+b") as file:
        file.truncate(1000)


def other_vocabulary(folder):
    vocabulary = load_vocabulary(folder / "vocabulary.json")
    Vocabulary(tuple(reversed(vocabulary.item_ids)), vocabulary.titles).save(folder / "vocabulary.json")
    write_manifest(folder, read_manifest(folder).model_copy(update={"files": record_files(folder)}))


def nan_weights(folder):
    def edit(values):
        values = values.copy()
        values[0, 0] = np.nan
        return values

    edit_weights(folder, edit)
    write_manifest(folder, read_manifest(folder).model_copy(update={"files": record_files(folder)}))


def other_answers(folder):
    edit_weights(folder, lambda values: values * 1.5)
    write_manifest(folder, read_manifest(folder).model_copy(update={"files": record_files(folder)}))


DAMAGES = {
    corrupt: "ONNX Runtime cannot load it",
    half_copied: r"model\.onnx: sha256",
    lambda folder: (folder / "vocabulary.json").unlink(): r"vocabulary\.json: missing",
    lambda folder: (folder / "manifest.json").unlink(): "found no manifest",
    other_vocabulary: "expected one and the same",
    nan_weights: "that are no numbers",
    other_answers: "golden answers",
}


def model_that(edit):
    """The student, with a model.py that no check without a server can find fault with."""

    def write(artefact, manifest, config, folder):
        write_student(artefact, manifest, config, folder)
        path = folder / "model.py"
        if edit is None:
            path.unlink()
            return
        old, new = edit
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return [model._replace(write=write) if model.name == "student" else model for model in MODELS]


_RUN = "        results = self.session.run("
REFUSED_BY_SERVER = {
    "found no model.py": None,
    "was refused": ("class TritonPythonModel:", "class TritonPythonModel"),
    "(?s)was refused.*warmup": (_RUN, "        raise ValueError('broken')\n" + _RUN),
    "golden answers": ("for answer in zip(*parts", "for answer in zip(parts[0][::1], [part * 2 for part in parts[1]]"),
}


def test_bad_versions_are_refused_while_the_former_serves_on(variant, repository, server, shop_run, tmp_path):
    golden = load_golden(shop_run / "export" / "golden.npz")
    good = variant(0)
    # A version that answers wrongly answers somebody before it is found out; what is promised is that nobody's request fails.
    with Load(server.url, dict.fromkeys(range(1, 10), golden)) as load:
        for damage, message in DAMAGES.items():
            bad = tmp_path / "bad"
            shutil.copytree(good, bad)
            damage(bad)
            with pytest.raises(DistilRecError, match=message):
                promote(bad, repository.repository, repository, server, limits=QUICK)
            shutil.rmtree(bad)
        assert load.wrong == []
        assert load.seen == {1}
        for message, edit in REFUSED_BY_SERVER.items():
            with pytest.raises(PromotionError, match=message) as caught:
                promote(good, repository.repository, repository, server, limits=QUICK, models=model_that(edit))
            assert "Version 1 stays pinned" in str(caught.value)
    assert load.failed == []
    assert len(load.took_ms) > 200
    assert {version for version, _ in load.wrong} <= {5}
    states = [(entry.number, entry.state) for entry in versions(repository.repository)]
    assert states == [(1, "serving"), (2, "failed"), (3, "failed"), (4, "failed"), (5, "failed")]
    assert sorted(path.name for path in (repository.repository / "student").iterdir()) == ["1", "config.pbtxt"]
    with GrpcControl(server.url, SECRET) as control:
        assert control.ready_versions("student") == {1}
    assert promote(good, repository.repository, repository, server, limits=QUICK).version == 6
    restart(repository, tmp_path, load_golden(good / "golden.npz"), 6)


def test_slow_version_and_missing_secret_are_refused(variant, repository, server):
    artefact = variant(0)
    with pytest.raises(PromotionError, match=r"has a p99 of .* ms, expected at most 0"):
        promote(artefact, repository.repository, repository, server, limits=Limits(watch_s=0.2, max_p99_ms=0.001))
    with pytest.raises(PromotionError, match="model control does not answer"):
        promote(artefact, repository.repository, repository, Server(server.url), limits=QUICK)
    assert served(repository) == {1}


def test_load_that_does_not_end_is_given_up_and_the_former_version_serves_on(variant, repository, server, shop_run):
    hangs = model_that(("        config = json.loads(", "        import time; time.sleep(600)\n        config = json.loads("))
    golden = load_golden(shop_run / "export" / "golden.npz")
    impatient = Server(server.url, SECRET, load_timeout_s=3)
    with (
        Load(server.url, dict.fromkeys((1, 2), golden)) as load,
        pytest.raises(PromotionError, match=r"did not end within 3 s; it serves version 1 on, .* restart it"),
    ):
        promote(variant(0), repository.repository, repository, impatient, limits=QUICK, models=hangs)
    assert (load.failed, load.wrong, load.seen) == ([], [], {1})
    assert served(repository) == {1}


def test_other_catalogue_and_sizes_go_live_and_back(repository, server, shop_run, tmp_path):
    artefact = other_sizes(shop_run / "export", tmp_path / "export")
    assert promote(artefact, repository.repository, repository, server, limits=QUICK).version == 2
    with grpc.InferenceServerClient(server.url) as client:
        assert ask(client, np.zeros((1, 8), np.int32), np.zeros((1, 5), np.int32))[0].shape == (1, 10)
    assert rollback(repository.repository, server).version == 1
    with grpc.InferenceServerClient(server.url) as client:
        assert ask(client, np.zeros((1, 12), np.int32), np.zeros((1, 16), np.int32))[2] == 1


def other_sizes(base, folder):
    import torch

    from distill.encoders import Recommender
    from distill.item_table import ItemTable
    from distill.students.mlp import MlpStudent
    from export.onnx import export_onnx

    torch.manual_seed(0)
    spec = RecommenderSpec(item_count=40, history_length=8, exclude_length=5, top_k=10)
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("engines"))
    ids = tuple(f"new-{item}" for item in range(spec.item_count))
    vocabulary = Vocabulary(ids, ids)
    vocabulary.save(folder / "vocabulary.json")
    student = MlpStudent(ItemTable(spec.item_count, 8), spec.history_length, 16, (0.5, 0.9), 0.0)
    metadata = {"vocabulary_sha256": vocabulary.sha256, "item_count": "40", "precision": "fp32"}
    export_onnx(Recommender(student.eval(), spec).eval(), folder / "fp32" / "model.onnx", metadata)
    return record(folder, spec, edge_requests(spec), item_count=spec.item_count, vocabulary_sha256=vocabulary.sha256)


KILLED = """
import os, signal, sys
from pathlib import Path
from distilrec.config import ExportConfig
from distilrec.serving.live import Limits
from distilrec.serving.promotion import Server, promote
artefact, repository, url, at = sys.argv[1:]
def report(step):
    if at in step:
        os.kill(os.getpid(), signal.SIGKILL)
promote(Path(artefact), Path(repository), ExportConfig(instances=1, max_batch_size=8),
        Server(url, {"triton-grpc-protocol-promotion": "s3cret"}), limits=Limits(watch_s=0.1, max_p99_ms=2000), report=report)
"""


def test_promotion_that_is_killed_leaves_a_repository_that_starts(variant, repository, server, shop_run, tmp_path):
    artefact, golden = variant(0), load_golden(shop_run / "export" / "golden.npz")
    for place, step in enumerate(STEPS):
        command = [sys.executable, "-c", KILLED, str(artefact), str(repository.repository), server.url, step]
        assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
        proven = step == STEPS[-1]
        expected, number = (load_golden(artefact / "golden.npz"), place + 1) if proven else (golden, 1)
        restart(repository, tmp_path, expected, number)
        recover(repository.repository)
        assert served(repository) == {number}
    assert [entry.state for entry in versions(repository.repository)] == ["good", "failed", "failed", "failed", "serving"]
    assert promote(variant(1), repository.repository, repository, server, limits=QUICK).version == 6
