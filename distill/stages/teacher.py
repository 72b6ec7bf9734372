"""Stages ``teacher-<name>``: fit or solve a teacher, and keep what inference needs."""

from pathlib import Path
from typing import Any

from distill.models.teachers._base import FittedTeacherConfig, SolvedTeacherConfig
from distill.stages.card import Description, write_card
from distill.stages.fitted import FittedModel, run_fitted
from distilrec.config import Config
from distilrec.config.section import declarations_of
from distilrec.core.manifest import Manifest
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage


def run(config: Config, inputs: Inputs, out_dir: Path, *, name: str) -> Manifest:
    """Train the teacher of this name. Inputs: data, text, and targets for one that learns from others."""
    settings = config.teachers[name]
    if isinstance(settings, SolvedTeacherConfig):
        return _solve(settings, config, inputs, out_dir)
    assert isinstance(settings, FittedTeacherConfig)
    model = FittedModel(
        section=settings,
        training=settings.training,
        build=settings.build,
        reads_titles=settings.reads_titles,
        summary=settings.describe(distilled="targets" in inputs),
        recorded=settings.recorded(config.text),
        save=settings.save,
        distillation=settings.distillation,
    )
    return run_fitted(out_dir.name, model, config, inputs, out_dir)


def _solve(settings: SolvedTeacherConfig, config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    recorded = settings.recorded(config.text)

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        teacher = settings.solve(dataset)
        settings.save(teacher, folder)
        description = Description(f"DistilRec {out_dir.name}", settings.summary, recorded)
        write_card(folder, teacher, description, config=config, dataset=dataset, data=inputs["data"])
        return {"parameters": teacher.parameter_count()}

    return run_stage(
        out_dir.name,
        settings=recorded,
        seed=config.seed,
        inputs=inputs,
        out_dir=out_dir,
        work=work,
        declarations=declarations_of(settings),
    )
