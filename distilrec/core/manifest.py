"""The manifest of a finished stage folder, and the check of the folder against it."""

import hashlib
import json
import platform
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from distilrec import __version__
from distilrec.core.errors import ManifestError
from distilrec.core.files import write_text

FILE_NAME = "manifest.json"
_RECORDED_PACKAGES = ("numpy", "polars", "torch", "transformers", "lightning", "onnx", "onnxruntime")


class FileRecord(BaseModel):
    """Size and digest of one file of a stage folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size_bytes: int


class _KnownValues(BaseModel):
    """Types of the values that other stages and the server rely on, where a stage has them."""

    model_config = ConfigDict(extra="ignore", strict=True)


class _KnownSettings(_KnownValues):
    history_length: int = 1
    exclude_length: int = 1
    top_k: int = 1
    temperatures: list[float] = []


class _KnownMetrics(_KnownValues):
    item_count: int = 1
    items: int = 1
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    head: Literal["exhaustive", "approximate"] = "exhaustive"
    gpu_precisions: dict[str, Literal["fp32", "fp16", "int8"]] = {}
    ships: Literal["distilled", "undistilled"] = "distilled"
    reason: str = ""
    vocabulary_sha256: str = ""
    int8_within_budget: bool | None = None
    seconds: float = 0


class _Recorded(dict[str, Any]):
    """Values by name. A missing one is an error of the manifest, such as one that was edited or copied from another stage."""

    def __missing__(self, name: str) -> Any:
        raise ManifestError(
            f"{FILE_NAME}: found no {name!r} in settings or metrics, expected the manifest of a stage that has it. Run the stage"
            " again."
        )


def _recorded(known: type[_KnownValues], values: dict[str, Any]) -> dict[str, Any]:
    """The values, if those that are known have their types."""
    try:
        known.model_validate(values)
    except ValidationError as error:
        faults = (f"{fault['loc'][0]}: {fault['msg']} (found {fault['input']!r:.100})" for fault in error.errors())
        raise ValueError("; ".join(faults)) from None
    return _Recorded(values)


class Manifest(BaseModel):
    """The content of ``manifest.json``: how a stage folder came to be, and the digests that prove it is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    stage: str
    fingerprint: str
    """sha256 of what the result depends on: stage, settings, seed, code, digests of the inputs."""
    settings: Annotated[dict[str, Any], AfterValidator(partial(_recorded, _KnownSettings))]
    seed: int
    inputs: dict[str, str]
    """Digest of each input's manifest at the time it was read."""
    versions: dict[str, str]
    files: dict[str, FileRecord]
    metrics: Annotated[dict[str, Any], AfterValidator(partial(_recorded, _KnownMetrics))]

    @property
    def digest(self) -> str:
        """sha256 of what a stage that reads this folder depends on: stage, settings, seed and files.

        Code, inputs, metrics and package versions do not count: where they change and the files do not, later stages need not
        run again.
        """
        files = {name: record.sha256 for name, record in self.files.items()}
        return sha256_of_json({"stage": self.stage, "settings": self.settings, "seed": self.seed, "files": files})


def sha256_of_json(value: Any) -> str:
    """sha256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Records of all files below ``folder`` but the manifest itself, by relative path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE_NAME)
    return {
        path.relative_to(folder).as_posix(): FileRecord(sha256=sha256_of_file(path), size_bytes=path.stat().st_size)
        for path in paths
    }


def installed_versions() -> dict[str, str]:
    """Versions of what shapes a result: DistilRec, Python and the packages a stage may use."""
    versions = {"distilrec": __version__, "python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``; a folder that has one is finished."""
    write_text(folder / FILE_NAME, manifest.model_dump_json(indent=2) + "\n")


def read_manifest(folder: Path) -> Manifest:
    """Read a stage folder's manifest without looking at its files.

    Raises:
        ManifestError: there is none, or it cannot be understood.
    """
    path = folder / FILE_NAME
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ManifestError(f"{folder}: found no {FILE_NAME}, expected a finished stage. Run the stage that writes it.") from None
    except OSError as error:
        raise ManifestError(
            f"{path}: cannot be read ({error.strerror}), expected a manifest. Check its permissions, or run the stage again."
        ) from error
    except ValidationError as error:
        raise ManifestError(f"{path}: expected a manifest of format version 1, found:\n{error}\nRun the stage again.") from error


def verify_manifest(folder: Path) -> Manifest:
    """Read a stage folder's manifest and check every file against its digest.

    Raises:
        ManifestError: a file is missing, was added or was changed, or cannot be read.
    """
    manifest = read_manifest(folder)
    try:
        found = record_files(folder)
    except OSError as error:
        raise ManifestError(
            f"{error.filename or folder}: cannot be read ({error.strerror}), expected a file of a finished stage. Check its"
            " permissions, or run the stage again."
        ) from error
    faults = [f"{name}: missing" for name in manifest.files.keys() - found.keys()]
    faults += [f"{name}: not in the manifest" for name in found.keys() - manifest.files.keys()]
    faults += [
        f"{name}: sha256 is {found[name].sha256[:12]}..., expected {record.sha256[:12]}..."
        for name, record in manifest.files.items()
        if name in found and found[name] != record
    ]
    if faults:
        raise ManifestError(f"{folder} is not what its manifest says:\n  " + "\n  ".join(sorted(faults)) + "\nRun its stage again.")
    return manifest
