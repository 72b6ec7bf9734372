"""Serving target ``onnxruntime``: Triton's own ONNX Runtime backend, on the CPU, in NVIDIA's container."""

from tritonclient.grpc import model_config_pb2

from distilrec.config import ExportConfig
from distilrec.config.export import SERVING_TARGETS
from distilrec.core.specs import MODEL_FILE
from export.repository.check import check_against_graph
from export.repository.config import ServedModelFacts, config_text, recommender_config, run_on_cpu, set_parameters
from export.repository.target import ServingTarget
from export.repository.version_files import copy_graph


def onnxruntime_config(name: str, facts: ServedModelFacts, config: ExportConfig, version: int) -> model_config_pb2.ModelConfig:
    """The configuration of a graph that Triton's backend runs, still without instances."""
    model = recommender_config(name, facts, config, version)
    model.backend, model.default_model_filename = "onnxruntime", MODEL_FILE
    return model


def render(name: str, facts: ServedModelFacts, config: ExportConfig, version: int) -> str:
    """The configuration of a graph on the CPU, with one thread for each instance."""
    model = onnxruntime_config(name, facts, config, version)
    # One copy of the weights for all instances, in releases that know this; others ignore it and load a copy for each.
    set_parameters(model, intra_op_thread_count="1", share_session_between_instances="true")
    return config_text(model, run_on_cpu(model, config))


SERVING_TARGETS.declare("onnxruntime", ServingTarget(render, copy_graph, check_against_graph, front_door_runs_graph=False))
