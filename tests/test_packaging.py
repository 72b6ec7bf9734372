"""What a user gets from ``pip install .``: the client and the command line, without torch."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.network

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy: a build folder of an earlier build would bring deleted modules back.
    ignored = shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__", "*.onnx")
    shutil.copytree(ROOT, folder / "source", ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(folder / "source")]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


def test_wheel_holds_the_packages_and_their_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"clients", "distill", "distilrec", "export", "triton_repo"}
    assert {
        "clients/examples/asyncio_service.py",
        "distilrec/py.typed",
        "distilrec/config/presets/ml-100k.toml",
        "triton_repo/student/1/model.py",
        "triton_repo/recommend/1/model.py",
    } <= set(names)


def test_plain_install_is_light_and_says_what_is_missing(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *constraints, str(wheel)], check=True)
    listing = [python, "-m", "pip", "list", "--format=freeze"]
    installed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
    assert not {"torch", "polars", "transformers", "onnx", "onnxruntime"} & {line.split("==")[0] for line in installed.splitlines()}
    subprocess.run([python, "-c", "from clients import RecommenderClient"], check=True, cwd=tmp_path)
    bulk = ["recommend", "--input", "users.parquet", "--output", "recs.parquet"]
    preset = ["--preset", "smoke"]
    for command, extra in ((["run", *preset], "train"), (["tune", *preset], "tune"), (bulk, "bulk")):
        asked = [tmp_path / "venv" / "bin" / "distilrec", *command]
        result = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert result.returncode == 1
        assert f"pip install 'distilrec[{extra}]'" in result.stderr
        assert "Traceback" not in result.stderr
