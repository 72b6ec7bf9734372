"""The digest of a stage's code: what changes it, and what does not."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DIGESTS = """
from distilrec.core.code import code_digest
print(code_digest(["distilrec.data.stage"]), code_digest(["distill.stages.student"]))
"""
WITH_DECLARATIONS = """
from distilrec.config import load_config
from distilrec.config.section import declarations_of
from distilrec.core.code import code_digest
declared = [declaration.__module__ for declaration in declarations_of(load_config("smoke").student)]
print(code_digest(["distilrec.data.stage"]), code_digest(["distill.stages.student", *declared]))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """DistilRec's packages in a folder where they can be edited."""
    folder = tmp_path_factory.mktemp("copy")
    for package in ("clients", "distill", "distilrec", "export"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def digests(folder: Path, code: str) -> list[str]:
    """Digests of the code of the stages ``data`` and ``student``."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder).stdout.split()


def changed(folder: Path, module: str, old: str, new: str, code: str = DIGESTS) -> list[bool]:
    """Whether the two digests change with this edit, which is taken back."""
    path = folder / module
    source = path.read_text(encoding="utf-8")
    assert old in source
    before = digests(folder, code)
    path.write_text(source.replace(old, new), encoding="utf-8")
    after = digests(folder, code)
    path.write_text(source, encoding="utf-8")
    return [a != b for a, b in zip(before, after, strict=True)]


@pytest.mark.pipeline
def test_an_edited_loss_changes_the_students_code_and_not_that_of_the_data(copy):
    assert changed(copy, "distill/losses/soft.py", "temperature**2", "temperature", WITH_DECLARATIONS) == [False, True]


def test_what_a_stage_reaches_through_others_counts(copy):
    assert changed(copy, "distilrec/core/specs.py", "ROW_MULTIPLE = 8", "ROW_MULTIPLE = 16") == [True, True]


def test_comments_docstrings_and_layout_do_not_count(copy):
    path = "distilrec/core/specs.py"
    assert changed(copy, path, 'PADDING = 0\n"""', 'PADDING = (\n    0\n)  # no item\n"""Another text. ') == [False, False]
