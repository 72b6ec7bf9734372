"""Stage ``targets``: ask the teacher about every training prefix."""

from pathlib import Path
from typing import Any

from distill.sequences import Windows, training_windows
from distill.soft_targets import write_targets
from distill.teacher_stage import load_teacher
from distilrec.config import Config
from distilrec.data import stage as data_stage
from distilrec.manifest import Manifest
from distilrec.stage import Inputs, run_stage


def run(config: Config, inputs: Inputs, out_dir: Path) -> Manifest:
    """Write the soft targets. Inputs: data, teacher."""

    def work(folder: Path, _scratch: Path) -> dict[str, Any]:
        dataset, _ = data_stage.load(inputs["data"])
        teacher = load_teacher(config, inputs["teacher"], dataset.item_count)
        windows = Windows(dataset.items, training_windows(dataset, config.history_length, drop_last_prefix=False))
        settings = config.targets
        write_targets(
            teacher,
            windows,
            folder,
            top_n=settings.top_n,
            temperature=settings.temperature,
            batch_size=settings.batch_size,
        )
        return {"prefixes": int(dataset.validation_start.sum())}

    settings = config.targets.model_dump(mode="json") | {"history_length": config.history_length}
    return run_stage("targets", settings=settings, seed=config.seed, inputs=inputs, out_dir=out_dir, work=work)
