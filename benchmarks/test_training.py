"""What learning costs: epochs of a teacher, of the student on true items alone, and of the student on ready soft targets.

The teacher is never run while the student learns. Validation does not count. Compare ``examples_per_s`` within one run; keep the
processor free.
"""

from pathlib import Path
from typing import Any

import pytest

from distill.stages import teacher as teacher_stage
from distill.stages.student import fit_student
from distilrec.config import Config
from distilrec.core.manifest import read_manifest
from distilrec.pipeline.stages import run_dir, stages

_EPOCHS = {"epochs": 2, "patience": 2, "schedule": "constant"}
_GROUP = f"training, {_EPOCHS['epochs']} epochs"


@pytest.mark.parametrize("lesson", ["undistilled", "distilled"])
def test_student(benchmark: Any, finished: Config, tmp_path: Path, lesson: str) -> None:
    folder, taught = run_dir(finished), lesson == "distilled"
    inputs = {role: folder / name for role, name in stages(finished)["student"].inputs.items() if taught or role != "targets"}
    settings = finished.student.model_copy(update=_EPOCHS)
    benchmark.group = _GROUP
    (_, result) = benchmark.pedantic(lambda: fit_student(settings, finished, inputs, tmp_path), rounds=1)
    _note(benchmark, finished, f"student, {lesson}", result.seconds_an_epoch)
    if taught:
        cache = read_manifest(inputs["targets"]).metrics
        benchmark.extra_info |= {"cache_bytes": cache["size_bytes"], "cache_gb_a_million_prefixes": cache["gb_a_million_prefixes"]}


def test_teacher(benchmark: Any, finished: Config, tmp_path: Path) -> None:
    """The first teacher that learns from every training prefix; a text teacher learns from a few, and EASE has no epochs."""
    found = (n for n, t in finished.teachers.items() if t.kind not in ("text", "ease"))
    if (name := next(found, None)) is None:
        pytest.skip(f"preset {finished.name} has no teacher that learns from every prefix in epochs")
    settings = finished.teachers[name]
    update: dict[str, Any] = _EPOCHS
    if settings.learner is not None:
        update = {"student": settings.learner.model_copy(update=_EPOCHS)}
    config = finished.model_copy(update={"teachers": finished.teachers | {name: settings.model_copy(update=update)}})
    inputs = {role: run_dir(finished) / stage for role, stage in stages(finished)[f"teacher-{name}"].inputs.items()}
    out_dir = tmp_path / f"teacher-{name}"
    benchmark.group = _GROUP
    manifest = benchmark.pedantic(lambda: teacher_stage.run(config, inputs, out_dir, name=name), rounds=1)
    _note(benchmark, finished, f"teacher {name} ({settings.kind})", manifest.metrics["seconds_an_epoch"])


def _note(benchmark: Any, config: Config, who: str, seconds_an_epoch: float) -> None:
    examples = read_manifest(run_dir(config) / "data").metrics["training_interactions"]
    benchmark.extra_info |= {
        "suite": "training",
        "who": who,
        "seconds_an_epoch": seconds_an_epoch,
        "examples": examples,
        "examples_per_s": examples / seconds_an_epoch,
    }
