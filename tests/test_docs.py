"""The site builds without a warning, and the code in README and quickstart runs as it stands."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

import distilrec

ROOT = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.S)


@pytest.mark.pipeline
def test_site_builds_without_a_warning_and_has_every_setting(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-q", "--fail-on-warning", "--keep-going", "-b", "html", ROOT / "docs", tmp_path]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    settings = (tmp_path / "generated" / "settings.html").read_text(encoding="utf-8")
    for field in ("history_length", "perturbed_copies", "hidden_size", "exclude_length", "max_batch_size"):
        assert f'<span class="pre">{field}</span>' in settings
    assert "L: number of newest items of a history" in settings
    assert 'id="distilrec-rollback"' in (tmp_path / "generated" / "commands.html").read_text(encoding="utf-8")


@pytest.mark.server
def test_ten_lines_of_the_readme_run(shop_run, monkeypatch):
    monkeypatch.chdir(shop_run.parents[1])
    (text,) = blocks("README.md", "python")
    monkeypatch.setattr(distilrec, "fit", lambda *_: distilrec.load("runs/shop"), raising=False)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(re.sub(r"B00(\d)", r"item-\1", text), "README.md", "exec"), {})
    assert said.getvalue().count("genre ") == 5
    assert len(re.findall(r"^item-\d+ -?\d", said.getvalue(), re.M)) == 5


@pytest.mark.server
def test_quickstart_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (generate,) = blocks("docs/quickstart.md", "bash")
    subprocess.run([sys.executable, "-m", *generate.split()], check=True)
    said, names = io.StringIO(), {}
    with contextlib.redirect_stdout(said):
        for text in blocks("docs/quickstart.md", "python"):
            # Fewer epochs: what is shown is the same.
            short = text.replace('"epochs": 5}', '"epochs": 1}, "teachers": {"sequence": {"kind": "sequence", "epochs": 1}}')
            exec(compile(short, "quickstart.md", "exec"), names)
    assert "student" in said.getvalue()
    assert "student, ONNX INT8" in said.getvalue()
