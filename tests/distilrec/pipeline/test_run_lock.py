"""One process at a time writes stages into a run's folder."""

import subprocess
import sys
import threading

import pytest

from distilrec.core.errors import ManifestError, RunLockedError
from distilrec.pipeline.evaluate import evaluate
from distilrec.pipeline.run_lock import locked_run
from distilrec.pipeline.stages import run_stage

_HOLD = """
import sys
from pathlib import Path
from distilrec.pipeline.run_lock import locked_run
with locked_run(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other_run(tmp_path):
    """Another process that holds the lock of the run ``shop``."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "runs" / "shop")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_run_in_the_same_folder_is_refused_in_one_sentence(shop_config, tmp_path, monkeypatch, other_run):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunLockedError, match=r"shop: found another distilrec .* wait for it, or stop it\.$") as error:
        run_stage(shop_config, "data")
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "runs" / "shop" / "data").exists()
    other_run.kill()
    other_run.wait()
    run_stage(shop_config, "data")  # a killed process holds no lock


def test_the_lock_can_be_taken_again_by_the_thread_that_holds_it_and_by_no_other(tmp_path):
    refused = []

    def try_it():
        try:
            with locked_run(tmp_path):
                pass
        except RunLockedError as error:
            refused.append(error)

    with locked_run(tmp_path), locked_run(tmp_path / ".." / tmp_path.name):
        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
    assert len(refused) == 1
    try_it()
    assert len(refused) == 1


def test_a_command_that_runs_several_stages_takes_the_lock_once(shop_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with locked_run(tmp_path / "runs" / "shop"):
        run_stage(shop_config, "data")
    with pytest.raises(ManifestError), locked_run(tmp_path / "runs" / "shop"):
        evaluate(shop_config, "test")  # no model yet


def test_an_error_within_the_block_is_raised_as_it_is(tmp_path):
    for error in (BlockingIOError(11, "of the block"), PermissionError(13, "of the block")):
        with pytest.raises(type(error), match="of the block"), locked_run(tmp_path):
            raise error
