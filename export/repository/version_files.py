"""Files of a model's version folder in the Triton repository."""

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from distilrec.core.errors import RepositoryError
from distilrec.core.manifest import Manifest
from distilrec.core.specs import FIRST_VERSION, Head, Precision
from export.artefact import head_files, served_files, served_head, tensorrt_files


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


def copy_served(artefact: Path, manifest: Manifest, folder: Path) -> None:
    """Copy what the target ``python`` runs: the graph, or the approximate head with the code that runs it.

    The head's files are links to those of the artefact where both lie on one file system. Then student and front door have one
    table and one index in memory. Nothing writes into them: a stage and a promotion replace whole folders.
    """
    if served_head(manifest) is Head.EXHAUSTIVE:
        copy_graph(artefact, manifest, folder)
        return
    for path in head_files(artefact):
        try:
            os.link(path, folder / path.name)
        except OSError:  # another file system, or one without links
            shutil.copyfile(path, folder / path.name)
    for name in ("approximate", "head_files"):
        code = importlib.util.find_spec(f"export.heads.{name}")  # not imported: it needs faiss
        assert code is not None
        assert code.origin is not None
        shutil.copyfile(code.origin, folder / f"{name}.py")


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
