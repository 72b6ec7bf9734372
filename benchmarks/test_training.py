"""What learning from a teacher costs: an epoch of the student on ready soft targets against one on true items alone.

The teacher is never run. Validation does not count.
Compare ``seconds_an_epoch``, a mean of three, within one run; keep the processor free.
"""

from pathlib import Path
from typing import Any

import pytest

from distill.student_stage import fit_student
from distilrec.config import Config
from distilrec.manifest import read_manifest
from distilrec.pipeline import run_dir, stages

EPOCHS = 3


@pytest.mark.parametrize("taught", [False, True], ids=["undistilled", "distilled"])
def test_epoch(benchmark: Any, finished: Config, tmp_path: Path, taught: bool) -> None:
    folder = run_dir(finished)
    inputs = {role: folder / name for role, name in stages(finished)["student"].inputs.items() if taught or role != "targets"}
    settings = finished.student.model_copy(update={"epochs": EPOCHS, "patience": EPOCHS, "schedule": "constant"})
    benchmark.group = "an epoch of the student"
    (_, result) = benchmark.pedantic(lambda: fit_student(settings, finished, inputs, tmp_path), rounds=1)
    benchmark.extra_info["seconds_an_epoch"] = result.seconds_an_epoch
    if taught:
        cache = read_manifest(inputs["targets"]).metrics
        benchmark.extra_info["cache_gb_a_million_prefixes"] = cache["gb_a_million_prefixes"]
