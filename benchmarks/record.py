"""Copies what a finished and evaluated run measured into ``benchmarks/results``, where the README's figures come from.

Example: python -m benchmarks.record --preset ml-100k
"""

import argparse
import json
import shutil
from pathlib import Path

from distilrec.config import Config, load_config
from distilrec.evaluation_report import MARKDOWN_FILE
from distilrec.files import write_text
from distilrec.machine import processor
from distilrec.manifest import read_manifest
from distilrec.pipeline import run_dir, stages

RESULTS = Path(__file__).parent / "results"


def record(config: Config, results: Path = RESULTS) -> Path:
    """Write evaluation.md (intervals, slices, harm) and stages.json (settings, seconds, metrics of each stage).

    Args:
        config: of the run.
        results: folder that gets one folder for each run.

    Raises:
        ManifestError: the run is not finished, or not evaluated.
    """
    evaluation = run_dir(config) / "evaluation"
    made = [stage for stage in stages(config) if not stage.endswith("-qad")]
    manifests = {stage: read_manifest(run_dir(config) / stage) for stage in made} | {"evaluation": read_manifest(evaluation)}
    kept = {"settings", "seed", "metrics"}
    content = {
        "processor": processor(),
        "versions": manifests["export"].versions,
        "stages": {stage: manifest.model_dump(mode="json", include=kept) for stage, manifest in manifests.items()},
    }
    folder = results / config.name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(evaluation / MARKDOWN_FILE, folder / MARKDOWN_FILE)
    write_text(folder / "stages.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True, help="preset or TOML file of the run")
    print(record(load_config(parser.parse_args().preset)))
