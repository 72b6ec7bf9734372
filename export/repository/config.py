"""What the config.pbtxt files of served models have in common. The same arguments give the same text."""

import os
from dataclasses import dataclass, field

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig
from distilrec.core.filters import PARAMETER as FILTERS
from distilrec.core.filters import FilterValues
from distilrec.core.specs import Precision, RecommenderSpec, TensorSpec

TRITON_DTYPES = {"int32": model_config_pb2.TYPE_INT32, "float32": model_config_pb2.TYPE_FP32}

HEADER = "# Rendered by `distilrec export` from the serving contract (distilrec/core/specs.py) and the settings; do not edit.\n"
_GROUP = model_config_pb2.ModelInstanceGroup


@dataclass(frozen=True)
class ServedModelFacts:
    """What configurations state of the model in an artefact."""

    spec: RecommenderSpec
    """Sizes of the tensors."""
    vocabulary_sha256: str
    """Digest of the vocabulary that item indices belong to."""
    precision: Precision
    filters: FilterValues = field(default_factory=lambda: FilterValues({}))
    """Attributes and values that requests filter by; none in a model without filters."""


def pinned_config(name: str, version: int) -> model_config_pb2.ModelConfig:
    """A configuration that serves one version, so that a restart never tries another one in the same folder.

    Args:
        name: Name of the model, and of its folder in the repository.
        version: The one version that is served.
    """
    model = model_config_pb2.ModelConfig(name=name)
    model.version_policy.specific.versions.append(version)
    return model


def recommender_config(name: str, facts: ServedModelFacts, config: ExportConfig, version: int) -> model_config_pb2.ModelConfig:
    """The configuration of a model behind the serving contract, with dynamic batching, still without backend and instances.

    Args:
        name: Name of the model, and of its folder in the repository.
        facts: Sizes, vocabulary and precision of the model.
        config: Settings with the largest batch.
        version: The one version that is served.
    """
    model = pinned_config(name, version)
    model.max_batch_size = config.max_batch_size
    # No queue policy and no delay: either costs latency and neither gains throughput on a CPU.
    model.dynamic_batching.SetInParent()
    model.input.extend(model_config_pb2.ModelInput(**_tensor(tensor)) for tensor in facts.spec.inputs)
    model.output.extend(model_config_pb2.ModelOutput(**_tensor(tensor)) for tensor in facts.spec.outputs)
    set_parameters(
        model,
        item_count=str(facts.spec.item_count),
        precision=facts.precision.value,
        vocabulary_sha256=facts.vocabulary_sha256,
    )
    declare_filters(model, facts)
    return model


def declare_filters(model: model_config_pb2.ModelConfig, facts: ServedModelFacts) -> None:
    """Set the parameter by which clients and the front door know the attributes that requests filter by, where there are any."""
    if facts.filters:
        set_parameters(model, **{FILTERS: facts.filters.to_json()})


def set_parameters(model: model_config_pb2.ModelConfig, **parameters: str) -> None:
    """Set parameters that the model, or Triton's backend of it, reads."""
    for name, value in parameters.items():
        model.parameters[name].string_value = value


def run_on_cpu(model: model_config_pb2.ModelConfig, config: ExportConfig) -> str:
    """Add instances on the CPU; returns a comment that says how many and why."""
    count = config.instances or len(os.sched_getaffinity(0))
    model.instance_group.add(kind=_GROUP.KIND_CPU, count=count)
    why = "as the settings say" if config.instances else "one for each core found"
    return f"{count} instance(s), {why}, with one thread each: more threads in one compete for the same cores and batch less."


def run_on_gpu(model: model_config_pb2.ModelConfig) -> str:
    """Add one instance on each GPU; returns a comment that says why it is one."""
    model.instance_group.add(kind=_GROUP.KIND_GPU, count=1)
    return "One instance: requests that wait meanwhile make the next batch, and a second one competes for the same GPU."


def config_text(model: model_config_pb2.ModelConfig, comment: str) -> str:
    """The content of config.pbtxt, with a comment on the instances at its head."""
    return f"{HEADER}# {comment}\n{text_format.MessageToString(model)}"


def _tensor(tensor: TensorSpec) -> dict[str, object]:
    return {"name": tensor.name, "data_type": TRITON_DTYPES[tensor.dtype], "dims": tensor.shape}
