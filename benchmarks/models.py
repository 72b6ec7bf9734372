"""The timed models by name: how each is loaded, its size, and its counterpart in the evaluation.

Heavy imports are inside the functions, because pytest collects benchmarks with every test run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.loaders import load_engine, load_onnx, load_student, load_teacher
from benchmarks.subject import CannotMeasureError, EvaluatedAs, Subject
from distilrec.core.runner import Runner
from distilrec.core.specs import Precision
from distilrec.pipeline.finished import mixture_weights
from distilrec.pipeline.folders import run_dir, teacher_folders

NAMES = (
    "teacher-torch",
    "teacher-onnx",
    "text-teacher-torch",
    "undistilled-torch",
    "undistilled-onnx",
    "distilled-torch",
    *(f"student-onnx-{precision.value}" for precision in Precision),
    *(f"student-tensorrt-{precision.value}" for precision in Precision),
)
"""Role, runtime and, for exported models, precision."""

_COMPARED = 64
"""Requests on which a graph is compared with the PyTorch model that it was exported from."""


@dataclass(frozen=True)
class TimedModel:
    """A model that can be timed."""

    load: Callable[[], Runner]
    """Function that loads the model; it can be pickled."""
    size_bytes: int
    evaluated_as: EvaluatedAs | None
    """Counterpart in the evaluation; None where there is none."""


def find(name: str, subject: Subject, scratch: Path) -> TimedModel:
    """Return the model of a name.

    Args:
        name: One of ``NAMES``.
        subject: Run or export folder to measure.
        scratch: Folder for graphs that the run does not have.

    Raises:
        CannotMeasureError: The model does not exist; the message says why.
    """
    role, _, runtime = name.replace("text-teacher", "text").partition("-")
    if runtime.startswith("onnx-"):
        return _exported(subject, Precision(runtime.removeprefix("onnx-")))
    if runtime.startswith("tensorrt-"):
        return _engine(subject, Precision(runtime.removeprefix("tensorrt-")))
    eager = {"teacher": _teacher, "text": _text_teacher}.get(role) or partial(_student, role=role)
    model = eager(subject)
    return model if runtime == "torch" else _as_onnx(model, subject, scratch / f"{role}.onnx")


def _teacher(subject: Subject) -> TimedModel:
    from distill.models.weights import WEIGHTS

    config = subject.run()
    lists = [teacher for teacher in config.student_teachers if not config.teachers[teacher].scores_any_history]
    if lists:
        raise CannotMeasureError(f"{', '.join(lists)}: an external teacher has no model here that could answer")
    folders = teacher_folders(config)
    size = sum((folders[teacher] / WEIGHTS).stat().st_size for teacher in mixture_weights(config))
    return TimedModel(partial(load_teacher, config, tuple(mixture_weights(config)), subject.spec), size, "teacher")


def _text_teacher(subject: Subject) -> TimedModel:
    from distill.models.weights import WEIGHTS

    config = subject.run()
    trained = [
        name
        for name, settings in config.teachers.items()
        if settings.kind == "text" and (teacher_folders(config)[name] / WEIGHTS).exists()
    ]
    if not trained:
        raise CannotMeasureError(f"preset {config.name} has trained no teacher of kind text")
    size = (teacher_folders(config)[trained[0]] / WEIGHTS).stat().st_size
    only_teacher = list(mixture_weights(config)) == trained[:1]
    return TimedModel(partial(load_teacher, config, (trained[0],), subject.spec), size, "teacher" if only_teacher else None)


def _student(subject: Subject, role: str) -> TimedModel:
    from distill.models.weights import WEIGHTS

    config = subject.run()
    evaluated_as: EvaluatedAs = "distilled" if role == "distilled" else "undistilled"
    folder = run_dir(config) / ("student" if role == "distilled" else "student-undistilled")
    return TimedModel(partial(load_student, config, folder, subject.spec), (folder / WEIGHTS).stat().st_size, evaluated_as)


def _as_onnx(eager: TimedModel, subject: Subject, path: Path) -> TimedModel:
    """Export the model as a graph; both are compared, so that the evaluation of one holds for the other."""
    from distill.models.runner import TorchRunner
    from distilrec.evaluation.parity import check_parity
    from export.graph.onnx import export_onnx

    if not path.exists():
        runner = eager.load()
        assert isinstance(runner, TorchRunner)
        export_onnx(runner.recommender, path, {})
        requests = subject.requests
        check_parity(runner, load_onnx(path, subject.spec), requests.history[:_COMPARED], requests.exclude[:_COMPARED])
    return TimedModel(partial(load_onnx, path, subject.spec), path.stat().st_size, eager.evaluated_as)


def _exported(subject: Subject, precision: Precision) -> TimedModel:
    from export.artefact import model_path, model_size_bytes

    path = model_path(subject.artefact, precision)
    if not path.exists():
        reason = subject.export_report["precisions"].get(precision.value, {}).get("refused", "the export has none")
        raise CannotMeasureError(f"no {precision.value.upper()} in {subject.artefact}: {reason}")
    return TimedModel(partial(load_onnx, path, subject.spec), model_size_bytes(subject.artefact, precision), precision)


def _engine(subject: Subject, precision: Precision) -> TimedModel:
    import torch

    from export.artefact import plan_path

    paths = [plan_path(subject.artefact, backend, precision) for backend in ("tensorrt", "tensorrt_rtx")]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise CannotMeasureError(f"the export has no {precision.value.upper()} engine; no TensorRT was installed when it was made")
    if not torch.cuda.is_available():
        raise CannotMeasureError("no CUDA GPU here to run the engine on")
    return TimedModel(partial(load_engine, path, subject.spec, subject.vocabulary_sha256), path.stat().st_size, None)
