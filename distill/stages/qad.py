"""Stage ``student-qad``: quantisation-aware distillation; the FP32 student is its own teacher under the rounding of INT8.

So a student that was trained without a teacher stays without one.
"""

import shutil
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import nn

from distill.data.soft_targets import SoftTargets
from distill.losses.distillation import Distillation
from distill.models.encoders import Encoder
from distill.models.item_content import CONTENT_WEIGHTS
from distill.models.quantization import FakeQuantizedEncoder
from distill.models.students.build import load_student
from distill.models.weights import save_weights
from distill.stages.card import Description, write_card
from distill.training.fit import fit
from distill.training.loggers import Logging
from distill.training.teacher_inference import write_soft_targets
from distilrec.config import Config, DistillationConfig, TargetsConfig, judged_with, spec_of_run
from distilrec.config.section import declarations_of
from distilrec.core.manifest import Manifest, read_manifest
from distilrec.core.ranks import rank
from distilrec.core.stage import Inputs, run_stage
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset
from distilrec.evaluation.ranking import PRIMARY_K

_SUMMARY = """The student that ships (which learned {learned}), trained further under the rounding of INT8 with its own scores as
the only target (quantisation-aware distillation). These weights and figures are FP32; the export's report.json holds those of
INT8."""


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Train the student further, with its own FP32 scores as the only target. Inputs: data, student.

    The first teacher or the true items would change what the student recommends; here it should only adapt to a coarser grid.
    """
    recorded = config.qad.model_dump(mode="json", exclude={"use"})
    recorded |= {"history_length": config.history_length, "top_n": config.targets.top_n, **judged_with(config)}

    def work(folder: Path, scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        lightning.seed_everything(config.seed, verbose=False)
        student = load_student(config, inputs["student"], dataset.item_count)
        distillation, quantized = _self_distillation(config, student, dataset, scratch), _quantized(student)
        result = fit(
            quantized,
            dataset,
            spec_of_run(config, dataset.item_count, PRIMARY_K),
            config.qad,
            seed=config.seed,
            scratch=scratch,
            distillation=distillation,
            log=Logging(config.logger, out_dir.parent / "logs", out_dir.name),
        )
        trained = quantized.release()
        _save(trained, inputs["student"], folder)
        description = Description("DistilRec student-qad", _summary(inputs["student"]), recorded)
        write_card(folder, trained, description, config=config, dataset=dataset, data=inputs["data"], epochs=result.epochs)
        return {"validation_ndcg@10": result.validation_ndcg, "epochs": result.epochs}

    return run_stage(
        "student-qad",
        settings=recorded,
        seed=config.seed,
        inputs=inputs,
        out_dir=out_dir,
        work=work,
        declarations=declarations_of(config.student),
        shared=True,
    )


def _summary(student: Path) -> str:
    learned = "from a teacher" if "targets" in read_manifest(student).inputs else "without a teacher"
    return _SUMMARY.format(learned=learned)


def _save(trained: Encoder, student: Path, folder: Path) -> None:
    """Write the weights, and the projection of the items' content, which this training does not change."""
    save_weights(trained, folder)
    if (student / CONTENT_WEIGHTS).exists():
        shutil.copyfile(student / CONTENT_WEIGHTS, folder / CONTENT_WEIGHTS)


def _quantized(student: Encoder) -> FakeQuantizedEncoder:
    """The student as INT8 will round it, without dropout: it is adapted, not regularised again."""
    for module in student.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return FakeQuantizedEncoder(student).train()


def _self_distillation(config: Config, student: Encoder, dataset: Dataset, scratch: Path) -> Distillation:
    """Softened KL towards the soft targets of ``student`` itself, which are written into ``scratch``."""
    folder = scratch / f"targets{rank()}"  # each process its own: they see the same scratch
    folder.mkdir(exist_ok=True)
    settings = TargetsConfig(top_n=config.targets.top_n, temperatures=(1.0,), batch_size=config.targets.batch_size)
    write_soft_targets(student, dataset, folder, history_length=config.history_length, settings=settings, seed=config.seed)
    targets = SoftTargets(folder, settings.temperatures)
    losses = DistillationConfig.model_validate({"hard": 0.0, "soft": 1.0})
    return Distillation(losses, targets, torch.from_numpy(dataset.training_counts()), config.student.embedding_size)
