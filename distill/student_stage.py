"""Stage ``student``: train the small model, with a teacher's soft targets or without."""

from pathlib import Path
from typing import Any

import lightning
from torch import Tensor

from distill.fit import fit
from distill.gru_student import GruStudent
from distill.item_table import ItemTable, popularity_prior
from distill.soft_targets import load_targets
from distill.students import MlpStudent, ResidualStudent, Student
from distill.transformer_student import TransformerStudent
from distill.weights import load_weights, save_weights
from distilrec.config import Config
from distilrec.data import stage as data_stage
from distilrec.manifest import Manifest
from distilrec.specs import RecommenderSpec
from distilrec.stage import Inputs, run_stage


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Train the student. Inputs: data, and targets for a distilled student (without them it is trained alone)."""

    def work(folder: Path, scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        targets = load_targets(inputs["targets"]) if "targets" in inputs else None
        lightning.seed_everything(config.seed, verbose=False)
        student = build_student(config, dataset.item_count, popularity_prior(dataset))
        spec = RecommenderSpec(dataset.item_count, config.history_length, config.export.exclude_length, min(10, dataset.item_count))
        result = fit(
            student,
            dataset,
            spec,
            config.student,
            seed=config.seed,
            scratch=scratch,
            targets=targets,
            soft_ratio=config.student.soft_ratio,
        )
        save_weights(student, folder)
        return {"validation_ndcg@10": result.validation_ndcg, "epochs": result.epochs, "parameters": student.parameter_count()}

    excluded = set() if "targets" in inputs else {"soft_ratio"}
    settings = config.student.model_dump(mode="json", exclude=excluded) | {"history_length": config.history_length}
    return run_stage("student", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def build_student(config: Config, item_count: int, popularity: Tensor | None = None) -> Student:
    """An untrained student; ``popularity`` is float32 [N], its item table's fixed coordinate."""
    settings, length = config.student, config.history_length
    sizes: dict[str, int] = {"hidden_size": settings.hidden_size, "depth": settings.depth}
    items = ItemTable(item_count, settings.embedding_size, popularity=popularity, rank=settings.rank)
    match settings.kind:
        case "mlp":
            return MlpStudent(items, length, settings.hidden_size, settings.decays, settings.dropout)
        case "residual":
            return ResidualStudent(items, length, **sizes, decays=settings.decays, dropout=settings.dropout)
        case "gru":
            return GruStudent(items, **sizes, dropout=settings.dropout)
        case "transformer":
            return TransformerStudent(items, length, **sizes, heads=settings.heads, dropout=settings.dropout)


def load_student(config: Config, folder: Path, item_count: int) -> Student:
    """The trained student, ready for inference."""
    student = build_student(config, item_count)
    load_weights(student, folder)
    return student
