"""config.pbtxt of the served models, rendered from the serving contract. The same arguments give the same text."""

import os
from dataclasses import dataclass

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig
from distilrec.core.specs import (
    FIRST_VERSION,
    FRONT_DOOR_NAME,
    MODEL_FILE,
    MODEL_NAME,
    PLAN_FILE,
    VOCABULARY_NAME,
    Precision,
    RecommenderSpec,
    TensorSpec,
)

TRITON_DTYPES = {"int32": model_config_pb2.TYPE_INT32, "float32": model_config_pb2.TYPE_FP32}

HEADER = "# Rendered by `distilrec export` from the serving contract (distilrec/core/specs.py) and the settings; do not edit.\n"
_GROUP = model_config_pb2.ModelInstanceGroup


@dataclass(frozen=True)
class Facts:
    """What an artefact says of its model."""

    spec: RecommenderSpec
    """Sizes of the tensors."""
    vocabulary_sha256: str
    precision: Precision


def render_student(facts: Facts, config: ExportConfig, version: int = FIRST_VERSION) -> str:
    """The student, in the form of the target.

    Args:
        facts: of the artefact.
        config: target, batch size and instances.
        version: the one version that is served, so that a restart never tries another that happens to lie there.
    """
    return render_recommender(MODEL_NAME, facts, config, version)


def render_recommender(name: str, facts: Facts, config: ExportConfig, version: int) -> str:
    """Any model behind the serving contract. Arguments as above."""
    spec = facts.spec
    model, comment = _model(name, config, version, python=config.target == "python")
    model.input.extend(model_config_pb2.ModelInput(**_tensor(tensor)) for tensor in spec.inputs)
    model.output.extend(model_config_pb2.ModelOutput(**_tensor(tensor)) for tensor in spec.outputs)
    parameters = {"item_count": str(spec.item_count), "precision": facts.precision.value}
    return _render(model, comment, parameters | {"vocabulary_sha256": facts.vocabulary_sha256})


def render_front_door(facts: Facts, config: ExportConfig, version: int = FIRST_VERSION) -> str:
    """The front door: histories and exclusions of any length as strings, ids as strings out. Arguments as above."""
    model, comment = _model(FRONT_DOOR_NAME, config, version, python=True)
    string, int32, fp32 = model_config_pb2.TYPE_STRING, model_config_pb2.TYPE_INT32, model_config_pb2.TYPE_FP32
    # Ragged: requests of different lengths may share a batch; the model gets each by itself.
    model.input.add(name="history", data_type=string, dims=[-1], allow_ragged_batch=True)
    model.input.add(name="exclude", data_type=string, dims=[-1], allow_ragged_batch=True, optional=True)
    model.input.add(name="k", data_type=int32, dims=[1], optional=True)
    model.output.add(name="item_ids", data_type=string, dims=[-1])
    model.output.add(name="scores", data_type=fp32, dims=[-1])
    model.output.add(name="unknown_ids", data_type=string, dims=[-1])
    parameters = {name: str(getattr(facts.spec, name)) for name in ("item_count", "history_length", "exclude_length", "top_k")}
    parameters["vocabulary_sha256"] = facts.vocabulary_sha256
    if config.target != "python":
        parameters["upstream"] = MODEL_NAME
    return _render(model, comment, parameters)


def render_vocabulary(facts: Facts, config: ExportConfig, version: int = FIRST_VERSION) -> str:  # noqa: ARG001 - as the others
    """The vocabulary's file, handed out in parts. Arguments as above."""
    model = model_config_pb2.ModelConfig(name=VOCABULARY_NAME, backend="python")
    model.version_policy.specific.versions.append(version)
    model.input.add(name="offset", data_type=model_config_pb2.TYPE_INT64, dims=[1])
    model.output.add(name="content", data_type=model_config_pb2.TYPE_STRING, dims=[1])
    model.output.add(name="total_bytes", data_type=model_config_pb2.TYPE_INT64, dims=[1])
    model.instance_group.add(kind=_GROUP.KIND_CPU, count=1)
    comment = "1 instance: a client asks once, when it connects, and after a promotion."
    return _render(model, comment, {"vocabulary_sha256": facts.vocabulary_sha256})


def _model(name: str, config: ExportConfig, version: int, *, python: bool) -> tuple[model_config_pb2.ModelConfig, str]:
    """What all models have in common, and a comment on the instances."""
    # No queue policy and no delay: either costs latency and neither gains throughput on a CPU.
    model = model_config_pb2.ModelConfig(
        name=name, max_batch_size=config.max_batch_size, dynamic_batching=model_config_pb2.ModelDynamicBatching()
    )
    model.version_policy.specific.versions.append(version)
    if python:
        model.backend = "python"
        return model, _on_cpu(model, config)
    if config.target == "tensorrt":
        model.platform, model.default_model_filename = "tensorrt_plan", PLAN_FILE
        cuda = model.optimization.cuda
        cuda.graphs = cuda.output_copy_stream = True
        model.optimization.input_pinned_memory.enable = model.optimization.output_pinned_memory.enable = True
        return model, _on_gpu(model)
    model.backend, model.default_model_filename = "onnxruntime", MODEL_FILE
    if config.accelerator == "cpu":
        model.parameters["intra_op_thread_count"].string_value = "1"
        return model, _on_cpu(model, config)
    if config.accelerator == "tensorrt":
        accelerator = model.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
        # Precision is in the graph; the engine is built once and kept.
        accelerator.parameters["trt_engine_cache_enable"] = "1"
        accelerator.parameters["trt_engine_cache_path"] = "/tmp/trt_engines"  # noqa: S108 - a path in the container
    return model, _on_gpu(model)


def _on_cpu(model: model_config_pb2.ModelConfig, config: ExportConfig) -> str:
    count = config.instances or len(os.sched_getaffinity(0))
    model.instance_group.add(kind=_GROUP.KIND_CPU, count=count)
    why = "as the settings say" if config.instances else "one for each core found"
    return f"{count} instance(s), {why}, with one thread each: more threads in one compete for the same cores and batch less."


def _on_gpu(model: model_config_pb2.ModelConfig) -> str:
    model.instance_group.add(kind=_GROUP.KIND_GPU, count=1)
    return "One instance: requests that wait meanwhile make the next batch, and a second one competes for the same GPU."


def _render(model: model_config_pb2.ModelConfig, comment: str, parameters: dict[str, str]) -> str:
    for name, value in parameters.items():
        model.parameters[name].string_value = value
    return f"{HEADER}# {comment}\n{text_format.MessageToString(model)}"


def _tensor(tensor: TensorSpec) -> dict[str, object]:
    return {"name": tensor.name, "data_type": TRITON_DTYPES[tensor.dtype], "dims": tensor.shape}
