"""The script that builds plans in NVIDIA's container, with a stand-in for Docker that notes what it was asked to do."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from distilrec.config import ExportConfig

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "export-in-container.sh"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile.ngc").read_text(encoding="utf-8")


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Calls of Docker; it fails at the command whose name stands in ``fails``."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "docker"
    command.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ntest ! -e {tmp_path}/fails-$1\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return lambda: (tmp_path / "calls").read_text().splitlines()


def run(*arguments):
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_plans_are_built_and_filled_in_the_release_that_serves(docker, tmp_path):
    assert run("26.07", "--preset", "shop.toml", "--force").returncode == 0
    build, export = docker()
    assert build.startswith("build ")
    assert f"--file {ROOT}/deploy/Dockerfile.ngc --target plans --build-arg TRITON_RELEASE=26.07" in build
    assert "--gpus=all" in export
    assert f"--user {os.getuid()}:{os.getgid()}" in export
    assert f"--volume {tmp_path}:{tmp_path} --workdir {tmp_path}" in export
    assert export.endswith("distilrec export --target tensorrt --container 26.07 --preset shop.toml --force")


def test_nothing_runs_in_an_image_that_could_not_be_built(docker, tmp_path):
    (tmp_path / "fails-build").touch()
    assert run("26.07").returncode != 0
    assert len(docker()) == 1


def test_release_is_asked_for():
    done = run()
    assert done.returncode == 2
    assert "26.05 --preset shop.toml" in done.stderr


def test_image_and_settings_take_the_same_release_and_the_image_its_own_tensorrt():
    assert re.findall(r"^ARG TRITON_RELEASE=(.*)$", DOCKERFILE, re.M) == [ExportConfig().container]
    assert re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.M) == [
        ("nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3", "plans"),
        ("nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3", "server"),
    ]
    assert '"tensorrt-cu${CUDA_VERSION%%.*}==${TRT_VERSION%%[+-]*}"' in DOCKERFILE


@pytest.mark.parametrize(("variable", "version"), [("10.13.3.9+cuda13.0", "10.13.3.9"), ("11.1.0.106", "11.1.0.106")])
def test_version_in_the_image_becomes_the_packages(variable, version):
    shell = 'echo "tensorrt-cu${CUDA_VERSION%%.*}==${TRT_VERSION%%[+-]*}"'
    variables = {"TRT_VERSION": variable, "CUDA_VERSION": "13.0.2.006"}
    done = subprocess.run(["/bin/sh", "-c", shell], env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == f"tensorrt-cu13=={version}\n"
