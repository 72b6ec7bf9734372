"""A tritonserver with the TensorRT backend serves a plan to both models. Run it in NVIDIA's container. Not run on a GPU yet."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from clients.grpc_model import GrpcModel
from distilrec.config import ExportConfig
from distilrec.core import histories
from distilrec.core.specs import FRONT_DOOR_NAME, MODEL_NAME, PLAN_FILE, VOCABULARY_NAME, Precision
from distilrec.data import vocabulary as vocabularies
from distilrec.serving.process.server import TritonServer, free_ports
from export.engines.containers import container_of, plan_faults
from export.engines.plan import manifest_path, read_plan_manifest
from export.engines.runner import EngineRunner
from export.repository.config import ServedModelFacts
from export.repository.models import render_front_door, render_student, render_vocabulary
from export.repository.targets.tensorrt import BUILDER
from export.repository.version_files import model_source

pytestmark = pytest.mark.gpu

BACKEND = Path("/opt/tritonserver/backends/tensorrt")
RENDERERS = {MODEL_NAME: render_student, FRONT_DOOR_NAME: render_front_door, VOCABULARY_NAME: render_vocabulary}


@pytest.fixture
def repository(plans, spec, catalogue, tmp_path):
    """A repository that serves the FP16 plan, its front door and its vocabulary."""
    plan = plans[Precision.FP16]
    manifest = read_plan_manifest(plan)
    if manifest.backend != BUILDER:
        pytest.skip("Triton has no backend for TensorRT for RTX: pip install 'distilrec[tensorrt]'")
    if faults := plan_faults(manifest, container_of("26.05")):
        pytest.skip(faults[0])
    write_repository(tmp_path, spec, catalogue, ExportConfig(target="tensorrt", max_batch_size=64, instances=2))
    shutil.copyfile(plan, tmp_path / MODEL_NAME / "1" / PLAN_FILE)
    shutil.copyfile(manifest_path(plan), manifest_path(tmp_path / MODEL_NAME / "1" / PLAN_FILE))
    return tmp_path


def write_repository(folder, spec, catalogue, config):
    """All models without the student's own file."""
    facts = ServedModelFacts(spec, catalogue.sha256, Precision.FP16)
    for name, render in RENDERERS.items():
        version = folder / name / "1"
        version.mkdir(parents=True)
        catalogue.save(version / vocabularies.FILE_NAME)
        (version / "model.py").write_text(model_source(name))
        (folder / name / "config.pbtxt").write_text(render(facts, config, 1))
    shutil.copy(histories.__file__, folder / FRONT_DOOR_NAME / "1")


@pytest.mark.skipif(
    shutil.which("tritonserver") is None or not BACKEND.is_dir(), reason="no tritonserver with the TensorRT backend"
)
def test_triton_answers_as_the_engine_does(repository, plans, spec, requests, vocabulary, tmp_path):
    runner = EngineRunner(plans[Precision.FP16], spec, vocabulary)
    with TritonServer(repository, free_ports(), tmp_path / "log", start_timeout_s=180) as server, GrpcModel(server.url) as student:
        for rows in (1, 3, 8, 33, 64):  # within the bounds of one CUDA graph or another
            history, exclude = (array[5 : 5 + rows] for array in requests)
            _, expected = runner.recommend(history, exclude)
            _, scores = student.recommend(history, exclude)
            np.testing.assert_allclose(scores, expected, atol=0.02)
        with GrpcModel(server.url, FRONT_DOOR_NAME) as front_door:
            ids, scores, _ = front_door.ask_front_door([["item-3", "item-9"]], [[]], 5)
    history, exclude = np.zeros((1, spec.history_length), np.int32), np.zeros((1, spec.exclude_length), np.int32)
    history[0, -2:] = [3, 9]
    _, expected = runner.recommend(history, exclude)
    np.testing.assert_allclose(scores, expected[:, :5], atol=0.02)
    assert len(ids[0]) == 5
