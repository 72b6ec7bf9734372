"""The export on a GPU: engines are measured, the target serves what was measured, and the repository is filled with it.

Not run on a GPU yet.
"""

import importlib.util
import json

import pytest

from distilrec.core.specs import PLAN_FILE
from export import stage
from export.engines.plan import read_plan_manifest
from export.repository.fill import fill_repository

pytestmark = pytest.mark.gpu


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is None, reason="no NVIDIA TensorRT: pip install 'distilrec[tensorrt]'")
@pytest.mark.usefixtures("plans")  # they say whether TensorRT builds for this GPU
def test_target_serves_the_precision_that_was_measured_here(shop_run, shop_config, tmp_path, record_property):
    settings = {"precision": "auto", "engines": "tensorrt", "target": "tensorrt", "repository": tmp_path / "repo"}
    config = shop_config.model_copy(update={"export": shop_config.export.model_copy(update=settings)})
    inputs = {"data": shop_run / "data", "student": shop_run / "student", "verdict": shop_run / "student-verdict"}
    manifest = stage.run(config, inputs, tmp_path / "export")
    measured = manifest.metrics["gpu_precisions"]["tensorrt"]
    found = json.loads((tmp_path / "export" / "report.json").read_text())["gpu_targets"]["tensorrt"]
    record_property("verdict of the target tensorrt for the tiny shop", found["verdict"])
    assert found["measured"].keys() == {"int8", "fp16", "fp32"}

    plan = tmp_path / "export" / "engines" / "tensorrt" / f"{measured}.plan"
    release = "26.07" if read_plan_manifest(plan).backend_version.startswith("11.") else "26.05"
    fill_repository(tmp_path / "export", config.export.model_copy(update={"container": release}))
    served = tmp_path / "repo" / "student" / "1" / PLAN_FILE
    assert served.read_bytes() == plan.read_bytes()
    assert read_plan_manifest(served).agreement is not None
    assert f'string_value: "{measured}"' in (tmp_path / "repo" / "student" / "config.pbtxt").read_text()
