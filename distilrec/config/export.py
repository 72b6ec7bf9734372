"""Section ``export``: precisions, engines, and what is served."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from distilrec.config.section import Positive, Section
from distilrec.core.registry import Registry

SERVING_TARGETS: Registry[Any] = Registry("serving target", "export.repository.targets", "export")
"""All serving targets (``export.repository.target.ServingTarget``) by name."""


def _declared_target(name: str) -> str:
    if name not in SERVING_TARGETS:
        raise ValueError(f"expected one of {', '.join(SERVING_TARGETS)}")
    return name


ServingTargetName = Annotated[str, AfterValidator(_declared_target)]


class CalibrationConfig(Section):
    """How the ranges of INT8 activations are chosen."""

    method: Literal["minmax", "entropy", "percentile"] = "minmax"
    percentile: Annotated[float, Field(gt=0, le=100)] = 99.99
    """``percentile``: share of an activation's magnitudes, in percent, that is represented without clipping."""
    samples: Positive = 1024
    """Training requests drawn for calibration."""
    requests: Path | None = None
    """Recorded requests (.npz, as in an artefact's calibration.npz) to use instead."""


class EngineConfig(Section):
    """How TensorRT engines are built."""

    optimal_batch_size: Positive = 8
    """Batch size kernels are chosen for."""
    max_batch_size: Positive = 64
    workspace_mib: Positive = 1024
    """GPU memory a kernel may use in addition to weights and activations, in MiB."""
    compute_capabilities: tuple[str, ...] = Field(default=("8.6", "8.9", "12.0"), min_length=1)
    """GPUs that TensorRT for RTX builds for; NVIDIA TensorRT builds for the GPU it runs on.
    All go into one plan: it holds code that is compiled when it is loaded, and for these three it is as large as for one."""
    hardware_compatible: bool = False
    """NVIDIA TensorRT: run on every GPU from Ampere on, somewhat slower."""
    version_compatible: bool = False
    """NVIDIA TensorRT: run on later versions, somewhat slower; loading such a plan runs code from it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.optimal_batch_size > self.max_batch_size:
            raise ValueError(f"optimal_batch_size ({self.optimal_batch_size}) exceeds max_batch_size ({self.max_batch_size})")
        return self


class ExportConfig(Section):
    """The served model's sizes and precision, and where it goes."""

    exclude_length: Positive | Literal["auto"] = "auto"
    """E: items beyond the history that a request can rule out. ``auto``: as many as the longest history has beyond
    ``history_length``, and at least 64 more (128 to 2,048; ``distilrec data`` prints it)."""
    top_k: Annotated[int, Field(ge=1, le=3840)] = 100
    """K: items in an answer (TensorRT's limit is 3840)."""
    filter_length: Positive = 16
    """F: values that a request can filter by, of all attributes together. It counts where ``data.filters`` declares attributes."""
    allow_length: Annotated[int, Field(ge=0)] = 0
    """A: items that a request can restrict its answer to (``allow``); 0: requests cannot."""
    repeats: Literal["never", "allow"] = "never"
    """``allow``: requests can ask for items of their history, too, as music and groceries need it. All models are then evaluated
    with repeats: no seen item is left out of the ranking, and a true item that was seen before counts."""
    similar: bool = False
    """Let requests ask for items that are like an item (``client.similar``)."""
    max_batch_size: Positive = 64
    """Largest batch Triton forms."""
    instances: Positive | None = None
    """Instances of each model on a CPU, one ONNX Runtime thread each; the default is one for each core found."""
    target: ServingTargetName = "python"
    """What serves the student: the name of a module of ``export/repository/targets``, with ``-`` for ``_``. ``python`` needs no
    more than what pip installs; the others are for NVIDIA's container."""
    container: Annotated[str, Field(pattern=r"^\d\d\.\d\d$")] = "26.05"
    """Release of NVIDIA's container ``tritonserver`` that serves the targets on a GPU. Plans, driver and GPU are compared with it
    before anything is copied; within a container it is that one, whatever stands here."""
    student: Literal["auto", "distilled", "undistilled"] = "auto"
    """Which student is exported and served. ``auto``: the distilled one, unless the same student trained without a teacher ranks
    the validation users better. A student that is named here ships in any case, with a warning where the other one is better."""
    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """What is served. ``auto``: the smallest precision that is faster and keeps the ranking, as measured for each target: on this
    CPU, or on the GPU. A target on a GPU that was not measured serves FP16."""
    head: Literal["auto", "exhaustive", "approximate"] = "auto"
    """What finds the top K on a CPU with the target ``python``. ``exhaustive``: the graph scores every item. ``approximate``: an
    index finds candidates, which are ranked exactly; it needs ``pip install 'distilrec[scale]'``. ``auto``: from 50,000 items on
    the approximate one, where it is faster and keeps the ranking, as measured on this CPU. A head that is named ships in any case.
    Other targets serve the exhaustive one."""
    calibration: CalibrationConfig = CalibrationConfig()
    engines: Literal["auto", "off", "tensorrt", "tensorrt_rtx"] = "auto"
    """Package that builds TensorRT engines into the artefact, next to the ONNX models, whatever the target is. ``auto``: the one
    that is installed, and no engines where none can be built; ``off``: no engines. A package that is named must build them. The
    target ``tensorrt`` serves what ``tensorrt`` has built; Triton has no backend for TensorRT for RTX."""
    engine: EngineConfig = EngineConfig()
    repository: Path = Path("triton_repo")
    """Triton model repository that is filled."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_accelerator(cls, values: Any) -> Any:
        """Name the target that a setting of former versions stands for."""
        if isinstance(values, Mapping) and "accelerator" in values:
            former = values["accelerator"]
            if former in ("cuda", "tensorrt"):
                raise ValueError(f"accelerator = {former!r} is target = 'onnxruntime-{former}' now. Leave accelerator out")
            raise ValueError(
                "accelerator is a part of target now, and 'python' and 'onnxruntime' run on a CPU. Leave accelerator out"
            )
        return values
