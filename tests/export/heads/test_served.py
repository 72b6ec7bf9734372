"""An export that serves the approximate head: verdict, artefact, repository, a live server, promotion and rollback."""

import json
import shutil

import numpy as np
import pytest
from tritonclient import grpc

from clients import RecommenderClient
from clients.grpc_model import GrpcModel
from distilrec.config import spec_of_artefact
from distilrec.core.errors import ManifestError, RepositoryError
from distilrec.core.golden import load_golden
from distilrec.core.manifest import read_manifest
from distilrec.data.item_filters import load_filters
from distilrec.evaluation.contract import check_contract
from distilrec.evaluation.parity import compare
from distilrec.serving.process.security import ControlSecret
from distilrec.serving.process.server import TritonServer, free_ports
from distilrec.serving.rollout.checks import check_artefact, check_version
from distilrec.serving.rollout.live import Server
from distilrec.serving.rollout.live_checks import Limits
from distilrec.serving.rollout.promotion import promote, rollback
from export import stage
from export.repository.fill import fill_repository


@pytest.fixture(scope="module")
def config(choosing_config, tmp_path_factory):
    asked = {"head": "approximate", "engines": "off", "instances": 1, "max_batch_size": 64}
    export = choosing_config.export.model_copy(update=asked | {"repository": tmp_path_factory.mktemp("approximate") / "repo"})
    return choosing_config.model_copy(update={"export": export})


@pytest.fixture(scope="module")
def artefact(config, choosing_run, shop_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("approximate") / "export"
    inputs = {"data": choosing_run / "data", "student": shop_run / "student", "verdict": shop_run / "student-verdict"}
    stage.run(config, inputs, folder)
    return folder


def test_head_that_is_not_asked_for_changes_nothing(choosing_run):
    assert "head" not in read_manifest(choosing_run / "export").metrics
    assert "head" not in json.loads((choosing_run / "export" / "report.json").read_text())
    assert not (choosing_run / "export" / "approximate").exists()


def test_report_says_why_it_ships(artefact):
    head = json.loads((artefact / "report.json").read_text())["head"]
    assert head["head"] == read_manifest(artefact).metrics["head"] == "approximate"
    assert "approximate head ships" in head["reason"]
    assert head["size_bytes"] == sum(
        path.stat().st_size for path in (artefact / "approximate").iterdir() if path.name not in ("golden.npz", "ranking.json")
    )
    assert head["lists"] == 2


def test_other_targets_refuse_a_head_that_the_settings_name(artefact, config):
    with pytest.raises(RepositoryError, match="only the target python has others"):
        check_artefact(artefact, config.export.model_copy(update={"target": "onnxruntime"}))


def test_damaged_artefact_is_refused(artefact, config, tmp_path):
    folder = shutil.copytree(artefact, tmp_path / "export")
    (folder / "approximate" / "index.faiss").write_bytes(b"no index")
    with pytest.raises(ManifestError, match=r"approximate/index\.faiss: sha256"):
        check_artefact(folder, config.export)


def front_door(url, history, wanted, k):
    """Ids that the model ``recommend`` answers with."""
    tensors = []
    for name, texts in (("history", history), ("filter", wanted)):
        tensors.append(grpc.InferInput(name, [1, len(texts)], "BYTES"))
        tensors[-1].set_data_from_numpy(np.array([[text.encode() for text in texts]], np.object_))
    tensors.append(grpc.InferInput("k", [1, 1], "INT32"))
    tensors[-1].set_data_from_numpy(np.array([[k]], np.int32))
    with grpc.InferenceServerClient(url) as client:
        return [item_id.decode() for item_id in client.infer("recommend", tensors).as_numpy("item_ids")[0]]


@pytest.mark.server
def test_serves_promotes_and_rolls_back(artefact, config, choosing_run, tmp_path):
    export, repository = config.export, config.export.repository
    fill_repository(choosing_run / "export", export)
    secret, expected = ControlSecret(), load_golden(artefact / "approximate" / "golden.npz")
    spec, filters = spec_of_artefact(read_manifest(artefact)), load_filters(artefact / "filters.npz")
    with TritonServer(repository, free_ports(), tmp_path / "log", secret=secret) as running:
        server = Server(running.url, secret, load_timeout_s=60)
        steps = []
        promoted = promote(artefact, repository, export, server, limits=Limits(watch_s=0.5, max_p99_ms=2000), report=steps.append)
        assert (promoted.version, promoted.former) == (2, 1)
        assert "version 2 answers as it should in a server of its own" in steps
        with GrpcModel(running.url, spec=spec) as model:
            answer = model.recommend(expected.history[:8], expected.exclude[:8], {n: v[:8] for n, v in expected.choices.items()})
            assert not compare((expected.items[:8], expected.scores[:8]), answer).misplaced
            rows = slice(0, 40)
            choices = {name: values[rows] for name, values in expected.choices.items()}
            check_contract(model, spec, expected.history[rows], expected.exclude[rows], 1e-4, choices=choices, filters=filters)
        with RecommenderClient(running.url) as client:
            found = list(client.recommend(["item-1", "item-2"], k=5, filter={"genre": "genre 3"}).ids)
        assert len(found) == 5
        assert front_door(running.url, ["item-1", "item-2"], ["genre=genre 3"], 5) == found
        folder = repository / "student" / "2"
        check_version(folder, (repository / "student" / "config.pbtxt").read_text())
        assert (folder / "table.npy").stat().st_ino == (repository / "recommend" / "2" / "table.npy").stat().st_ino
        assert rollback(repository, server).version == 1
