"""The peers' environment, as far as it needs none of their packages."""

import sys

import pytest

from benchmarks.peers import environment


def test_pip_says_why_it_could_not_install():
    assert "nowhere" in environment._pip_install(sys.executable, "/nowhere/at-all.whl")


@pytest.mark.network
def test_environment_of_the_same_requirements_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    monkeypatch.setattr(environment, "_FOLDER", tmp_path)
    monkeypatch.setattr(environment, "_REQUIREMENTS", (("requirements.txt", ()),))
    made = environment.make_environment(tmp_path / "venv")
    assert made.failed == {}
    assert made.python.exists()
    (tmp_path / "venv" / "stays").touch()
    environment.make_environment(tmp_path / "venv")
    assert (tmp_path / "venv" / "stays").exists()
    (tmp_path / "requirements.txt").write_text("/nowhere/at-all.whl\n")
    again = environment.make_environment(tmp_path / "venv")
    assert not (tmp_path / "venv" / "stays").exists()
    assert list(again.failed) == ["/nowhere/at-all.whl"]
    assert not (tmp_path / "venv" / environment._MARKER).exists(), "a failure is tried again"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-no-deps.txt"])
def test_requirements_are_pinned(name):
    lines = (environment._FOLDER / name).read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert wanted
    assert all("==" in line for line in wanted)
