"""What every stored result says about its origin: machine, installed versions and the digests of the measured artefact."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.subject import Subject
from distilrec.core.machine import processor
from distilrec.core.manifest import installed_versions

CPU_FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16")
"""CPU flags that decide which kernels run."""

_FURTHER_PACKAGES = ("nvidia-pytriton", "tritonclient", "pytest-benchmark")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def machine() -> dict[str, Any]:
    """Describe the machine and the installed packages, without the machine's name."""
    return {
        "processor": processor(),
        "cpu_features": cpu_features(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpu": _gpu(),
        "system": platform.platform(),
        "threads": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "versions": installed_versions() | _further_versions(),
    }


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Return those of ``CPU_FEATURES`` that this CPU has; empty where the kernel does not list them."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return [feature for feature in CPU_FEATURES if feature in flags]


def measured_subject(subject: Subject) -> dict[str, Any]:
    """Identify the measured artefact by its digests."""
    return {
        "preset": subject.config.name if subject.config else None,
        "folder": subject.artefact.name,
        "digest": subject.manifest.digest,
        "vocabulary_sha256": subject.vocabulary_sha256,
        "inputs": subject.manifest.inputs,
        "files": {name: record.sha256 for name, record in subject.manifest.files.items()},
    }


def _gpu() -> str | None:
    # PyTorch takes seconds to import, also where benchmarks are only collected.
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _further_versions() -> dict[str, str]:
    versions = {}
    for package in _FURTHER_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
