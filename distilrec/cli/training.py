"""The command ``tune``, a part of the command line in ``distilrec/cli/app.py``."""

from pathlib import Path
from typing import Annotated

import typer

from distilrec.cli.options import DEFAULT_PRESET, Preset
from distilrec.config import load_config
from distilrec.core.errors import ConfigError, MissingExtraError

app = typer.Typer()


@app.command()
def tune(
    preset: Preset = DEFAULT_PRESET,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Number of trials of each search, including those of earlier starts.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="Time budget of both searches; no trial begins that would probably end later.")
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(help="Choose the best trial whose p50 of one request is at most this.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Preset to write. [default: runs/NAME/tune/tuned.toml]")] = None,
) -> None:
    """Search student settings by validation NDCG@10 and latency.

    Makes the soft targets, trains students of several kinds, widths, losses, temperatures, ratios and learning rates on them,
    exports each to ONNX and times it on one thread. Prints the Pareto front and writes the best settings as a preset. Section
    `tune` of the settings defines the search space. Then as many trials search how that student is best trained without a teacher,
    because `run` exports the better of both. A second start continues the study. The minutes count from the first trial on.
    Keep the processor free of other work, as the latencies are measured.

    Example: distilrec tune --preset ml-100k --trials 20 --minutes 30 --output tuned.toml
    """
    try:  # before the settings, whose own modules need the extra [train] only
        from distilrec.tuning.run import run_tuning
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"The package {error.name!r}", "tune") from error
    # After the import: without the extra, the settings cannot be read either.
    config = load_config(preset)
    if output is not None and output.absolute() == Path(preset).absolute():
        raise ConfigError(f"--output: found {output}, which is the preset itself; expected another file")
    changes = {name: value for name, value in (("trials", trials), ("minutes", minutes)) if value is not None}
    config = config.model_copy(update={"tune": config.tune.model_copy(update=changes)})
    tuned = run_tuning(config, print, output=output, latency_ms=latency_ms)
    print(f"best settings: {tuned}; train and export them: distilrec run --preset {tuned}")
