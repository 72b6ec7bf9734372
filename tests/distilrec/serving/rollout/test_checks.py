"""Checks of a version's files; damaged artefacts are also in test_live.py, under load."""

import shutil

import pytest
from artefacts import with_precision_by_verdict

from distilrec.config import ExportConfig
from distilrec.core.errors import EngineError, ParityError, RepositoryError
from distilrec.core.golden import Golden, load_golden
from distilrec.core.manifest import read_manifest, record_files, write_manifest
from distilrec.core.specs import Precision
from distilrec.serving.rollout.checks import check_artefact, check_copy, check_version
from export.artefact import plan_path
from export.engines.plan import manifest_path
from export.repository.models import write_student


def test_version_without_model_py_is_never_loaded(tmp_path, shop_run):
    with pytest.raises(RepositoryError, match=r"found no model\.py"):
        check_copy(shop_run / "export", read_manifest(shop_run / "export"), tmp_path)


def test_golden_answers_of_another_model_are_refused(shop_run, tmp_path):
    artefact = tmp_path / "export"
    shutil.copytree(shop_run / "export", artefact)
    golden = load_golden(artefact / "golden.npz")
    Golden(golden.history, golden.exclude, golden.items, golden.scores + 1).save(artefact / "golden.npz")
    write_manifest(artefact, read_manifest(artefact).model_copy(update={"files": record_files(artefact)}))
    with pytest.raises(ParityError, match="golden answers"):
        check_artefact(artefact, ExportConfig())


@pytest.fixture
def unforced(shop_run, tmp_path):
    return with_precision_by_verdict(shop_run / "export", tmp_path / "export")


def test_artefact_is_checked_in_the_precision_that_the_target_serves(unforced):
    target = ExportConfig(target="onnxruntime-tensorrt")
    assert check_artefact(unforced, ExportConfig()).metrics["precision"] == "fp32"
    assert check_artefact(unforced, target).metrics["precision"] == "fp16"
    golden = load_golden(unforced / "fp16" / "golden.npz")
    Golden(golden.history, golden.exclude, golden.items, golden.scores + 1).save(unforced / "fp16" / "golden.npz")
    write_manifest(unforced, read_manifest(unforced).model_copy(update={"files": record_files(unforced)}))
    check_artefact(unforced, ExportConfig())
    with pytest.raises(ParityError, match="golden answers"):
        check_artefact(unforced, target)


@pytest.mark.parametrize("target", ["onnxruntime", "onnxruntime-tensorrt"])
def test_copy_of_int8_in_either_form_is_compared_with_its_source(shop_run, tmp_path, target):
    artefact = shop_run / "export"
    manifest = read_manifest(artefact)
    manifest = manifest.model_copy(update={"metrics": manifest.metrics | {"precision": "int8"}})
    write_student(artefact, manifest, ExportConfig(target=target), tmp_path / "1")
    check_copy(artefact, manifest, tmp_path / "1")
    shutil.copyfile(artefact / "golden.npz", tmp_path / "1" / "golden.npz")  # that of FP32
    with pytest.raises(RepositoryError, match=r"golden\.npz: found another content"):
        check_copy(artefact, manifest, tmp_path / "1")


def test_damaged_plan_is_not_loaded_again(shop_run, tmp_path):
    source = plan_path(shop_run / "export", "tensorrt_rtx", Precision.FP16)
    shutil.copyfile(source, tmp_path / "model.plan")
    shutil.copyfile(manifest_path(source), tmp_path / "model.plan.json")
    (tmp_path / "model.py").write_text("# any")
    check_version(tmp_path, "")
    (tmp_path / "model.plan").write_bytes(source.read_bytes()[:-1])
    with pytest.raises(EngineError, match=r"model\.plan: found \d+ bytes, expected \d+"):
        check_version(tmp_path, "")
