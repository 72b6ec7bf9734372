"""Serving target ``python``: ONNX Runtime in Triton's Python backend, on the CPU. It needs no more than what pip installs."""

from distilrec.config import ExportConfig
from distilrec.config.export import SERVING_TARGETS
from distilrec.core.specs import Head
from export.repository.check import check_served
from export.repository.config import ServedModelFacts, config_text, recommender_config, run_on_cpu
from export.repository.target import ServingTarget
from export.repository.version_files import copy_served


def render(name: str, facts: ServedModelFacts, config: ExportConfig, version: int) -> str:
    """The configuration of a model.py."""
    model = recommender_config(name, facts, config, version)
    model.backend = "python"
    return config_text(model, run_on_cpu(model, config))


# The front door runs the graph itself: a request to another model of the Python backend crosses processes once more.
PYTHON = SERVING_TARGETS.declare(
    "python", ServingTarget(render, copy_served, check_served, front_door_runs_graph=True, heads=tuple(Head))
)
