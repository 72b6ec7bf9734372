"""The launcher of the wheel's tritonserver: its refusals and its command line. Starting it is tested in test_server.py."""

import os
import sys
from pathlib import Path

import pytest

from distilrec.core.errors import MissingExtraError, ServerError
from distilrec.serving.process import wheel


def test_numpy_2_is_refused(monkeypatch):
    monkeypatch.setattr(wheel.metadata, "version", lambda _: "2.1.0")
    with pytest.raises(ServerError, match=r"found numpy 2\.1\.0, expected numpy < 2.*pip install 'numpy<2'"):
        wheel.check_environment()


def test_python_without_a_stub_is_refused(monkeypatch):
    monkeypatch.setattr(wheel.sys, "version_info", (3, 99, 0, "final", 0))
    with pytest.raises(ServerError, match=r"found Python 3\.99"):
        wheel.check_environment()


def test_missing_libpython_names_the_package(monkeypatch):
    monkeypatch.setattr(wheel, "libpython_folder", lambda: None)
    with pytest.raises(ServerError, match=r"found no libpython3\.\d+\.so\.1\.0.*apt-get install libpython3\.\d+"):
        wheel.check_environment()


def test_missing_wheel_names_the_extra(monkeypatch):
    monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"distilrec\[server\]"):
        wheel.server_folder()


def test_command_binds_loopback_unless_told():
    command, environment = wheel.command_and_environment(["--model-repository", "x", "--grpc-address=0.0.0.0"])
    assert "--http-address=127.0.0.1" in command
    assert "--metrics-address=127.0.0.1" in command
    assert [argument for argument in command if argument.startswith("--grpc-address")] == ["--grpc-address=0.0.0.0"]
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.prefix) / "bin")


def test_option_is_known_by_the_help_of_the_server_that_is_found(monkeypatch, tmp_path):
    assert (wheel.has_option("--allow-http"), wheel.has_option("--http-max-input-size")) == (True, False)
    newer = tmp_path / "tritonserver"
    newer.write_text("#!/bin/sh\necho '  --http-max-input-size <integer>' >&2\nexit 1\n")
    newer.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert (wheel.has_option("--http-max-input-size"), wheel.has_option("--http-max-input")) == (True, False)


def test_backend_folder_links_into_the_wheel():
    command, _ = wheel.command_and_environment([])
    folder = Path(next(a for a in command if a.startswith("--backend-directory")).split("=")[1]) / "python"
    for name in ("libtriton_python.so", "triton_python_backend_utils.py", "triton_python_backend_stub"):
        assert (folder / name).is_symlink()
        assert (folder / name).exists()
