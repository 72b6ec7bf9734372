from types import SimpleNamespace

import pytest

from export.engines.containers import Container, container_of, gpu_faults, plan_faults
from export.engines.host import Gpu, find_gpu, parse_gpu

L4 = Gpu("NVIDIA L4", "580.95.05", "8.9", 23034)


@pytest.mark.parametrize(
    ("release", "tensorrt_major", "cuda_major"),
    [("25.06", "10", 12), ("25.08", "10", 13), ("26.05", "10", 13), ("26.06", "11", 13), ("27.01", "11", 13)],
)
def test_release_carries_what_nvidias_documents_say(release, tensorrt_major, cuda_major):
    found = container_of(release, {})
    assert found == Container(release, tensorrt_major, cuda_major)
    assert not found.exact


def test_within_a_container_its_own_environment_counts():
    here = {"NVIDIA_TRITON_SERVER_VERSION": "25.10", "TRT_VERSION": "10.13.3.9+cuda13.0", "CUDA_VERSION": "13.0.2.006"}
    assert container_of("26.07", here) == Container("25.10", "10.13.3.9", 13)
    assert container_of("26.07", {"TRT_VERSION": "10.13.3.9"}).release == "26.07"  # NVIDIA's other images serve nothing


@pytest.mark.parametrize(
    ("built", "compatible", "inside", "fits"),
    [
        ("10.13.3.9", False, "10.13.3.9", True),
        ("10.13.3.9", False, "10.14.1.48", False),
        ("10.13.3.9", True, "10.14.1.48", True),
        ("10.14.1.48", True, "10.13.3.9", False),
        ("10.13.3.9", True, "11.1.0.106", False),
        ("10.13.3.9", False, "10", True),  # all that documents tell
        ("11.1.0.106", False, "10", False),
        ("11.1.0.106", True, "10", False),
    ],
)
def test_plan_fits_only_the_tensorrt_that_the_container_has(built, compatible, inside, fits):
    faults = plan_faults(SimpleNamespace(backend_version=built, version_compatible=compatible), Container("26.05", inside, 13))
    assert (faults == []) is fits
    if faults:
        assert f"found a plan of TensorRT {built}, expected TensorRT {inside}" in faults[0]
        assert "nvcr.io/nvidia/tritonserver:26.05-py3" in faults[0]


@pytest.mark.parametrize(
    ("driver", "cuda_major", "fits"),
    [("580.65.06", 13, True), ("580.65.05", 13, False), ("575.57.08", 13, False), ("575.57.08", 12, True), ("610.10", 13, True)],
)
def test_driver_must_be_as_new_as_the_containers_cuda(driver, cuda_major, fits):
    gpu = Gpu("NVIDIA GeForce RTX 4090", driver, "8.9", 24564)
    assert (gpu_faults(gpu, Container("26.05", "10", cuda_major)) == []) is fits


@pytest.mark.parametrize(
    ("name", "driver", "fits"),
    [
        ("NVIDIA H100 80GB HBM3", "535.183.06", True),
        ("NVIDIA L40S", "525.147.05", True),
        ("NVIDIA A10", "550.54.15", False),
        ("NVIDIA GeForce RTX 4090", "535.183.06", False),
        ("NVIDIA RTX A6000", "535.183.06", False),
    ],
)
def test_data_centre_gpu_may_have_a_driver_that_the_image_is_made_compatible_with(name, driver, fits):
    assert (gpu_faults(Gpu(name, driver, "8.9", 23034), Container("26.02", "10", 13)) == []) is fits


def test_gpu_of_an_old_generation_is_refused():
    (fault,) = gpu_faults(Gpu("Tesla V100", "580.95.05", "7.0", 16384), Container("26.05", "10", 13))
    assert fault == "found Tesla V100 of compute capability 7.0, expected 7.5 or newer"


def test_first_gpu_of_the_drivers_table_is_read():
    table = "NVIDIA L4, 580.95.05, 8.9, 23034\nNVIDIA A10, 580.95.05, 8.6, 22731\n"
    assert parse_gpu(table) == L4
    assert parse_gpu("Orin (nvgpu), 540.4.0, 8.7, [N/A]\n") == Gpu("Orin (nvgpu)", "540.4.0", "8.7", None)
    assert parse_gpu("No devices were found\n") is None


@pytest.mark.parametrize(
    ("script", "found"),
    [("echo 'NVIDIA L4, 580.95.05, 8.9, 23034'", L4), ("echo 'Failed to initialize NVML' >&2; exit 18", None), (None, None)],
)
def test_gpu_is_what_the_drivers_command_says(tmp_path, monkeypatch, script, found):
    if script:
        command = tmp_path / "nvidia-smi"
        command.write_text(f"#!/bin/sh\n{script}\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpu() == found
