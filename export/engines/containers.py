"""What a release of NVIDIA's container ``tritonserver`` brings, and whether a plan, a driver and a GPU fit it.

The numbers are from NVIDIA's release notes and CUDA's compatibility table; none of these images was run here.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from export.engines.host import Gpu
from export.engines.plan import PlanManifest, version_numbers

IMAGE = "nvcr.io/nvidia/tritonserver"

_FIRST_WITH_TENSORRT_11 = (26, 6)
_FIRST_WITH_CUDA_13 = (25, 8)
_OLDEST_DRIVERS = {12: (525, 60, 13), 13: (580, 65, 6)}
"""Oldest driver on Linux for each major version of CUDA (CUDA's release notes, "Minor Version Compatibility")."""

_FORWARD_COMPATIBLE = (470, 525, 535, 545)
"""Older branches of the driver on which data-centre GPUs run these releases, with the compatibility package in the image (Triton's
release notes up to 26.04, "Driver Requirements"; the newer ones refer to CUDA's documentation)."""

_DATA_CENTRE = re.compile(r"\b(T4|V100|[ALBH]\d{1,3}S?|GH200|GB\d{3})\b")
"""In the names of GPUs that the compatibility package is for; GeForce and RTX cards are none of them."""

_OLDEST_COMPUTE_CAPABILITY = (7, 5)
"""Oldest GPU of the releases from 25.06 on (Triton's release notes, "GPU Requirements")."""

_SCRIPT = "deploy/export-in-container.sh"


@dataclass(frozen=True)
class Container:
    """A release of the container, as far as plans, drivers and GPUs depend on it."""

    release: str
    """Such as ``26.05``."""
    tensorrt: str
    """Full version inside the container, else, where only documents are at hand, the major version."""
    cuda_major: int

    @property
    def exact(self) -> bool:
        """Whether TensorRT's full version is known: a plan needs exactly this one."""
        return "." in self.tensorrt

    @property
    def build_command(self) -> str:
        """The command that builds plans for this release."""
        return f"{_SCRIPT} {self.release} --preset PRESET"


def container_of(release: str, environment: Mapping[str, str] = os.environ) -> Container:
    """What a release carries: as its own environment says where this process runs in it, else as NVIDIA's documents say.

    Args:
        release: Release in the settings (``export.container``).
        environment: Variables of this process. NVIDIA's images set ``NVIDIA_TRITON_SERVER_VERSION``, ``TRT_VERSION`` and
            ``CUDA_VERSION``.
    """
    here, tensorrt = environment.get("NVIDIA_TRITON_SERVER_VERSION"), environment.get("TRT_VERSION")
    if here and tensorrt:
        release = here
    major = 11 if version_numbers(release) >= _FIRST_WITH_TENSORRT_11 else 10
    cuda_major = 13 if version_numbers(release) >= _FIRST_WITH_CUDA_13 else 12
    if here and tensorrt:
        cuda = re.match(r"\d+", environment.get("CUDA_VERSION", ""))
        # Some images add the CUDA version: 10.13.3.9+cuda13.0.
        return Container(release, re.split(r"[+-]", tensorrt)[0], int(cuda[0]) if cuda else cuda_major)
    return Container(release, str(major), cuda_major)


def plan_faults(manifest: PlanManifest, container: Container) -> list[str]:
    """Reasons why a container's TensorRT would refuse a plan, as "found ..., expected ..."; empty where none is known."""
    version = manifest.backend_version
    if not manifest.version_compatible:
        return [] if _builds_for(version, container) else [f"found a plan of TensorRT {version}, expected {_wanted(container)}"]
    built, here = version_numbers(version), version_numbers(container.tensorrt)
    if built[:1] == here[:1] and (built <= here or not container.exact):
        return []
    return [f"found a plan of TensorRT {version}, expected {_wanted(container)}, or an earlier one of the same major version"]


def tensorrt_fault(version: str, container: Container) -> str | None:
    """Why a version of TensorRT cannot build plans for a container; None where nothing is known against it."""
    return None if _builds_for(version, container) else f"found TensorRT {version}, expected {_wanted(container)}"


def _builds_for(version: str, container: Container) -> bool:
    """Whether the versions are the same, as far as the container's is known."""
    built, here = version_numbers(version), version_numbers(container.tensorrt)
    return built == here if container.exact else built[:1] == here[:1]


def _wanted(container: Container) -> str:
    return f"TensorRT {container.tensorrt}{'' if container.exact else '.x'}, that of {IMAGE}:{container.release}-py3"


def gpu_faults(gpu: Gpu, container: Container) -> list[str]:
    """Reasons why a machine with this GPU cannot run the container, each as "found ..., expected ..."."""
    oldest = _OLDEST_DRIVERS[container.cuda_major]
    faults = []
    forward = _DATA_CENTRE.search(gpu.name) is not None and version_numbers(gpu.driver)[:1] in [(n,) for n in _FORWARD_COMPATIBLE]
    if version_numbers(gpu.driver) < oldest and not forward:
        faults.append(
            f"found driver {gpu.driver}, expected {'.'.join(f'{part:02}' for part in oldest)} or newer:"
            f" {IMAGE}:{container.release}-py3 has CUDA {container.cuda_major}. Update the driver, or take a release with an older"
            " CUDA (export.container)"
        )
    if version_numbers(gpu.compute_capability) < _OLDEST_COMPUTE_CAPABILITY:
        faults.append(f"found {gpu.name} of compute capability {gpu.compute_capability}, expected 7.5 or newer")
    return faults
