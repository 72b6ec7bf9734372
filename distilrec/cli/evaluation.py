"""The command ``evaluate``, a part of the command line in ``distilrec/cli/app.py``."""

from enum import StrEnum
from typing import Annotated

import typer

from distilrec.cli.options import DEFAULT_PRESET, Cold, Preset
from distilrec.config import as_cold, load_config

app = typer.Typer()


class SplitName(StrEnum):
    """Part of the interactions that models are evaluated on."""

    TEST = "test"
    VALIDATION = "validation"


@app.command()
def evaluate(
    preset: Preset = DEFAULT_PRESET,
    split: Annotated[
        SplitName, typer.Option(help="Interactions to evaluate on: validation for decisions, test for reports.")
    ] = SplitName.TEST,
    seed: Annotated[list[int] | None, typer.Option(help="Seed whose run is averaged; repeatable. [default: the preset's]")] = None,
    cold: Cold = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print evaluation.json instead of the tables.")] = False,
) -> None:
    """Evaluate teacher, students and exports of a finished run.

    The result has ranking metrics with intervals, retention of the teacher's quality, catalogue coverage, popularity, slices of
    users, and regressions: slices that rank worse than without a teacher. The run of seed N is in runs/NAME-seedN, the run of the
    preset's own seed in runs/NAME. Where items were held out (`run --cold`), it has metrics for these items, too.

    Example: distilrec evaluate --preset ml-100k --seed 0 --seed 1 --seed 2
    """
    from distilrec.evaluation.report import JSON_FILE, MARKDOWN_FILE
    from distilrec.pipeline.evaluate import evaluate as evaluate_run

    config = load_config(preset)
    folder = evaluate_run(as_cold(config) if cold else config, split.value, seed or ())
    print((folder / (JSON_FILE if as_json else MARKDOWN_FILE)).read_text(encoding="utf-8"))
    if not as_json:
        print(f"evaluation: {folder}")
