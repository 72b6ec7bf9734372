"""Stages ``teacher-<name>``: train a teacher and keep what inference needs; and the teachers a student has, ready to score."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
from torch import Tensor

from distill.models.encoders import Encoder, Scorer
from distill.models.item_table import ItemTable, popularity_prior
from distill.models.students.build import load_student
from distill.models.teachers.ease import EaseTeacher, fit_ease, load_ease, save_ease
from distill.models.teachers.ensemble import Ensemble
from distill.models.teachers.masked import MaskedTeacher
from distill.models.teachers.pretrained import find_model, model_identity, save_form
from distill.models.teachers.sequence import SequenceTeacher
from distill.models.teachers.text import TextTeacher, build_text_teacher, load_text_teacher
from distill.models.weights import load_weights, save_weights
from distill.stages.card import Description, write_card
from distill.stages.student import train_student
from distill.stages.text import load_embeddings
from distill.training.fit import fit
from distill.training.loggers import Logging
from distilrec.config import AssistantTeacherConfig, Config, EaseTeacherConfig, SequenceTeacherConfig, TextTeacherConfig
from distilrec.core.manifest import Manifest
from distilrec.core.specs import RecommenderSpec
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset

_SUMMARIES = {
    "sequence": "A BERT body that reads item histories and recommends the next item. The student learns from it; it is not served.",
    "text": "A pretrained BERT, fine-tuned, that reads a history as titles. The student learns from it; it is not served.",
    "ease": "A linear item-item model in closed form (Steck 2019, arXiv:1905.03375). The student learns from it; it is not served.",
}


def run(config: Config, inputs: Inputs, out_dir: Path, *, name: str) -> Manifest:
    """Train the teacher of this name. Inputs: data, text, and targets for an assistant that learns from others."""
    settings = config.teachers[name]
    match settings:
        case SequenceTeacherConfig():
            return _train_sequence(settings, config, inputs, out_dir)
        case TextTeacherConfig():
            return _fine_tune_text(settings, config, inputs, out_dir)
        case EaseTeacherConfig():
            return _solve_ease(settings, config, inputs, out_dir)
        case AssistantTeacherConfig():
            return train_student(out_dir.name, settings.student, config, inputs, out_dir)


def load_teacher(config: Config, name: str, folder: Path, item_count: int) -> Scorer:
    """The trained teacher of this name, ready for inference."""
    settings = config.teachers[name]
    match settings:
        case SequenceTeacherConfig():
            teacher = build_teacher(settings, config.history_length, item_count)
            load_weights(teacher, folder)
            return teacher
        case TextTeacherConfig():
            return load_text_teacher(folder, item_count, settings)
        case EaseTeacherConfig():
            return load_ease(folder, settings.decay, settings.scale)
        case AssistantTeacherConfig():
            return load_student(config, folder, item_count, settings.student)


def load_ensemble(config: Config, folders: Mapping[str, Path], item_count: int) -> Scorer:
    """What teaches the student: its only teacher, or all of them mixed. ``folders`` holds each teacher's stage by its name."""
    members = [load_teacher(config, name, folders[name], item_count) for name in config.student_teachers]
    return members[0] if len(members) == 1 else Ensemble(members, list(config.student_teachers.values())).eval()


def build_teacher(
    settings: SequenceTeacherConfig,
    history_length: int,
    item_count: int,
    text: Tensor | None = None,
    popularity: Tensor | None = None,
) -> SequenceTeacher | MaskedTeacher:
    """An untrained sequence teacher; ``text`` is float32 [N, d_text], ``popularity`` float32 [N]."""
    items = ItemTable(item_count, settings.embedding_size, text, popularity)
    sizes = {"layers": settings.layers, "heads": settings.heads}
    if settings.objective == "masked":
        return MaskedTeacher(items, history_length, **sizes, dropout=settings.dropout, mask_fraction=settings.mask_fraction)
    return SequenceTeacher(items, history_length, **sizes, dropout=settings.dropout)


def _train_sequence(settings: SequenceTeacherConfig, config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    def build(dataset: Dataset, _titles: Sequence[str], text: Tensor | None) -> Encoder:
        return build_teacher(settings, config.history_length, dataset.item_count, text, popularity_prior(dataset))

    recorded = settings.model_dump(mode="json", exclude={"asked_prefixes_per_window"})
    return _train(build, settings, recorded, config=config, inputs=inputs, out_dir=out_dir)


def _fine_tune_text(settings: TextTeacherConfig, config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    model = find_model(settings, config.text)

    def build(dataset: Dataset, titles: Sequence[str], text: Tensor | None) -> Encoder:
        return build_text_teacher(settings, model, titles, text, popularity_prior(dataset))

    recorded = settings.model_dump(mode="json", exclude={"asked_prefixes_per_window", "revision"})
    recorded["model"] = model_identity(model, settings.revision)
    return _train(build, settings, recorded, config=config, inputs=inputs, out_dir=out_dir)


def _train(
    build: Callable[[Dataset, Sequence[str], Tensor | None], Encoder],
    settings: SequenceTeacherConfig | TextTeacherConfig,
    recorded: dict[str, Any],
    *,
    config: Config,
    inputs: Inputs,
    out_dir: Path,
) -> Manifest:
    """Train what ``build(dataset, titles, text embeddings)`` makes; ``recorded`` are the settings that count."""
    recorded = recorded | {"history_length": config.history_length}

    def work(folder: Path, scratch: Path) -> dict[str, Any]:
        dataset, vocabulary = data_stage.load(inputs["data"])
        text = load_embeddings(inputs["text"]) if settings.text else None
        lightning.seed_everything(config.seed, verbose=False)
        teacher = build(dataset, vocabulary.titles, text)
        spec = RecommenderSpec(dataset.item_count, config.history_length, config.export.exclude_length, min(10, dataset.item_count))
        result = fit(
            teacher,
            dataset,
            spec,
            settings,
            seed=config.seed,
            scratch=scratch,
            processes=config.processes,
            log=Logging(config.logger, out_dir.parent / "logs", out_dir.name),
        )
        save_weights(teacher, folder)
        description = Description(f"DistilRec {out_dir.name}", _SUMMARIES[settings.kind], recorded)
        write_card(folder, teacher, description, config=config, dataset=dataset, data=inputs["data"], epochs=result.epochs)
        if isinstance(teacher, TextTeacher):
            save_form(teacher.body, folder)
        return {
            "validation_ndcg@10": result.validation_ndcg,
            "epochs": result.epochs,
            "seconds_an_epoch": round(result.seconds_an_epoch, 3),
            "parameters": teacher.parameter_count(),
            "text_embeddings": text is not None,
        }

    return run_stage(out_dir.name, settings=recorded, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def _solve_ease(settings: EaseTeacherConfig, config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    recorded = settings.model_dump(mode="json")

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        weights = fit_ease(dataset, settings.l2)
        save_ease(weights, folder)
        teacher = EaseTeacher(weights, settings.decay, settings.scale)
        description = Description(f"DistilRec {out_dir.name}", _SUMMARIES["ease"], recorded)
        write_card(folder, teacher, description, config=config, dataset=dataset, data=inputs["data"])
        return {"parameters": dataset.item_count**2}

    return run_stage(out_dir.name, settings=recorded, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)
