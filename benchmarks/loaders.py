"""How models are loaded. Light: what a process loads beside the model would count as the model's memory."""

from pathlib import Path

from distilrec.config import Config
from distilrec.core.runner import Runner
from distilrec.core.specs import RecommenderSpec
from distilrec.pipeline.stages import teacher_folders


def load_teacher(config: Config, names: tuple[str, ...], spec: RecommenderSpec) -> Runner:
    """One teacher, or all of the student's mixed, in PyTorch on one thread."""
    import torch

    from distill.models.runner import TorchRunner
    from distill.models.teachers import load as teachers

    torch.set_num_threads(1)
    folders = teacher_folders(config)
    if names == tuple(config.student_teachers):
        return TorchRunner(teachers.load_ensemble(config, folders, spec.item_count), spec)
    return TorchRunner(teachers.load_teacher(config, names[0], folders[names[0]], spec.item_count), spec)


def load_student(config: Config, folder: Path, spec: RecommenderSpec) -> Runner:
    """A student in PyTorch on one thread."""
    import torch

    from distill.models.runner import TorchRunner
    from distill.models.students import build as students

    torch.set_num_threads(1)
    return TorchRunner(students.load_student(config, folder, spec.item_count), spec)


def load_onnx(path: Path, spec: RecommenderSpec) -> Runner:
    """A graph in ONNX Runtime on one thread."""
    from export.graph.onnx_runner import OnnxRunner

    return OnnxRunner(path, spec)


def load_engine(path: Path, spec: RecommenderSpec, vocabulary_sha256: str) -> Runner:
    """An engine on the GPU.

    Raises:
        EngineError: it is for another GPU or version.
    """
    from export.engines.runner import EngineRunner

    return EngineRunner(path, spec, vocabulary_sha256, cuda_graph_batches=(1,))
