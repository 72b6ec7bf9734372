"""Engines as a part of the export: built where a TensorRT is installed, otherwise refused or left out with the reason."""

import importlib.util
import json
import logging
import shutil
from dataclasses import asdict

import pytest

from distilrec.config import ExportConfig, spec_of_artefact
from distilrec.core.errors import EngineError, MissingExtraError, PrecisionError
from distilrec.core.manifest import read_manifest, verify_manifest
from distilrec.core.specs import Precision
from distilrec.data import stage as data_stage
from distilrec.data.dataset import held_out
from export.artefact import plan_path
from export.engines import precisions as engines
from export.engines.plan import read_plan_manifest
from export.engines.precisions import find_engine_backend
from export.graph.precisions import Reference, answers, onnx_runners


def test_export_has_an_engine_of_every_precision_with_its_proof(shop_run):
    report = json.loads((shop_run / "export" / "report.json").read_text())["engines"]
    assert report["built"].keys() == {"fp32", "fp16", "int8"}
    assert report["refused"] == {}
    assert (report["measured"] == {}) == str(report["verdict"]).startswith("not measured")
    types = {name: set(built["product_types"].values()) for name, built in report["built"].items()}
    assert types == {"fp32": {"Float"}, "fp16": {"Half"}, "int8": {"Int8"}}
    for precision in Precision:
        manifest = read_plan_manifest(plan_path(shop_run / "export", "tensorrt_rtx", precision))
        assert manifest.vocabulary_sha256 == read_manifest(shop_run / "export").metrics["vocabulary_sha256"]
        assert (manifest.calibration is not None) == (precision is Precision.INT8)
    verify_manifest(shop_run / "export")


@pytest.fixture
def _no_tensorrt(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name.startswith("tensorrt") else find(name, *rest))


@pytest.mark.usefixtures("_no_tensorrt")
def test_missing_tensorrt_is_said_with_the_command_where_there_is_a_gpu_and_the_export_goes_on(caplog, monkeypatch):
    with caplog.at_level(logging.INFO):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        assert find_engine_backend(ExportConfig()) is None
        assert "TensorRT" not in caplog.text
        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        assert find_engine_backend(ExportConfig()) is None
    assert "without TensorRT engines" in caplog.text
    assert "pip install 'distilrec[tensorrt]'" in caplog.text


@pytest.mark.usefixtures("_no_tensorrt")
@pytest.mark.parametrize(("name", "extra"), [("tensorrt", "tensorrt"), ("tensorrt_rtx", "tensorrt-rtx")])
def test_missing_tensorrt_is_an_error_when_the_settings_name_it(name, extra):
    with pytest.raises(MissingExtraError, match=rf"pip install 'distilrec\[{extra}\]'"):
        find_engine_backend(ExportConfig(engines=name))


def test_engines_can_be_left_out():
    assert find_engine_backend(ExportConfig(engines="off")) is None


@pytest.mark.parametrize("error", [EngineError("out of luck"), PrecisionError("it is FP32")])
def test_engine_that_fails_is_reported_and_the_export_goes_on(shop_run, monkeypatch, tmp_path, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(engines, "build_engine", fail)
    (tmp_path / "calibration.npz").write_bytes((shop_run / "export" / "calibration.npz").read_bytes())
    backend = find_engine_backend(ExportConfig(engines="tensorrt_rtx"))
    assert backend is not None

    def make(name):
        config = ExportConfig(engines=name)
        return engines.make_engines(tmp_path, _Reference, [Precision.INT8], vocabulary_sha256="v", config=config, backend=backend)

    made = make("auto")
    assert made.refused == {Precision.INT8: str(error)}
    assert not made.built
    assert not made.measured
    with pytest.raises(type(error), match=str(error)):
        make("tensorrt_rtx")


class _Reference:
    spec = None


def test_measured_engine_carries_its_agreement_with_fp32(shop_run, shop_config, monkeypatch, tmp_path):
    """Without a GPU: ONNX Runtime answers in the place of the engines."""
    artefact = tmp_path / "export"
    shutil.copytree(shop_run / "export", artefact)
    spec = spec_of_artefact(read_manifest(artefact))
    users = held_out(data_stage.load(shop_run / "data")[0], "validation", spec)
    runners = onnx_runners(artefact, spec, [Precision.FP16, Precision.FP32])
    reference = Reference(spec, users, answers(runners[Precision.FP32], users, "reference"))
    plans = {plan_path(artefact, "tensorrt_rtx", precision): runner for precision, runner in runners.items()}
    monkeypatch.setattr(engines, "EngineRunner", lambda plan, *_, **__: plans[plan])
    monkeypatch.setattr(engines, "_runs_here", lambda *_: True)

    made = engines.make_engines(
        artefact,
        reference,
        list(runners),
        vocabulary_sha256="v",
        config=shop_config.export,
        backend=find_engine_backend(ExportConfig(engines="tensorrt_rtx")),
    )
    assert [m.precision for m in made.measured] == [Precision.FP16, Precision.FP32]
    assert made.measured[1].agreement.overlap_at_100 == 1
    for (plan, _), engine in zip(plans.items(), made.measured, strict=True):
        assert read_plan_manifest(plan).agreement == asdict(engine.agreement)
