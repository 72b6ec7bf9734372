"""Copies the results of a finished and evaluated run into ``benchmarks/results``, where the README's numbers come from.

Example: python -m benchmarks.record --preset ml-100k && python -m benchmarks.readme
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from distilrec.config import Config, load_config
from distilrec.core.files import write_text
from distilrec.core.machine import processor
from distilrec.core.manifest import read_manifest
from distilrec.evaluation.report import JSON_FILE, MARKDOWN_FILE
from distilrec.pipeline.finished import served_artefact
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.stages import stages
from distilrec.report.benchmark_file import read_benchmark_file
from distilrec.report.content import BENCHMARK_FILE
from export.artefact import REPORT_FILE

RESULTS = Path(__file__).parent / "results"
STAGES_FILE, PRECISIONS_FILE = "stages.json", "precisions.json"

_STATISTICS = ("min", "median", "iqr", "rounds", "iterations")
_MACHINE = ("processor", "cpu_features", "cores", "memory_bytes", "gpu", "system", "threads", "versions")


def record(config: Config, results: Path = RESULTS) -> Path:
    """Write the results of a run, and return their folder.

    The files are evaluation.md (intervals, slices, regressions), evaluation.json (its numbers for all users), stages.json
    (settings, seconds and metrics of each stage), precisions.json (what the export measured of each precision) and, if the run has
    a result of ``pytest --benchmark-only``, benchmark.json without the single timings.

    Args:
        config: Settings of the run.
        results: Folder with one folder for each run.

    Raises:
        ManifestError: The run is not finished, or not evaluated.
        DataError: The benchmarks' result cannot be read.
    """
    folder = results / config.name
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / STAGES_FILE, _stages(config))
    evaluation = run_dir(config) / "evaluation"
    shutil.copyfile(evaluation / MARKDOWN_FILE, folder / MARKDOWN_FILE)
    _write(folder / JSON_FILE, main_numbers(_read(evaluation / JSON_FILE)))
    _write(folder / PRECISIONS_FILE, _read(served_artefact(config) / REPORT_FILE))
    if (run_dir(config) / BENCHMARK_FILE).exists():
        record_benchmarks(config, results)
    return folder


def record_benchmarks(config: Config, results: Path = RESULTS) -> Path:
    """Write benchmark.json alone, for a run that is timed and not evaluated; returns its folder.

    Args:
        config: Settings of the run.
        results: Folder with one folder for each run.

    Raises:
        DataError: The run has no result of benchmarks, or it cannot be read.
    """
    source, folder = run_dir(config) / BENCHMARK_FILE, results / config.name
    read_benchmark_file(source)  # Raises for anything but a result of benchmarks.
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / BENCHMARK_FILE, without_timings(_read(source)))
    return folder


def main_numbers(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Keep the numbers of evaluation.json that tables are made of: NDCG@10 and HR@10 of all users, without slices."""
    kept = ("format_version", "run", "split", "seeds", "roles", "verdicts", "parameters", "size_bytes", "bootstrap")
    metric, all_users = evaluation["evaluation"]["primary"], evaluation["evaluation"]["everybody"]
    metrics = [metric, metric.replace("ndcg", "hr")]

    def selected(models: dict[str, Any]) -> dict[str, Any]:
        return {model: {name: values[name] for name in metrics} for model, values in models.items()}

    numbers = {
        "users": all_users["users"],
        "estimates": selected(all_users["estimates"]),
        "differences": {reference: selected(models) for reference, models in all_users["differences"].items()},
    }
    head = {name: evaluation[name] for name in kept if name in evaluation}
    return head | {"evaluation": {"primary": metric, "everybody": numbers, "slices": {}}}


def without_timings(benchmarks: dict[str, Any]) -> dict[str, Any]:
    """Keep the statistics and additional values of a pytest-benchmark result, but not each timing."""
    rows = [
        {name: row[name] for name in ("group", "name", "extra_info")}
        | {"stats": {name: row["stats"][name] for name in _STATISTICS}}
        for row in benchmarks["benchmarks"]
    ]
    machine = {name: benchmarks["machine_info"][name] for name in _MACHINE}
    kept = {name: benchmarks[name] for name in ("datetime", "version", "commit_info", "artefact", "not_run")}
    return {"machine_info": machine, **kept, "benchmarks": rows}


def _stages(config: Config) -> dict[str, Any]:
    recorded = [stage for stage in stages(config) if not stage.endswith("-qad")]
    manifests = {stage: read_manifest(run_dir(config) / stage) for stage in [*recorded, "evaluation"]}
    kept = {"settings", "seed", "metrics"}
    return {
        "processor": processor(),
        "versions": manifests["export"].versions,
        "stages": {stage: manifest.model_dump(mode="json", include=kept) for stage, manifest in manifests.items()},
    }


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", required=True, help="preset or TOML file of the run")
    parser.add_argument("--benchmarks-only", action="store_true", help="record benchmark.json alone; needs no evaluation")
    options = parser.parse_args()
    print((record_benchmarks if options.benchmarks_only else record)(load_config(options.preset)))
