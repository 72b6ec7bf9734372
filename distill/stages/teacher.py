"""Stages ``teacher-<name>``: fit, solve or read a teacher, and keep what inference needs."""

from pathlib import Path
from typing import Any

from distill.models.encoders import Scorer
from distill.models.runner import TorchRunner
from distill.models.teachers._base import FittedTeacherConfig, ListedTeacherConfig, SolvedTeacherConfig
from distill.stages.card import Description, write_card
from distill.stages.fitted import FittedModel, run_fitted
from distilrec.config import Config, TeacherConfig, judged_with, spec_of_run
from distilrec.config.section import declarations_of
from distilrec.core.files import write_text
from distilrec.core.manifest import Manifest
from distilrec.core.stage import Inputs, run_stage
from distilrec.core.tables import markdown_table
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset, held_out
from distilrec.evaluation.model_card import FILE_NAME
from distilrec.evaluation.ranking import PRIMARY_K, ranking_metrics, recommend_all

_BATCH_SIZE = 64


def run(config: Config, inputs: Inputs, out_dir: Path, *, name: str) -> Manifest:
    """Train the teacher of this name. Inputs: data, text, and targets for one that learns from others."""
    settings = config.teachers[name]
    if not isinstance(settings, FittedTeacherConfig):
        return _run_unfitted(settings, config, inputs, out_dir)
    model = FittedModel(
        section=settings,
        training=settings.training,
        build=settings.build,
        item_vectors=settings.item_vectors,
        summary=settings.describe(distilled="targets" in inputs),
        recorded=settings.recorded(config.text),
        save=settings.save,
        distillation=settings.distillation,
    )
    return run_fitted(out_dir.name, model, config, inputs, out_dir)


def _run_unfitted(settings: TeacherConfig, config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """A teacher that no training makes: one solved in closed form, or lists that are read."""
    recorded = settings.recorded(config.text) | judged_with(config)
    if isinstance(settings, ListedTeacherConfig):
        recorded |= {"history_length": config.history_length}

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        if isinstance(settings, ListedTeacherConfig):
            facts = _read(settings, config, inputs["data"], dataset, folder)
            _write_facts(folder, f"DistilRec {out_dir.name}", settings.summary, facts)
            return facts
        assert isinstance(settings, SolvedTeacherConfig)
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


def _read(settings: ListedTeacherConfig, config: Config, data: Path, dataset: Dataset, folder: Path) -> dict[str, Any]:
    """Read lists, keep them in ``folder``, and return what was found."""
    teacher, facts = settings.read(data, config.history_length)
    settings.save(teacher, folder)
    return facts | {"parameters": teacher.parameter_count()} | _evaluated_by_lists(settings, teacher, folder, config, dataset)


def _write_facts(folder: Path, title: str, summary: str, facts: dict[str, Any]) -> None:
    """Write the card of a teacher of which only its lists are known."""
    table = markdown_table(["", "value"], [[name.replace("_", " "), str(value)] for name, value in facts.items()])
    write_text(folder / FILE_NAME, f"# {title}\n\n{summary}\n\n{table}\n")


def _evaluated_by_lists(
    settings: ListedTeacherConfig, teacher: Scorer, folder: Path, config: Config, dataset: Dataset
) -> dict[str, Any]:
    """NDCG@10 over validation users, or why it is not known."""
    spec = spec_of_run(config, dataset.item_count, PRIMARY_K)
    users = held_out(dataset, "validation", spec)
    missing = int(settings.unlisted(folder, users.history).sum())
    if missing or not len(users.users):
        return {"not_evaluated": f"{missing:,} of {len(users.users):,} validation users have no list for their whole history"}
    items, _ = recommend_all(TorchRunner(teacher, spec), users, _BATCH_SIZE, "lists")
    return {"validation_ndcg@10": ranking_metrics(items, users)["ndcg@10"]}
