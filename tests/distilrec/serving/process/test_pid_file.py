"""An orphaned server is known by its id and the time of its start, and only ended when its owner is gone."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest

from distilrec.serving.process.pid_file import Process, end_orphan, write_pid_file


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    yield process
    process.kill()
    process.communicate()


def orphaned(path, child, **changes):
    """A file of a server whose owner is gone; ``changes`` to what it says of the server."""
    write_pid_file(path, child.pid)
    content = json.loads(path.read_text())
    content["owner"]["start_ticks"] -= 1
    content["server"] |= changes
    path.write_text(json.dumps(content))


def test_orphan_is_ended_and_its_file_removed(child, tmp_path):
    path = tmp_path / "folder" / "server-1.json"
    orphaned(path, child)
    assert end_orphan(path, drain_s=5) == child.pid
    assert child.wait(5)
    assert not path.exists()


def test_server_of_a_living_owner_is_left_alone(child, tmp_path):
    write_pid_file(tmp_path / "file", child.pid)
    assert end_orphan(tmp_path / "file", drain_s=5) is None
    assert child.poll() is None


@pytest.mark.parametrize("changes", [{"start_ticks": 1}, {"boot": "another"}])
def test_another_process_with_the_same_id_is_left_alone(child, tmp_path, changes):
    orphaned(tmp_path / "file", child, **changes)
    assert end_orphan(tmp_path / "file", drain_s=5) is None
    assert child.poll() is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"server": {"pid": 1}, "owner": {}}', "\xff"])
def test_file_that_is_not_ours_ends_nothing(tmp_path, content):
    (tmp_path / "file").write_text(content, encoding="latin-1")
    assert end_orphan(tmp_path / "file", drain_s=5) is None


def test_process_that_was_not_collected_does_not_live():
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = Process.of(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not process.lives
    child.wait()
    assert Process.of(os.getpid()).lives
    assert not dataclasses.replace(Process.of(os.getpid()), boot="another").lives
