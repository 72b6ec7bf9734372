"""Commands that judge; they are part of the one command line (``distilrec/cli/app.py``)."""

from enum import StrEnum
from typing import Annotated

import typer

from distilrec.cli.options import DEFAULT_PRESET, Preset
from distilrec.config import load_config

app = typer.Typer()


class SplitName(StrEnum):
    """Part of the interactions that models are judged by."""

    TEST = "test"
    VALIDATION = "validation"


@app.command()
def evaluate(
    preset: Preset = DEFAULT_PRESET,
    split: Annotated[SplitName, typer.Option(help="What to judge by; decide by validation, report test.")] = SplitName.TEST,
    seed: Annotated[list[int] | None, typer.Option(help="Average runs of these seeds; repeatable. None: the preset's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print evaluation.json.")] = False,
) -> None:
    """Judge teacher, students and exports of a finished run.

    Ranking metrics with intervals, what was kept of the teacher, catalogue coverage, popularity, slices of users, and which of them
    lost by distillation. A seed's run is runs/NAME-seedN, the preset's own runs/NAME.

    Example: distilrec evaluate --preset ml-100k --seed 0 --seed 1 --seed 2
    """
    from distilrec.evaluation.report import JSON_FILE, MARKDOWN_FILE
    from distilrec.pipeline.evaluate import evaluate as judge_hops

    folder = judge_hops(load_config(preset), split.value, seed or ())
    print((folder / (JSON_FILE if as_json else MARKDOWN_FILE)).read_text(encoding="utf-8"))
    if not as_json:
        print(f"evaluation: {folder}")
