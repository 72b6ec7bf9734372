"""Stage ``student``: train the small model, with a teacher's soft targets or without."""

from pathlib import Path

from distill.models.catalogue import Catalogue
from distill.models.encoders import Encoder
from distill.models.students.build import describe_student
from distill.stages.fitted import FittedModel, fit_model, run_fitted
from distill.training.callbacks import GiveUp
from distill.training.fit import FitResult
from distilrec.config import Config, StudentConfig
from distilrec.core.manifest import Manifest
from distilrec.core.stage import Inputs


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Train the student. Inputs: data, text, and targets for a distilled student (without them it is trained alone)."""
    distilled = "targets" in inputs
    settings = config.student if distilled else config.undistilled_student
    return run_fitted("student", _fitted(settings, distilled=distilled), config, inputs, out_dir)


def fit_student(
    settings: StudentConfig, config: Config, inputs: Inputs, scratch: Path, *, give_up: GiveUp | None = None
) -> tuple[Encoder, FitResult]:
    """Train a student of these settings, without a stage of its own; arguments as in ``fit_model``."""
    return fit_model(_fitted(settings, distilled="targets" in inputs), config, inputs, scratch, give_up=give_up)


def _fitted(settings: StudentConfig, *, distilled: bool) -> FittedModel:
    def build(catalogue: Catalogue, history_length: int) -> Encoder:
        student: Encoder = settings.build(catalogue.item_table(settings.embedding_size, settings.rank), history_length)
        return student

    return FittedModel(
        section=settings,
        training=settings,
        build=build,
        item_vectors=settings,
        summary=describe_student(settings, distilled=distilled),
        recorded=settings.recorded(distilled=distilled),
        domain=settings.domain,
        distillation=settings.distillation,
    )
