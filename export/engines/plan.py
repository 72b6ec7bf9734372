"""The manifest of a TensorRT plan, and the decision whether the plan may run here, before a byte of it is deserialised."""

import platform
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from distilrec.core.errors import EngineError
from distilrec.core.files import write_text
from distilrec.core.manifest import sha256_of_file, sha256_of_json
from distilrec.core.specs import CHOICE_SIZES, Precision, RecommenderSpec
from export.engines.backends import Backend, BackendName

_OLDEST_COMPATIBLE = (8, 0)
"""Hardware-compatible plans run from Ampere on."""

_REBUILD = "Build the plan again where it is to run: distilrec export --preset PRESET"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorRecord(_Record):
    """A tensor of the engine."""

    name: str
    dtype: Literal["int32", "float32"]
    shape: tuple[int, ...]
    """Without the batch dimension."""


class Profile(_Record):
    """Batch sizes that the engine runs."""

    min_batch_size: int
    optimal_batch_size: int
    max_batch_size: int


class CalibrationRecord(_Record):
    """How the INT8 ranges were chosen."""

    method: str
    sha256: str
    """Digest of the calibration set."""


class PlanManifest(_Record):
    """The content of ``<plan>.json``: what a plan is, what it was built from and where it runs."""

    format_version: Literal[1] = 1
    backend: BackendName
    backend_version: str
    cuda_version: str | None
    os: str
    architecture: str
    compute_capabilities: tuple[str, ...]
    """GPUs that the plan was built for; with ``hardware_compatible`` the one it was built on."""
    gpu_name: str | None
    """GPU that the plan was built on; None if it was built without a GPU."""
    flags: tuple[str, ...]
    """Builder flags that were set."""
    hardware_compatible: bool
    version_compatible: bool
    workspace_mib: int
    profiles: tuple[Profile, ...]
    tensors: tuple[TensorRecord, ...]
    precision: Precision
    product_types: dict[str, str]
    """Proof of the precision: operand type of each product with a constant matrix, read from the built engine's layers."""
    table_types: dict[str, str] | None = None
    """Type in which each table that rows are looked up in lies in the engine; None where the builder did not say it."""
    opset: int
    item_count: int
    history_length: int
    exclude_length: int
    top_k: int
    filter_length: int = 0
    allow_length: int = 0
    repeats: bool = False
    similar: bool = False
    vocabulary_sha256: str
    onnx_sha256: str
    weights_sha256: dict[str, str]
    """External weights by file name."""
    plan_sha256: str
    plan_size_bytes: int
    calibration: CalibrationRecord | None = None
    agreement: dict[str, float] | None = None
    """Agreement with FP32 (``distilrec.evaluation.contract.Agreement``); None until it is measured on a GPU."""
    digest: str = ""
    """sha256 of everything above: an edited manifest is refused."""

    @property
    def spec(self) -> RecommenderSpec:
        """Sizes of the recommender in the plan."""
        return RecommenderSpec(**{field.name: getattr(self, field.name) for field in fields(RecommenderSpec)})


@dataclass(frozen=True)
class Device:
    """Where a plan is to run."""

    os: str
    architecture: str
    backend: str
    backend_version: str
    gpu_name: str | None
    """None without a CUDA GPU."""
    compute_capability: str | None
    """Such as ``8.6``."""


def this_device(backend: Backend) -> Device:
    """This machine, its current CUDA GPU and ``backend``."""
    gpu_name, capability = None, None
    import torch  # not at the top: promotion reads the manifests of plans without PyTorch

    if torch.cuda.is_available():
        gpu_name = torch.cuda.get_device_name()
        capability = "{}.{}".format(*torch.cuda.get_device_capability())
    return Device(platform.system(), platform.machine(), backend.name, backend.version, gpu_name, capability)


def manifest_path(plan_path: Path) -> Path:
    """``<plan>.json``, next to the plan."""
    return plan_path.with_name(plan_path.name + ".json")


def write_plan_manifest(plan_path: Path, manifest: PlanManifest) -> PlanManifest:
    """Write the manifest with its digest next to the plan; returns it with the digest."""
    sealed = manifest.model_copy(update={"digest": _digest(manifest)})
    write_text(manifest_path(plan_path), sealed.model_dump_json(indent=2) + "\n")
    return sealed


def read_plan_manifest(plan_path: Path) -> PlanManifest:
    """Read a plan's manifest without looking at the plan.

    Raises:
        EngineError: There is no manifest, or it is truncated or edited.
    """
    path = manifest_path(plan_path)
    try:
        manifest = PlanManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise EngineError(f"{path}: no such file, expected the plan's manifest. {_REBUILD}") from None
    except ValidationError as error:
        raise EngineError(f"{path}: expected a plan's manifest of format version 1, found:\n{error}\n{_REBUILD}") from error
    if manifest.digest != _digest(manifest):
        raise EngineError(f"{path}: found a manifest that was edited, expected it as it was written. {_REBUILD}")
    return manifest


def check_plan(plan_path: Path, spec: RecommenderSpec, vocabulary_sha256: str, device: Device) -> PlanManifest:
    """Refuse a plan that must not be deserialised: plans hold code, and a wrong one fails late or answers wrongly.

    Args:
        plan_path: The plan; its manifest lies next to it.
        spec: Sizes that it must have.
        vocabulary_sha256: Digest of the vocabulary that its item indices must belong to.
        device: Machine and GPU that it must run on (``this_device``).

    Raises:
        EngineError: Plan or manifest are missing, truncated or edited, or the plan is for another recommender or vocabulary, or for
            another TensorRT, machine or GPU; all reasons are listed.
    """
    manifest = read_plan_manifest(plan_path)
    faults = misfits(manifest, spec, vocabulary_sha256, device) + _damage(plan_path, manifest)
    if faults:
        raise EngineError(f"{plan_path} must not be run here:\n  " + "\n  ".join(faults) + f"\n{_REBUILD}")
    return manifest


def misfits(manifest: PlanManifest, spec: RecommenderSpec, vocabulary_sha256: str, device: Device) -> list[str]:
    """All reasons why a plan must not run on ``device``, each as "found ..., expected ..."."""
    pairs: list[tuple[str, Any, Any]] = [
        ("a plan for", manifest.spec, spec),
        ("a plan for the vocabulary", manifest.vocabulary_sha256, vocabulary_sha256),
        ("a plan for operating system", manifest.os, device.os),
        ("a plan for architecture", manifest.architecture, device.architecture),
        ("a plan of backend", manifest.backend, device.backend),
    ]
    faults = [f"found {what} {found}, expected {expected}" for what, found, expected in pairs if found != expected]
    if manifest.backend == device.backend and not _version_fits(manifest, device.backend_version):
        faults.append(f"found a plan of {manifest.backend} {manifest.backend_version}, expected {device.backend_version}")
    if device.gpu_name is None or device.compute_capability is None:
        return [*faults, "found no CUDA GPU, expected one with a driver that PyTorch can use"]
    return faults + gpu_misfits(manifest, device.gpu_name, device.compute_capability)


def _version_fits(manifest: PlanManifest, version: str) -> bool:
    """True where ``version`` runs the plan. TensorRT for RTX, too, promises nothing between releases without the setting."""
    if not manifest.version_compatible:
        return manifest.backend_version == version
    built, here = version_numbers(manifest.backend_version), version_numbers(version)
    return built[0] == here[0] and built <= here


def gpu_misfits(manifest: PlanManifest, gpu_name: str, compute_capability: str) -> list[str]:
    """Reasons why a plan must not run on a GPU, each as "found ..., expected ..."."""
    if manifest.hardware_compatible:
        if version_numbers(compute_capability) < _OLDEST_COMPATIBLE:
            return [f"found a GPU of compute capability {compute_capability}, expected 8.0 or newer"]
        return []
    if compute_capability not in manifest.compute_capabilities:
        return [f"found a plan for compute capability {', '.join(manifest.compute_capabilities)}, expected {compute_capability}"]
    # A plan that was built without a GPU has its kernels chosen when it is loaded; otherwise they were timed on the GPU.
    if manifest.gpu_name is not None and manifest.backend == "tensorrt" and manifest.gpu_name != gpu_name:
        return [f"found a plan that was tuned on {manifest.gpu_name}, expected {gpu_name}"]
    return []


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version, by which versions are ordered."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def check_undamaged(plan_path: Path) -> None:
    """Refuse a plan that is not the one its manifest describes.

    Raises:
        EngineError: Plan or manifest are missing, truncated or edited.
    """
    faults = _damage(plan_path, read_plan_manifest(plan_path))
    if faults:
        raise EngineError(f"{plan_path}: {'; '.join(faults)}. {_REBUILD}")


def _damage(plan_path: Path, manifest: PlanManifest) -> list[str]:
    if not plan_path.is_file():
        return ["found no such file"]
    size = plan_path.stat().st_size
    if size != manifest.plan_size_bytes:
        return [f"found {size} bytes, expected {manifest.plan_size_bytes}"]
    found = sha256_of_file(plan_path)
    if found != manifest.plan_sha256:
        return [f"found sha256 {found[:12]}..., expected {manifest.plan_sha256[:12]}..."]
    return []


def _digest(manifest: PlanManifest) -> str:
    content = manifest.model_dump(mode="json", exclude={"digest"})
    # A manifest of an earlier version has no types of tables, and none of the optional tensors.
    absent = {name for name in CHOICE_SIZES if not content[name]} | ({"table_types"} if manifest.table_types is None else set())
    return sha256_of_json({name: value for name, value in content.items() if name not in absent})
