"""Training speed: epochs of a teacher, of the undistilled student, and of the distilled student on ready soft targets.

The teacher does not run while the student is trained, and the time of validation does not count. Only values of ``examples_per_s``
from the same run can be compared, and the processor should be free of other work.
"""

from pathlib import Path
from typing import Any

import pytest

from distill.stages import teacher as teacher_stage
from distill.stages.student import fit_student
from distilrec.config import Config
from distilrec.core.manifest import read_manifest
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.stages import stages

_EPOCHS = {"epochs": 2, "patience": 2, "schedule": "constant"}
"""Two epochs, as the first includes start-up time."""
_GROUP = f"training, {_EPOCHS['epochs']} epochs"


@pytest.mark.parametrize("role", ["undistilled", "distilled"])
def test_student(benchmark: Any, finished: Config, tmp_path: Path, role: str) -> None:
    folder, distilled = run_dir(finished), role == "distilled"
    inputs = {key: folder / name for key, name in stages(finished)["student"].inputs.items() if distilled or key != "targets"}
    settings = finished.student.model_copy(update=_EPOCHS)
    benchmark.group = _GROUP
    (_, result) = benchmark.pedantic(lambda: fit_student(settings, finished, inputs, tmp_path), rounds=1)
    _note(benchmark, finished, f"student, {role}", result.seconds_an_epoch)
    if distilled:
        cache = read_manifest(inputs["targets"]).metrics
        benchmark.extra_info |= {"cache_bytes": cache["size_bytes"], "cache_gb_a_million_prefixes": cache["gb_a_million_prefixes"]}


def test_teacher(benchmark: Any, finished: Config, tmp_path: Path) -> None:
    """Time the first teacher that is trained on every prefix in epochs, which excludes text teachers and EASE."""
    names = (name for name, teacher in finished.teachers.items() if teacher.kind not in ("text", "ease"))
    if (name := next(names, None)) is None:
        pytest.skip(f"preset {finished.name} has no teacher that is trained on every prefix in epochs")
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
