"""Loading of models, with heavy imports inside the functions.

The memory of a process that runs one model is measured, and packages that the model does not need would count as its memory.
"""

from pathlib import Path

from distilrec.config import Config
from distilrec.core.runner import Runner
from distilrec.core.specs import RecommenderSpec
from distilrec.pipeline.finished import mixture_weights
from distilrec.pipeline.folders import teacher_folders


def load_teacher(config: Config, names: tuple[str, ...], spec: RecommenderSpec) -> Runner:
    """Load one teacher, or the student's teachers as an ensemble, in PyTorch on one thread."""
    import torch

    from distill.models.runner import TorchRunner
    from distill.models.teachers import load as teachers

    torch.set_num_threads(1)
    folders = teacher_folders(config)
    weights = mixture_weights(config)
    if names == tuple(weights):
        return TorchRunner(teachers.load_ensemble(config, weights, folders, spec.item_count), spec)
    return TorchRunner(teachers.load_teacher(config, names[0], folders[names[0]], spec.item_count), spec)


def load_student(config: Config, folder: Path, spec: RecommenderSpec) -> Runner:
    """Load a student in PyTorch on one thread."""
    import torch

    from distill.models.runner import TorchRunner
    from distill.models.students import build as students

    torch.set_num_threads(1)
    return TorchRunner(students.load_student(config, folder, spec.item_count), spec)


def load_onnx(path: Path, spec: RecommenderSpec) -> Runner:
    """Load a graph in ONNX Runtime on one thread."""
    from export.graph.onnx_runner import OnnxRunner

    return OnnxRunner(path, spec)


def load_engine(path: Path, spec: RecommenderSpec, vocabulary_sha256: str) -> Runner:
    """Load an engine on the GPU.

    Raises:
        EngineError: The engine is for another GPU or version.
    """
    from export.engines.runner import EngineRunner

    return EngineRunner(path, spec, vocabulary_sha256, cuda_graph_batches=(1,))
