"""A rehearsal that is killed: its server and its folder are found by the next command."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distilrec.serving.process.rehearsal_folder import end_interrupted_rehearsal
from distilrec.serving.process.security import state_folder
from export.repository.models import MODELS

pytestmark = pytest.mark.server

KILLED = """
import os, signal, sys
from pathlib import Path
from distilrec.serving.rollout import rehearsal
rehearsal.LiveChecks.check_version = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
rehearsal.rehearse(Path(sys.argv[1]), sys.argv[2:], 1, 60)
"""


def test_server_and_folder_of_a_killed_rehearsal_are_collected(serving_config, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "state"))
    repository = serving_config.repository
    command = [sys.executable, "-c", KILLED, str(repository), *(model.name for model in MODELS)]
    done = subprocess.run(command, check=False, timeout=120, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (folder,) = state_folder().glob("rehearsal-*")
    orphan = Path(f"/proc/{json.loads((folder / 'server.json').read_text())['server']['pid']}")
    assert orphan.exists()
    end_interrupted_rehearsal(tmp_path / "another repository")
    assert orphan.exists()
    end_interrupted_rehearsal(repository)
    deadline = time.monotonic() + 5
    while orphan.exists() and time.monotonic() < deadline:  # until its parent has collected it
        time.sleep(0.05)
    assert not orphan.exists()
    assert not folder.exists()
    assert (repository / "student" / "1" / "model.onnx").exists()
