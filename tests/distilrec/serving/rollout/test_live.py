"""Promotion in a real tritonserver under steady load: no client notices a new version, nor one that is refused."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from artefacts import edit_weights, other_sizes
from golden_load import Load

from clients import RecommenderClient
from clients.grpc_model import GrpcModel
from distilrec.core.errors import DistilRecError
from distilrec.core.golden import load_golden
from distilrec.core.manifest import read_manifest, record_files, write_manifest
from distilrec.data.vocabulary import Vocabulary, load_vocabulary
from distilrec.evaluation.parity import compare
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.rollout import steps
from distilrec.serving.rollout.live import Server, ready_versions
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.promotion import PromotionError, promote, rollback, versions
from distilrec.serving.rollout.settling import settle
from export.repository.locks import locked
from export.repository.models import MODELS, write_student
from export.repository.versions import served_version

QUICK = Limits(watch_s=0.5, max_p99_ms=2000)
LIVE_STEPS = ["is loaded", "answers as it should", "is pinned"]


def restart(serving_config, tmp_path, golden, version):
    """A plain start, as after a reboot, is healthy and gives the golden answers of ``version``."""
    with TritonServer(serving_config.repository, free_ports(), tmp_path / "restart.log") as server:
        with GrpcModel(server.url) as model:
            items, scores, answered = model.recommend_with_version(golden.history[:8], golden.exclude[:8])
        assert answered == str(version)
        assert not compare((golden.items[:8], golden.scores[:8]), (items, scores)).misplaced


def served(serving_config):
    return {served_version(serving_config.repository, model.name) for model in MODELS}


def test_promotions_and_rollbacks_fail_no_request_and_mix_no_answers(variant, serving_config, promotable, shop_run, tmp_path):
    expected = {1: load_golden(shop_run / "export" / "golden.npz")}
    with Load(promotable.url, expected) as load:
        for number in (2, 3, 4, 5):
            artefact = variant(number)
            expected[number] = load_golden(artefact / "golden.npz")
            done = promote(artefact, serving_config.repository, serving_config, promotable, limits=QUICK)
            assert (done.version, done.former) == (number, number - 1)
            assert done.watched.failed == 0
            assert done.watched.requests > done.watched.probes > 5
        assert rollback(serving_config.repository, promotable).version == 4
        assert rollback(serving_config.repository, promotable).version == 3
        time.sleep(1)
    assert load.failed == []
    assert load.wrong == []
    assert load.seen == {1, 2, 3, 4, 5}
    assert load.answered > 2000
    states = {entry.number: entry.state for entry in versions(serving_config.repository)}
    assert states == {1: "retired", 2: "good", 3: "serving", 4: "retired", 5: "retired"}
    restart(serving_config, tmp_path, expected[3], 3)


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


_RUN = "        self.run(end)"
REFUSED_BY_SERVER = {
    "found no model.py": None,
    "was refused": ("class TritonPythonModel:", "class TritonPythonModel"),
    "golden answers": (_RUN, f"{_RUN}\n        self.outputs['scores'] *= 2"),
}
# Not in a live server: where a warm-up fails this one sometimes ends with a segmentation fault.
REFUSED_IN_REHEARSAL = REFUSED_BY_SERVER | {
    "tritonserver ended with status": (_RUN, "        raise ValueError('broken')\n" + _RUN),
}


def test_bad_versions_are_refused_while_the_former_serves_on(variant, serving_config, promotable, shop_run, tmp_path):
    golden = load_golden(shop_run / "export" / "golden.npz")
    good = variant(0)
    with Load(promotable.url, dict.fromkeys(range(1, 10), golden)) as load:
        for damage, message in DAMAGES.items():
            bad = tmp_path / "bad"
            shutil.copytree(good, bad)
            damage(bad)
            with pytest.raises(DistilRecError, match=message):
                promote(bad, serving_config.repository, serving_config, promotable, limits=QUICK)
            shutil.rmtree(bad)
        assert load.wrong == []
        assert load.seen == {1}
        for message, edit in REFUSED_IN_REHEARSAL.items():
            with pytest.raises(PromotionError, match=message) as caught:
                promote(good, serving_config.repository, serving_config, promotable, limits=QUICK, models=model_that(edit))
            assert "Version 1 stays pinned" in str(caught.value)
    # Not even a version that answers wrongly has answered a client.
    assert (load.failed, load.wrong, load.seen) == ([], [], {1})
    assert load.answered > 200
    states = [(entry.number, entry.state) for entry in versions(serving_config.repository)]
    assert states == [(1, "serving"), (2, "failed"), (3, "failed"), (4, "failed"), (5, "failed")]
    assert sorted(path.name for path in (serving_config.repository / "student").iterdir()) == ["1", "config.pbtxt"]
    assert ready_versions(promotable, "student") == {1}
    assert promote(good, serving_config.repository, serving_config, promotable, limits=QUICK).version == 6
    restart(serving_config, tmp_path, load_golden(good / "golden.npz"), 6)


def test_without_a_rehearsal_the_live_server_refuses(variant, serving_config, promotable, shop_run):
    golden, good = load_golden(shop_run / "export" / "golden.npz"), variant(0)
    # A version that answers wrongly answers clients before the checks find it; what is promised is that no request fails.
    with Load(promotable.url, dict.fromkeys(range(1, 10), golden)) as load:
        for message, edit in REFUSED_BY_SERVER.items():
            with pytest.raises(PromotionError, match=message) as caught:
                promote(
                    good,
                    serving_config.repository,
                    serving_config,
                    promotable,
                    limits=QUICK,
                    rehearsed=False,
                    models=model_that(edit),
                )
            assert "Version 1 stays pinned" in str(caught.value)
    assert load.failed == []
    assert {version for version, _ in load.wrong} <= {4}
    assert ready_versions(promotable, "student") == {1}


def test_slow_version_and_missing_secret_are_refused(variant, serving_config, promotable):
    artefact = variant(0)
    with pytest.raises(PromotionError, match=r"has a p99 of .* ms, expected at most 0"):
        promote(artefact, serving_config.repository, serving_config, promotable, limits=Limits(watch_s=0.2, max_p99_ms=0.001))
    with pytest.raises(PromotionError, match="is restricted"):
        promote(artefact, serving_config.repository, serving_config, Server(promotable.url, ControlSecret()), limits=QUICK)
    assert served(serving_config) == {1}


def test_full_disk_at_the_decision_brings_the_former_version_back(variant, serving_config, promotable, shop_run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    artefact, goldens = variant(0), {1: load_golden(shop_run / "export" / "golden.npz")}
    goldens[2] = load_golden(artefact / "golden.npz")
    monkeypatch.setattr(steps, "decide_move", full)
    with Load(promotable.url, goldens) as load, pytest.raises(PromotionError, match="No space left"):
        promote(artefact, serving_config.repository, serving_config, promotable, limits=QUICK, rehearsed=False)
    monkeypatch.undo()
    assert (load.failed, load.wrong) == ([], [])
    assert ready_versions(promotable, "student") == served(serving_config) == {1}
    assert not (serving_config.repository / "student" / "2").exists()


def test_load_that_does_not_end_is_given_up_and_the_former_version_serves_on(variant, serving_config, promotable, shop_run):
    hangs = model_that(("        config = json.loads(", "        import time; time.sleep(600)\n        config = json.loads("))
    golden = load_golden(shop_run / "export" / "golden.npz")
    impatient = replace(promotable, load_timeout_s=3)
    with (
        Load(promotable.url, dict.fromkeys((1, 2), golden)) as load,
        pytest.raises(PromotionError, match=r"did not load model .* within 3 s.*it serves version 1 on, .* restart it"),
    ):
        promote(variant(0), serving_config.repository, serving_config, impatient, limits=QUICK, rehearsed=False, models=hangs)
    assert (load.failed, load.wrong, load.seen) == ([], [], {1})
    assert served(serving_config) == {1}


def test_other_catalogue_and_sizes_go_live_and_back(serving_config, promotable, shop_run, tmp_path):
    artefact = other_sizes(shop_run / "export", tmp_path / "export")
    assert promote(artefact, serving_config.repository, serving_config, promotable, limits=QUICK).version == 2
    with GrpcModel(promotable.url) as model:
        assert model.recommend(np.zeros((1, 8), np.int32), np.zeros((1, 5), np.int32))[0].shape == (1, 10)
    assert rollback(serving_config.repository, promotable).version == 1
    with GrpcModel(promotable.url) as model:
        assert model.recommend_with_version(np.zeros((1, 12), np.int32), np.zeros((1, 16), np.int32))[2] == "1"


KILLED = """
import os, signal, sys
from pathlib import Path
from distilrec.config import ExportConfig
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.rollout import steps
from distilrec.serving.rollout.live import Server
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.promotion import promote
artefact, repository, url, at = sys.argv[1:]
def report(step):
    if step.endswith(at):
        os.kill(os.getpid(), signal.SIGKILL)
promote(Path(artefact), Path(repository), ExportConfig(instances=1, max_batch_size=8),
        Server(url, ControlSecret(os.environ["SECRET"])), limits=Limits(watch_s=0.1, max_p99_ms=2000), report=report)
"""


def test_promotion_that_is_killed_leaves_a_repository_that_starts(variant, serving_config, promotable, shop_run, tmp_path):
    artefact, golden, pinned = variant(0), load_golden(shop_run / "export" / "golden.npz"), 1
    for number, step in enumerate(LIVE_STEPS, start=2):
        if pinned > 1:
            golden = load_golden(artefact / "golden.npz")
        command = [sys.executable, "-c", KILLED, str(artefact), str(serving_config.repository), promotable.url, step]
        secret = {"SECRET": promotable.secret.value}
        done = subprocess.run(command, check=False, timeout=120, env=os.environ | secret, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        live = ready_versions(promotable, "student")
        decided = step == LIVE_STEPS[-1]
        restart(serving_config, tmp_path, *((load_golden(artefact / "golden.npz"), number) if decided else (golden, pinned)))
        with locked(serving_config.repository):
            settle(serving_config.repository, [model.name for model in MODELS], promotable, print)
        # What clients get is never taken from them.
        assert ready_versions(promotable, "student") == live
        assert live == served(serving_config) == {number}
        pinned = number
        with RecommenderClient(promotable.url) as client:
            assert client.recommend(["item-1"]).model_version == str(pinned)
    assert [entry.state for entry in versions(serving_config.repository)] == ["good", "good", "good", "serving"]
    assert promote(variant(1), serving_config.repository, serving_config, promotable, limits=QUICK).version == 5
