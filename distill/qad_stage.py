"""Stage ``student-qad``: quantisation-aware distillation, the FP32 student teaching itself under INT8's rounding."""

from pathlib import Path
from typing import Any

import lightning
from torch import nn

from distill.card import Description, write_card
from distill.encoders import Encoder
from distill.fit import fit
from distill.quantization import FakeQuantizedEncoder
from distill.sequences import Windows, training_windows
from distill.soft_targets import SoftTargets, open_targets, write_targets
from distill.student_stage import load_student
from distill.weights import save_weights
from distilrec.config import Config
from distilrec.data import stage as data_stage
from distilrec.data.dataset import Dataset
from distilrec.manifest import Manifest
from distilrec.specs import RecommenderSpec
from distilrec.stage import Inputs, run_stage

_TEMPERATURE = 1.0
_SUMMARY = """The distilled student, trained on under INT8's rounding with its own answers as the only target (quantisation-aware
distillation). These weights and figures are FP32; the export's report.json holds those of INT8."""


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Train on with the FP32 student's own answers as the only target. Inputs: data, student.

    The first teacher or the true items would pull the student elsewhere; here it should stay what it is, on a coarser grid.
    """
    settings = config.qad.model_dump(mode="json", exclude={"use"}) | {
        "history_length": config.history_length,
        "top_n": config.targets.top_n,
    }

    def work(folder: Path, scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        lightning.seed_everything(config.seed, verbose=False)
        student = load_student(config, inputs["student"], dataset.item_count)
        targets = _own_targets(config, student, dataset, scratch)
        for module in student.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # what it has learned is to be kept, not to be regularised again
        quantized = FakeQuantizedEncoder(student).train()
        spec = RecommenderSpec(dataset.item_count, config.history_length, config.export.exclude_length, min(10, dataset.item_count))
        result = fit(quantized, dataset, spec, config.qad, seed=config.seed, scratch=scratch, targets=targets, soft_ratio=1.0)
        trained = quantized.release()
        save_weights(trained, folder)
        description = Description("DistilRec student for INT8", _SUMMARY, settings)
        write_card(folder, trained, description, config=config, dataset=dataset, data=inputs["data"], epochs=result.epochs)
        return {"validation_ndcg@10": result.validation_ndcg, "epochs": result.epochs}

    return run_stage("student-qad", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)


def _own_targets(config: Config, student: Encoder, dataset: Dataset, scratch: Path) -> SoftTargets:
    folder = scratch / "targets"
    folder.mkdir(exist_ok=True)
    windows = Windows(dataset.items, training_windows(dataset, config.history_length, drop_last_prefix=False))
    settings = config.targets
    write_targets(student, windows, folder, top_n=settings.top_n, temperature=_TEMPERATURE, batch_size=settings.batch_size)
    return open_targets(folder, _TEMPERATURE)
