"""Files of a model's version folder in the Triton repository."""

import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path

from distilrec.core.errors import RepositoryError
from distilrec.core.manifest import Manifest
from distilrec.core.specs import FIRST_VERSION, Precision
from export.artefact import served_files, tensorrt_files


def make_version(folder: Path, files: Mapping[str, Path]) -> None:
    """Make ``folder`` with copies of files, by their names in it. A former folder of that name is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, path in files.items():
        shutil.copyfile(path, folder / name)


def copy_graph(artefact: Path, manifest: Manifest, folder: Path) -> None:
    """Copy what ONNX Runtime runs: the graph in the precision that is served, and its external weights where it has any."""
    for path in served_files(artefact, Precision(manifest.metrics["precision"])):
        shutil.copyfile(path, folder / path.name)


def copy_tensorrt_graph(artefact: Path, manifest: Manifest, folder: Path) -> None:
    """Copy the graph in the form that TensorRT fuses: it refuses the unsigned activations of ONNX Runtime's INT8."""
    for name, path in tensorrt_files(artefact, Precision(manifest.metrics["precision"])).items():
        shutil.copyfile(path, folder / name)


def model_source(model: str) -> str:
    """The served model.py, as it stands in ``triton_repo/``.

    Raises:
        RepositoryError: The installed package lacks it.
    """
    # A namespace package: with an __init__.py, Triton would take its __pycache__ for a model.
    package = importlib.util.find_spec("triton_repo")
    for folder in package.submodule_search_locations or () if package else ():
        path = Path(folder) / model / str(FIRST_VERSION) / "model.py"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise RepositoryError(f"found no triton_repo/{model}/1/model.py in the installed package; install distilrec again")
