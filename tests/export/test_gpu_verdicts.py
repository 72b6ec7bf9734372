"""Verdicts of targets on a GPU, without one: ONNX Runtime on the CPU answers in the place of its other providers."""

import json
from types import SimpleNamespace

import onnxruntime
import pytest

from distilrec.config import spec_of_artefact
from distilrec.core.errors import ParityError
from distilrec.core.manifest import read_manifest
from distilrec.core.specs import Precision
from distilrec.data import stage as data_stage
from distilrec.data.dataset import held_out
from distilrec.evaluation.contract import Agreement
from distilrec.evaluation.verdict import PrecisionMeasurement
from export import gpu_verdicts as verdicts
from export import stage
from export.engines.host import Gpu
from export.engines.precisions import EngineResults
from export.gpu_verdicts import gpu_verdicts, measured_precisions
from export.graph.precisions import SMALLEST_FIRST, Reference, answers, onnx_runners

KEPT = Agreement(ndcg=0.1, ndcg_loss=0.0, overlap_at_10=1.0, overlap_at_100=1.0, score_error=0.0)


@pytest.fixture(scope="module")
def reference(shop_run):
    spec = spec_of_artefact(read_manifest(shop_run / "export"))
    users = held_out(data_stage.load(shop_run / "data")[0], "validation", spec)
    fp32 = onnx_runners(shop_run / "export", spec, [Precision.FP32])[Precision.FP32]
    return Reference(spec, users, answers(fp32, users, "reference"))


def engines(backend, *times):
    """Results of engines that keep the ranking and take these milliseconds, from INT8 to FP32."""
    measured = [PrecisionMeasurement(precision, ms, KEPT) for precision, ms in zip(SMALLEST_FIRST, times, strict=False)]
    return EngineResults(dict.fromkeys(SMALLEST_FIRST, SimpleNamespace(backend=backend)), {}, measured)


def ours(found):
    return {name: found[name] for name in ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt")}


def test_export_on_a_machine_without_a_gpu_says_unmeasured(shop_run):
    report = json.loads((shop_run / "export" / "report.json").read_text())["gpu_targets"]
    for name, found in ours(report).items():
        assert found["measured"] == {}
        assert found["verdict"].startswith(f"unmeasured: fp16 is the default until `distilrec export --target {name}`")
    assert "gpu_precisions" not in read_manifest(shop_run / "export").metrics


def test_engines_judge_the_target_that_serves_them_and_no_other(shop_run, reference):
    found = ours(gpu_verdicts(shop_run / "export", reference, SMALLEST_FIRST, engines("tensorrt", 0.1, 0.2, 0.3)))
    assert measured_precisions(found) == {"tensorrt": "int8"}
    slow = ours(gpu_verdicts(shop_run / "export", reference, SMALLEST_FIRST, engines("tensorrt", 0.3, 0.2, 0.3)))
    assert measured_precisions(slow) == {"tensorrt": "fp16"}
    assert "int8" in slow["tensorrt"].reason


@pytest.mark.parametrize("results", [None, engines("tensorrt"), engines("tensorrt_rtx", 0.1, 0.2, 0.3)])
def test_engines_that_triton_does_not_serve_judge_nothing(shop_run, reference, results):
    assert measured_precisions(gpu_verdicts(shop_run / "export", reference, SMALLEST_FIRST, results)) == {}


def test_provider_is_measured_where_onnx_runtime_has_it(shop_run, reference, monkeypatch):
    asked = []

    def on_the_cpu(artefact, spec, precisions, provider):
        asked.append((provider, list(precisions)))
        return onnx_runners(artefact, spec, precisions)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(verdicts, "provider_runners", on_the_cpu)
    found = ours(gpu_verdicts(shop_run / "export", reference, SMALLEST_FIRST, None))
    assert asked == [("cuda", [Precision.FP16, Precision.FP32])]  # no INT8: the provider has no product of it
    assert measured_precisions(found).keys() == {"onnxruntime-cuda"}


def test_provider_that_fails_is_reported_and_the_export_goes_on(shop_run, reference, monkeypatch, caplog):
    def broken(*_):
        raise ParityError("libcublasLt.so.13: cannot open shared object file")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(verdicts, "provider_runners", broken)
    found = ours(gpu_verdicts(shop_run / "export", reference, SMALLEST_FIRST, None))
    assert found["onnxruntime-cuda"].reason == "unmeasured: libcublasLt.so.13: cannot open shared object file"
    assert "was not measured" in caplog.text


def test_export_runs_again_on_another_gpu_and_is_what_it_was_without_one(shop_config, monkeypatch):
    monkeypatch.setattr(stage, "find_gpu", lambda: None)
    assert "gpu" not in stage._settings(shop_config, None)
    seen = []
    for name in ("NVIDIA L4", "NVIDIA A10"):
        monkeypatch.setattr(stage, "find_gpu", lambda name=name: Gpu(name, "580.95.05", "8.9", 23034))
        seen.append(stage._settings(shop_config, None)["gpu"])
    assert seen[0] != seen[1]
