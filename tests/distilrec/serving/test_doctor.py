"""``distilrec doctor --target``: what it says of machines that are not here."""

import platform
from types import SimpleNamespace

import pytest

from distilrec.core.errors import ConfigError, ServerError
from distilrec.core.specs import Precision
from distilrec.serving import doctor
from distilrec.serving.doctor import examine, examine_target
from distilrec.serving.process import wheel
from export.engines.host import Gpu

H100 = Gpu("NVIDIA H100 80GB HBM3", "580.95.05", "9.0", 81559)


def parts(target, release, repository):
    return {part.name: (part.ok, part.detail) for part in examine_target(target, release, repository)}


def serve_plan(monkeypatch, **changes):
    """Let the repository serve a plan that TensorRT 11.1 built on an H100."""
    facts = {
        "backend": "tensorrt",
        "backend_version": "11.1.0.106",
        "gpu_name": H100.name,
        "compute_capabilities": ("9.0",),
        "precision": Precision.FP16,
        "hardware_compatible": False,
        "version_compatible": False,
    }
    monkeypatch.setattr(doctor, "version_folder", lambda repository: repository)
    monkeypatch.setattr(doctor, "read_plan_manifest", lambda _: SimpleNamespace(**facts | changes))


def test_machine_that_fits_passes(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "find_gpu", lambda: H100)
    serve_plan(monkeypatch)
    found = parts("tensorrt", "26.07", tmp_path)
    assert found["gpu"] == (True, "NVIDIA H100 80GB HBM3, compute capability 9.0, 81,559 MiB, driver 580.95.05")
    assert found["container"][1].startswith("nvcr.io/nvidia/tritonserver:26.07-py3 with TensorRT 11 and CUDA 13")
    assert found["plan"] == (True, "fp16, TensorRT 11.1.0.106, for NVIDIA H100 80GB HBM3")
    assert "deploy/export-in-container.sh 26.07" in found["tensorrt"][1]
    assert "TensorRT for RTX does not run here" in found["fits"][1]
    assert not any(ok is False for ok, _ in found.values())


def test_everything_that_does_not_fit_is_said_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "find_gpu", lambda: Gpu("NVIDIA L4", "550.54.15", "8.9", 23034))
    monkeypatch.setattr(doctor, "_version", lambda package: "11.4.1.9" if package == "tensorrt" else None)
    serve_plan(monkeypatch)
    found = parts("tensorrt", "26.05", tmp_path)
    assert [name for name, (ok, _) in found.items() if ok is False] == ["gpu", "tensorrt", "plan"]
    assert "found driver 550.54.15, expected 580.65.06 or newer" in found["gpu"][1]
    assert "found TensorRT 11.4.1.9, expected TensorRT 10.x" in found["tensorrt"][1]
    assert "found a plan of TensorRT 11.1.0.106" in found["plan"][1]
    assert "found a plan for compute capability 9.0, expected 8.9" in found["plan"][1]


def test_target_on_a_gpu_fails_without_one_and_a_target_on_the_cpu_needs_none(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "find_gpu", lambda: None)
    assert parts("onnxruntime-cuda", "26.05", tmp_path)["gpu"][0] is False
    assert "FP16 until it is" in parts("onnxruntime-cuda", "26.05", tmp_path)["fits"][1]
    assert parts("onnxruntime", "26.05", tmp_path)["target"][0] is True
    with pytest.raises(ConfigError, match="expected one of"):
        parts("tpu", "26.05", tmp_path)


@pytest.mark.parametrize(
    ("architecture", "said"), [("riscv64", "riscv64; PyPI's nvidia-pytriton has no build"), ("aarch64", "aarch64; not tried")]
)
def test_machine_that_nobody_has_tried_is_named(monkeypatch, architecture, said):
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    (machine,) = (part.detail for part in examine("127.0.0.1:9") if part.name == "machine")
    assert machine.startswith(said)


def test_machine_without_a_build_of_the_server_is_refused(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(ServerError, match=r"found a machine of architecture riscv64, expected x86_64, aarch64"):
        wheel.server_folder()
