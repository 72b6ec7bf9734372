from dataclasses import replace

import pytest

from distilrec.core.errors import EngineError
from distilrec.core.manifest import sha256_of_file
from distilrec.core.specs import Precision, RecommenderSpec
from export.engines.plan import (
    CalibrationRecord,
    Device,
    PlanManifest,
    Profile,
    TensorRecord,
    check_plan,
    manifest_path,
    misfits,
    read_plan_manifest,
    write_plan_manifest,
)

SPEC = RecommenderSpec(item_count=90, history_length=12, exclude_length=16, top_k=20)
VOCABULARY = "a" * 64
RTX = Device("Linux", "x86_64", "tensorrt_rtx", "1.7.1.116", "NVIDIA GeForce RTX 4090", "8.9")
A10 = Device("Linux", "x86_64", "tensorrt", "10.13.3.9", "NVIDIA A10", "8.6")


def manifest(**changes):
    fields = {
        "backend": "tensorrt_rtx",
        "backend_version": "1.7.1.116",
        "cuda_version": "13",
        "os": "Linux",
        "architecture": "x86_64",
        "compute_capabilities": ("8.6", "8.9", "12.0"),
        "gpu_name": None,
        "flags": ("STRONGLY_TYPED",),
        "hardware_compatible": False,
        "version_compatible": False,
        "workspace_mib": 1024,
        "profiles": (Profile(min_batch_size=1, optimal_batch_size=8, max_batch_size=64),),
        "tensors": tuple(TensorRecord(name=t.name, dtype=t.dtype, shape=t.shape) for t in (*SPEC.inputs, *SPEC.outputs)),
        "precision": Precision.INT8,
        "product_types": {"node_linear": "Int8"},
        "opset": 20,
        "item_count": SPEC.item_count,
        "history_length": SPEC.history_length,
        "exclude_length": SPEC.exclude_length,
        "top_k": SPEC.top_k,
        "vocabulary_sha256": VOCABULARY,
        "onnx_sha256": "b" * 64,
        "weights_sha256": {"weights.bin": "c" * 64},
        "plan_sha256": "d" * 64,
        "plan_size_bytes": 1,
        "calibration": CalibrationRecord(method="minmax", sha256="e" * 64),
        "agreement": {"overlap_at_10": 0.99},
    }
    return PlanManifest(**(fields | changes))


def tensorrt(**changes):
    """A plan that NVIDIA TensorRT built on an A10."""
    fields = {"backend": "tensorrt", "backend_version": "10.13.3.9", "compute_capabilities": ("8.6",), "gpu_name": "NVIDIA A10"}
    return manifest(**(fields | changes))


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "student.plan"
    path.write_bytes(b"an engine")
    write_plan_manifest(path, manifest(plan_sha256=sha256_of_file(path), plan_size_bytes=len(b"an engine")))
    return path


def test_plan_is_accepted_when_all_fits(plan):
    found = check_plan(plan, SPEC, VOCABULARY, RTX)
    assert found == read_plan_manifest(plan)
    assert found.spec == SPEC
    assert found.digest


def refuse(plan, match, spec=SPEC, vocabulary=VOCABULARY, device=RTX):
    with pytest.raises(EngineError, match=match) as caught:
        check_plan(plan, spec, vocabulary, device)
    assert "distilrec export --preset" in str(caught.value)


def test_plan_is_refused_when_it_is_missing(plan):
    plan.unlink()
    refuse(plan, "found no such file")


def test_plan_is_refused_when_its_manifest_is_missing(plan):
    manifest_path(plan).unlink()
    refuse(plan, "student.plan.json: no such file, expected the plan's manifest")


def test_plan_is_refused_when_it_is_truncated(plan):
    plan.write_bytes(plan.read_bytes()[:-1])
    refuse(plan, "found 8 bytes, expected 9")


def test_plan_is_refused_when_it_is_edited(plan):
    plan.write_bytes(b"AN ENGINE")
    refuse(plan, r"found sha256 \w+..., expected \w+...")


def test_plan_is_refused_when_its_manifest_is_truncated(plan):
    path = manifest_path(plan)
    path.write_text(path.read_text()[:-40])
    refuse(plan, "expected a plan's manifest of format version 1")


@pytest.mark.parametrize(("what", "into"), [('"8.9"', '"9.0"'), ('"precision": "int8"', '"precision": "fp32"'), ("0.99", "1.0")])
def test_plan_is_refused_when_its_manifest_is_edited(plan, what, into):
    path = manifest_path(plan)
    assert what in path.read_text()
    path.write_text(path.read_text().replace(what, into))
    refuse(plan, "found a manifest that was edited")


def test_plan_is_refused_when_its_manifest_is_of_another_format(plan):
    path = manifest_path(plan)
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    refuse(plan, "expected a plan's manifest of format version 1")


@pytest.mark.parametrize("field", ["item_count", "history_length", "exclude_length", "top_k"])
def test_plan_is_refused_when_it_is_for_another_spec(plan, field):
    refuse(plan, r"found a plan for RecommenderSpec\(.*expected RecommenderSpec", spec=replace(SPEC, **{field: 7}))


def test_plan_is_refused_when_it_is_for_another_vocabulary(plan):
    refuse(plan, "found a plan for the vocabulary aaa.*, expected fff", vocabulary="f" * 64)


def test_plan_is_refused_with_all_reasons_when_there_are_many(plan):
    plan.write_bytes(b"")
    device = replace(RTX, os="Windows", compute_capability="7.5")
    refuse(plan, r"(?s)operating system Linux, expected Windows.*8\.9, 12\.0, expected 7\.5.*found 0 bytes", device=device)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"os": "Windows"}, "operating system Linux, expected Windows"),
        ({"architecture": "aarch64"}, "architecture x86_64, expected aarch64"),
        ({"backend": "tensorrt", "backend_version": "10.13.3.9"}, "backend tensorrt_rtx, expected tensorrt"),
        ({"backend_version": "1.7.1.117"}, "tensorrt_rtx 1.7.1.116, expected 1.7.1.117"),
        ({"backend_version": "1.8.0.1"}, "tensorrt_rtx 1.7.1.116, expected 1.8.0.1"),
        ({"compute_capability": "9.0"}, "compute capability 8.6, 8.9, 12.0, expected 9.0"),
        ({"compute_capability": None, "gpu_name": None}, "no CUDA GPU"),
    ],
)
def test_plan_does_not_fit_when_the_device_is_another(changes, reason):
    (fault,) = misfits(manifest(), SPEC, VOCABULARY, replace(RTX, **changes))
    assert reason in fault


def test_plan_of_tensorrt_fits_only_the_gpu_it_was_tuned_on():
    assert misfits(tensorrt(), SPEC, VOCABULARY, A10) == []
    (fault,) = misfits(tensorrt(), SPEC, VOCABULARY, replace(A10, gpu_name="NVIDIA RTX A6000"))
    assert fault == "found a plan that was tuned on NVIDIA A10, expected NVIDIA RTX A6000"


def test_plan_of_tensorrt_for_rtx_fits_any_gpu_of_its_compute_capabilities():
    assert misfits(manifest(), SPEC, VOCABULARY, replace(RTX, gpu_name="NVIDIA L4")) == []
    assert misfits(manifest(gpu_name="NVIDIA L40"), SPEC, VOCABULARY, RTX) == []


@pytest.mark.parametrize(("capability", "fits"), [("8.0", True), ("9.0", True), ("12.0", True), ("7.5", False)])
def test_hardware_compatible_plan_fits_from_ampere_on(capability, fits):
    device = replace(A10, gpu_name="another", compute_capability=capability)
    assert (misfits(tensorrt(hardware_compatible=True), SPEC, VOCABULARY, device) == []) is fits


@pytest.mark.parametrize(
    ("version", "fits"),
    [("10.13.3.9", True), ("10.13.3.10", True), ("10.14.0.1", True), ("10.13.2.6", False), ("10.9.0", False), ("11.0.0", False)],
)
def test_version_compatible_plan_fits_later_versions_of_the_same_major(version, fits):
    plan = tensorrt(version_compatible=True)
    assert (misfits(plan, SPEC, VOCABULARY, replace(A10, backend_version=version)) == []) is fits


def test_manifest_is_replaced_when_agreement_is_measured_later(plan):
    before = read_plan_manifest(plan)
    after = write_plan_manifest(plan, before.model_copy(update={"agreement": {"overlap_at_10": 0.5}}))
    assert read_plan_manifest(plan) == after
    assert after.digest != before.digest
    check_plan(plan, SPEC, VOCABULARY, RTX)
