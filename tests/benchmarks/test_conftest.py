"""Benchmarks do not run with the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.pipeline
def test_plain_pytest_runs_no_benchmark():
    # This suite imports no PyTorch, so that it is collected in a moment.
    command = [sys.executable, "-m", "pytest", "benchmarks/test_promotion.py", "-q", "-rs", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0
    assert "1 skipped" in done.stdout
    assert "benchmarks run with: pytest --benchmark-only" in done.stdout
