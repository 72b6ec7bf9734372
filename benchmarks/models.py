"""Every model that is timed, by name: how it is loaded, how large it is, and by which name the evaluation judged it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.loaders import load_engine, load_onnx, load_student, load_teacher
from benchmarks.subject import Judged, MissingError, Subject
from distilrec.core.runner import Runner
from distilrec.core.specs import Precision
from distilrec.pipeline.stages import run_dir, teacher_folders

NAMES = (
    "teacher-torch",
    "teacher-onnx",
    "text-teacher-torch",
    "undistilled-torch",
    "undistilled-onnx",
    "distilled-torch",
    *(f"distilled-onnx-{precision.value}" for precision in Precision),
    *(f"distilled-tensorrt-{precision.value}" for precision in Precision),
)
"""Who learned (or taught), what runs it, and in which precision where it is not FP32."""

_COMPARED = 64


@dataclass(frozen=True)
class Model:
    """A model that can be timed."""

    load: Callable[[], Runner]
    """Can be pickled."""
    size_bytes: int
    judged: Judged | None
    """None where nobody has judged it."""


def find(name: str, subject: Subject, scratch: Path) -> Model:
    """The model of this name.

    Args:
        name: one of ``NAMES``.
        subject: what is measured.
        scratch: folder for graphs that the run does not have.

    Raises:
        MissingError: it is not there; the message says why.
    """
    who, _, runtime = name.replace("text-teacher", "text").partition("-")
    if runtime.startswith("onnx-"):
        return _exported(subject, Precision(runtime.removeprefix("onnx-")))
    if runtime.startswith("tensorrt-"):
        return _engine(subject, Precision(runtime.removeprefix("tensorrt-")))
    eager = {"teacher": _teacher, "text": _text_teacher}.get(who) or partial(_student, who=who)
    model = eager(subject)
    return model if runtime == "torch" else _as_onnx(model, subject, scratch / f"{who}.onnx")


def _teacher(subject: Subject) -> Model:
    from distill.models.weights import WEIGHTS

    config = subject.run()
    folders = teacher_folders(config)
    size = sum((folders[teacher] / WEIGHTS).stat().st_size for teacher in config.student_teachers)
    return Model(partial(load_teacher, config, tuple(config.student_teachers), subject.spec), size, "teacher")


def _text_teacher(subject: Subject) -> Model:
    from distill.models.weights import WEIGHTS

    config = subject.run()
    trained = [
        name
        for name, settings in config.teachers.items()
        if settings.kind == "text" and (teacher_folders(config)[name] / WEIGHTS).exists()
    ]
    if not trained:
        raise MissingError(f"preset {config.name} has trained no teacher of kind text")
    size = (teacher_folders(config)[trained[0]] / WEIGHTS).stat().st_size
    alone = list(config.student_teachers) == trained[:1]
    return Model(partial(load_teacher, config, (trained[0],), subject.spec), size, "teacher" if alone else None)


def _student(subject: Subject, who: str) -> Model:
    from distill.models.weights import WEIGHTS

    config = subject.run()
    folder = run_dir(config) / ("student" if who == "distilled" else "student-undistilled")
    judged: Judged = "distilled" if who == "distilled" else "undistilled"
    return Model(partial(load_student, config, folder, subject.spec), (folder / WEIGHTS).stat().st_size, judged)


def _as_onnx(eager: Model, subject: Subject, path: Path) -> Model:
    """The same model as a graph; it is proved to answer the same, so what was judged of one holds for both."""
    from distill.models.runner import TorchRunner
    from distilrec.evaluation.parity import check_parity
    from export.graph.onnx import export_onnx

    if not path.exists():
        runner = eager.load()
        assert isinstance(runner, TorchRunner)
        export_onnx(runner.recommender, path, {})
        asked = subject.requests
        check_parity(runner, load_onnx(path, subject.spec), asked.history[:_COMPARED], asked.exclude[:_COMPARED])
    return Model(partial(load_onnx, path, subject.spec), path.stat().st_size, eager.judged)


def _exported(subject: Subject, precision: Precision) -> Model:
    from export.artefact import model_path, model_size_bytes

    path = model_path(subject.artefact, precision)
    if not path.exists():
        reason = subject.export_report["precisions"].get(precision.value, {}).get("refused", "the export has none")
        raise MissingError(f"no {precision.value.upper()} in {subject.artefact}: {reason}")
    return Model(partial(load_onnx, path, subject.spec), model_size_bytes(subject.artefact, precision), precision)


def _engine(subject: Subject, precision: Precision) -> Model:
    import torch

    from export.artefact import plan_path

    paths = [plan_path(subject.artefact, backend, precision) for backend in ("tensorrt", "tensorrt_rtx")]
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        raise MissingError(f"the export has no {precision.value.upper()} engine; no TensorRT was installed when it was made")
    if not torch.cuda.is_available():
        raise MissingError("no CUDA GPU here to run the engine on")
    return Model(partial(load_engine, found, subject.spec, subject.vocabulary_sha256), found.stat().st_size, None)
