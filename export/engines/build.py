"""ONNX -> TensorRT plan: strongly typed, its precision proved from the built layers, written together with its manifest."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from distilrec.config import EngineConfig
from distilrec.core.errors import EngineError
from distilrec.core.manifest import sha256_of_file
from distilrec.core.specs import Precision, RecommenderSpec
from export.engines.backends import Backend, build_progress, collected_log, errors_of, logger
from export.engines.inspection import (
    BuiltLayer,
    built_layers,
    constant_products,
    gathered_tables,
    inspected_layers,
    prove_precision,
    table_types,
)
from export.engines.plan import CalibrationRecord, PlanManifest, Profile, TensorRecord, this_device, write_plan_manifest

MAX_TOP_K = 3840
"""TensorRT's TopK returns no more."""

_DTYPES = {"INT32": "int32", "FLOAT": "float32"}


def build_engine(
    onnx_path: Path,
    plan_path: Path,
    spec: RecommenderSpec,
    *,
    precision: Precision,
    vocabulary_sha256: str,
    backend: Backend,
    config: EngineConfig,
    calibration: CalibrationRecord | None = None,
) -> PlanManifest:
    """Build a plan and put it, with its manifest, in the place of a former one. A former plan stays if this one fails.

    Args:
        onnx_path: Model in the form that TensorRT fuses; its external weights lie next to it.
        plan_path: File to write; ``<plan>.json`` is written next to it.
        spec: Sizes that the model's tensors must have.
        precision: Precision that the model claims; it is proved from the layers of the finished engine.
        vocabulary_sha256: Digest of the vocabulary that item indices belong to.
        backend: TensorRT (``find_backend``).
        config: How to build.
        calibration: What the INT8 ranges come from.

    Raises:
        EngineError: The settings cannot be used here, or TensorRT cannot read or build the model; its log is in the message.
        PrecisionError: The built engine is not in ``precision``.
    """
    _check_request(spec, config, backend)
    built = _build(onnx_path, _cache_path(plan_path), spec, backend, config)
    model = onnx.load(onnx_path, load_external_data=False)
    manifest = PlanManifest(
        **_runs_on(config, backend),
        **_sizes(spec, config),
        **_source(onnx_path, model),
        **_result(built, model, precision),
        vocabulary_sha256=vocabulary_sha256,
        calibration=calibration,
    )
    return _write(plan_path, built, manifest)


@dataclass(frozen=True)
class _Built:
    """What a build has left."""

    plan: Any
    """The serialised engine, an ``IHostMemory``."""
    layers: list[BuiltLayer]
    flags: tuple[str, ...]
    """Names of the builder flags that were set."""
    timing_cache: Any
    """Kernel timings for the next build, an ``IHostMemory``; None where the package keeps none."""


def _build(onnx_path: Path, cache_path: Path, spec: RecommenderSpec, backend: Backend, config: EngineConfig) -> _Built:
    trt, reader = backend.module, f"{backend.label} {backend.version}"
    with collected_log(backend) as log, build_progress(backend, f"{onnx_path.parent.name}/{onnx_path.name}") as monitor:
        builder = trt.Builder(logger(backend))
        network = builder.create_network(backend.network_flags)
        parser = trt.OnnxParser(network, logger(backend))
        if not parser.parse_from_file(str(onnx_path)):
            raise EngineError(f"{onnx_path}: {reader} cannot read it:\n{_faults(parser)}\n{errors_of(log)}")
        _check_tensors(onnx_path, network, spec)
        builder_config = _builder_config(builder, spec, config, backend)
        builder_config.progress_monitor = monitor
        cached = backend.capabilities.timing_cache
        if cached:
            _load_timing_cache(builder_config, cache_path)
        plan = builder.build_serialized_network(network, builder_config)
        if plan is None:
            raise EngineError(f"{onnx_path}: {reader} cannot build an engine of it:\n{errors_of(log)}")
        flags = tuple(name for name, flag in trt.BuilderFlag.__members__.items() if builder_config.get_flag(flag))
        layers = (inspect_plan(plan, backend) if torch.cuda.is_available() else []) or built_layers(log)
        return _Built(plan, layers, ("STRONGLY_TYPED", *flags), builder_config.get_timing_cache().serialize() if cached else None)


def inspect_plan(plan: Any, backend: Backend) -> list[BuiltLayer]:
    """Layers of a plan by TensorRT's engine inspector; empty where the plan cannot be loaded here. Needs a GPU."""
    runtime = backend.module.Runtime(logger(backend))
    runtime.engine_host_code_allowed = True  # this process has just built the plan
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return []
    inspector = engine.create_engine_inspector()
    return inspected_layers(inspector.get_engine_information(backend.module.LayerInformationFormat.JSON))


def _runs_on(config: EngineConfig, backend: Backend) -> dict[str, Any]:
    """Package, machine and GPUs that the plan is for, as fields of ``PlanManifest``."""
    device = this_device(backend)
    from_settings = backend.capabilities.builds_without_gpu
    return {
        "backend": backend.name,
        "backend_version": backend.version,
        "cuda_version": backend.cuda_version,
        "os": device.os,
        "architecture": device.architecture,
        "compute_capabilities": config.compute_capabilities if from_settings else (device.compute_capability,),
        "gpu_name": None if from_settings else device.gpu_name,
        "hardware_compatible": config.hardware_compatible,
        "version_compatible": config.version_compatible,
        "workspace_mib": config.workspace_mib,
    }


def _sizes(spec: RecommenderSpec, config: EngineConfig) -> dict[str, Any]:
    """Tensors and batch sizes, as fields of ``PlanManifest``."""
    profile = Profile(min_batch_size=1, optimal_batch_size=config.optimal_batch_size, max_batch_size=config.max_batch_size)
    tensors = tuple(TensorRecord(name=t.name, dtype=t.dtype, shape=t.shape) for t in (*spec.inputs, *spec.outputs))
    return {"profiles": (profile,), "tensors": tensors, **asdict(spec)}


def _source(onnx_path: Path, model: onnx.ModelProto) -> dict[str, Any]:
    """Files that the plan is built from, as fields of ``PlanManifest``."""
    weights = sorted({ExternalDataInfo(t).location for t in model.graph.initializer if uses_external_data(t)})
    return {
        "opset": next(entry.version for entry in model.opset_import if not entry.domain),
        "onnx_sha256": sha256_of_file(onnx_path),
        "weights_sha256": {name: sha256_of_file(onnx_path.parent / name) for name in weights},
    }


def _result(built: _Built, model: onnx.ModelProto, precision: Precision) -> dict[str, Any]:
    """The plan and the proof of its precision, as fields of ``PlanManifest``.

    Raises:
        PrecisionError: The built engine is not in ``precision``.
    """
    return {
        "flags": built.flags,
        "precision": precision,
        "product_types": prove_precision(built.layers, constant_products(model), precision),
        "table_types": table_types(built.layers, gathered_tables(model)) or None,
        "plan_sha256": hashlib.sha256(built.plan).hexdigest(),
        "plan_size_bytes": built.plan.nbytes,
    }


def _check_request(spec: RecommenderSpec, config: EngineConfig, backend: Backend) -> None:
    can = backend.capabilities
    if spec.top_k > MAX_TOP_K:
        raise EngineError(
            f"found top_k {spec.top_k}, expected at most {MAX_TOP_K}: TensorRT's TopK gives no more. Lower export.top_k"
        )
    for setting in ("hardware_compatible", "version_compatible"):
        if getattr(config, setting) and not getattr(can, setting):
            raise EngineError(f"found {setting} = true, expected false: {backend.label} would ignore it or fail")
    if can.builds_without_gpu:
        known = [name for name in backend.module.ComputeCapability.__members__ if name.startswith("SM")]
        unknown = [name for name in config.compute_capabilities if _member_name(name) not in known]
        if unknown or not config.compute_capabilities:
            raise EngineError(
                f"found compute capabilities {', '.join(unknown) or 'none'}, expected some of"
                f" {', '.join(name[2:-1] + '.' + name[-1] for name in known)} for {backend.label} {backend.version}"
            )
    elif not torch.cuda.is_available():
        raise EngineError(
            f"found no CUDA GPU, expected the one the engine is for: {backend.label} builds on it."
            " Without one, build with TensorRT for RTX: pip install 'distilrec[tensorrt-rtx]'"
        )


def _member_name(compute_capability: str) -> str:
    """The name in TensorRT's enumeration: ``SM86`` for ``8.6``."""
    return "SM" + compute_capability.replace(".", "")


def _builder_config(builder: Any, spec: RecommenderSpec, config: EngineConfig, backend: Backend) -> Any:
    trt = backend.module
    result = builder.create_builder_config()
    result.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # the proof of precision reads it
    result.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, config.workspace_mib << 20)
    result.clear_flag(trt.BuilderFlag.TF32)  # on by default; 10 bits of mantissa are not FP32
    if config.version_compatible:
        result.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if config.hardware_compatible:
        result.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if backend.capabilities.builds_without_gpu:
        result.num_compute_capabilities = len(config.compute_capabilities)
        for place, capability in enumerate(config.compute_capabilities):
            result.set_compute_capability(trt.ComputeCapability.__members__[_member_name(capability)], place)
    add_profile(builder, result, spec, config)
    return result


def add_profile(builder: Any, builder_config: Any, spec: RecommenderSpec, config: EngineConfig) -> None:
    """Add the batch sizes that the engine runs. Raises EngineError where TensorRT refuses them."""
    profile = builder.create_optimization_profile()
    sizes = (1, config.optimal_batch_size, config.max_batch_size)
    for tensor in spec.inputs:
        profile.set_shape(tensor.name, *((size, *tensor.shape) for size in sizes))
    if builder_config.add_optimization_profile(profile) < 0:
        raise EngineError(
            f"found batches of {', '.join(map(str, sizes))} refused by TensorRT, expected rising sizes it can build for"
        )


def _check_tensors(onnx_path: Path, network: Any, spec: RecommenderSpec) -> None:
    """Refuse other tensors than those of ``spec``. A file that is no ONNX at all may parse, as an empty network."""
    tensors = [network.get_input(i) for i in range(network.num_inputs)] + [
        network.get_output(i) for i in range(network.num_outputs)
    ]
    found = [(t.name, _DTYPES.get(t.dtype.name, t.dtype.name), tuple(t.shape)) for t in tensors]
    expected = [(t.name, t.dtype, (-1, *t.shape)) for t in (*spec.inputs, *spec.outputs)]
    if found != expected:
        raise EngineError(f"{onnx_path}: found tensors {found}, expected {expected}. Export the model again")


def _faults(parser: Any) -> str:
    faults = [parser.get_error(i) for i in range(parser.num_errors)]
    return "\n".join(f"  node {fault.node_name() or '-'} ({fault.node_operator() or '-'}): {fault.desc()}" for fault in faults)


def _write(plan_path: Path, built: _Built, manifest: PlanManifest) -> PlanManifest:
    """Put the files of a build in place; returns the manifest with its digest."""
    if built.timing_cache is not None:
        _replace(_cache_path(plan_path), built.timing_cache)
    _replace(plan_path, built.plan)
    # If this is as far as it gets, the former manifest does not fit the new plan, and the plan is refused.
    return write_plan_manifest(plan_path, manifest)


def _cache_path(plan_path: Path) -> Path:
    return plan_path.with_name(plan_path.name + ".timing")


def _load_timing_cache(builder_config: Any, path: Path) -> None:
    """Let the builder use the kernel timings of the last build."""
    cache = builder_config.create_timing_cache(path.read_bytes() if path.exists() else b"")
    if cache is None or not builder_config.set_timing_cache(cache, ignore_mismatch=False):
        cache = builder_config.create_timing_cache(b"")  # the file was made by another GPU or version
        builder_config.set_timing_cache(cache, ignore_mismatch=False)


def _replace(path: Path, content: Any) -> None:
    """Write another file, then rename it, so that a reader sees the old content or the new."""
    new = path.with_name(path.name + ".tmp")
    try:
        new.write_bytes(memoryview(content))
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
