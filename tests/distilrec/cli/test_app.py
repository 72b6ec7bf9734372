import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from disks import fill

from distilrec.cli.app import app
from distilrec.core.manifest import verify_manifest

COMMANDS = typer.main.get_command(app).commands


def distilrec(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "distilrec", *arguments], capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_that_the_command_understands(name):
    """Its options exist and its values are of the right types; nothing is run."""
    examples = re.findall(rf"Example: distilrec {name}\b([^\n&]*)", COMMANDS[name].help)
    assert examples
    for example in examples:
        COMMANDS[name].make_context(name, shlex.split(example))


def test_errors_are_one_message_and_status_1(tmp_path):
    result = distilrec("run", "--preset", "nothing", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("distilrec: found no preset or file 'nothing'")
    assert "Traceback" not in result.stderr


def test_a_full_disk_is_one_message_and_the_same_command_ends_as_usual_once_there_is_space(small_disk, tmp_path):
    rows = "".join(f"u{u},i{(u * 3 + t) % 40},{t}\n" for u in range(60) for t in range(9))
    (tmp_path / "logs.csv").write_text(f"user_id,item_id,timestamp\n{rows}")
    (tmp_path / "shop.toml").write_text('name = "shop"\n[data]\ninteractions = "logs.csv"\nk_core = 1\n')
    command = ("data", "--preset", str(tmp_path / "shop.toml"))
    filler = fill(small_disk)
    result = distilrec(*command, cwd=small_disk)
    assert result.returncode == 1
    assert "No space left on device" in result.stderr
    assert "Traceback" not in result.stderr
    filler.unlink()
    for folder in (small_disk, tmp_path):
        assert distilrec(*command, cwd=folder).returncode == 0
    assert [path.name for path in (small_disk / "runs" / "shop").glob("data*")] == ["data"]
    full, free = (verify_manifest(folder / "runs" / "shop" / "data").digest for folder in (small_disk, tmp_path))
    assert full == free


@pytest.mark.pipeline
def test_runs_that_cannot_be_written_are_one_message_and_status_1(tmp_path):
    (tmp_path / "logs.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u,i{t},{t}\n" for t in range(6)))
    (tmp_path / "shop.toml").write_text('name = "shop"\n[data]\ninteractions = "logs.csv"\nk_core = 1\n')
    (tmp_path / "runs").write_text("a file")
    result = distilrec("data", "--preset", "shop.toml", cwd=tmp_path)
    assert result.returncode == 1
    assert re.fullmatch(r"(\S+ \S+ data: .*\n)?distilrec: runs\S*: .*Not a directory.*, expected .*\n", result.stderr)


@pytest.mark.pipeline
def test_warnings_about_data_are_shown_in_one_line(tmp_path):
    (tmp_path / "logs.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u,i{t},{t}\n" for t in range(6)) + "u,i0,0\n")
    (tmp_path / "shop.toml").write_text('name = "shop"\n[data]\ninteractions = "logs.csv"\nk_core = 1\nsplit = "leave_one_out"\n')
    result = distilrec("data", "--preset", "shop.toml", cwd=tmp_path)
    assert result.returncode == 0
    assert "data: runs/shop/data" in result.stdout
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (data|warning): ", line) for line in result.stderr.splitlines())
    assert "warning: logs.csv: column 'user_id', 'item_id', 'timestamp': 1 repeated interaction(s)" in result.stderr


@pytest.mark.pipeline
def test_a_stage_without_its_input_says_what_to_run(tmp_path):
    result = distilrec("export", "--preset", "smoke", cwd=tmp_path)
    assert result.returncode == 1
    assert "runs/smoke/data: found no manifest.json, expected a finished stage" in result.stderr


def test_doctor_reports_and_passes_here(tmp_path):
    result = distilrec("doctor", "--url", "127.0.0.1:9", cwd=tmp_path)
    assert result.returncode == 0, result.stdout
    assert "ok   tritonserver" in result.stdout
    assert "none at 127.0.0.1:9" in result.stdout
    assert "torch" in result.stdout
