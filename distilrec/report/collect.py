"""All that a report is made of, read from the files of a run; nothing is measured here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilrec.config import Config
from distilrec.core.errors import DataError, DistilRecError, ManifestError
from distilrec.core.manifest import Manifest, read_manifest, verify_manifest
from distilrec.evaluation.report import JSON_FILE
from distilrec.pipeline.stages import run_dir, served_artefact, stages
from distilrec.report.benchmark_file import BenchmarkFile, read_benchmarks
from distilrec.report.judgement import Judgement, read_judgement
from distilrec.report.side_by_side import Example, examples

BENCHMARK_FILE, LOAD_FILE, PEERS_FILE = "benchmark.json", "load.json", "peers.json"
"""Where a run's measurements are looked for, below its folder."""


@dataclass(frozen=True)
class Sources:
    """Files of measurements; None: the run's own, where there is one."""

    benchmarks: Path | None = None
    load: Path | None = None
    peers: Path | None = None


@dataclass(frozen=True)
class Facts:
    """What a report says."""

    run: str
    judgement: Judgement
    export: dict[str, Any]
    """report.json of the artefact that is served."""
    artefact: Manifest
    stages: dict[str, Manifest]
    benchmarks: BenchmarkFile | None
    load: dict[str, Any] | None
    peers: dict[str, Any] | None
    examples: tuple[Example, ...]
    missing: tuple[str, ...]
    """What was not measured, and why; whole sentences."""

    @property
    def served(self) -> str:
        """Name of the hop that is served."""
        return f"distilled, ONNX {self.artefact.metrics['precision'].upper()}"


def collect(config: Config, sources: Sources) -> Facts:
    """Read a finished and evaluated run, and what was measured of it.

    Raises:
        ManifestError: the run is not finished, not evaluated, or the evaluation is of another export.
        DataError: a file is not what it should be.
    """
    folder = run_dir(config)
    artefact = served_artefact(config)
    manifest = verify_manifest(artefact)
    judgement = _judgement(config, artefact, manifest)
    missing: list[str] = []
    benchmarks = _benchmarks(sources.benchmarks or folder / BENCHMARK_FILE, manifest, missing, asked=sources.benchmarks is not None)
    load = _optional(sources.load, folder / LOAD_FILE, "Load on a live server was not measured (distilrec load)", missing)
    peers = _optional(sources.peers, folder / PEERS_FILE, "Peers were not measured", missing)
    made = {stage: read_manifest(folder / stage) for stage in stages(config) if (folder / stage).exists()}
    return Facts(
        run=config.name,
        judgement=judgement,
        export=json.loads((artefact / "report.json").read_text(encoding="utf-8")),
        artefact=manifest,
        stages=made,
        benchmarks=benchmarks,
        load=load,
        peers=peers,
        examples=_examples(config, judgement, missing),
        missing=tuple(missing),
    )


def _judgement(config: Config, artefact: Path, manifest: Manifest) -> Judgement:
    folder = run_dir(config) / "evaluation"
    again = f"Judge the run: distilrec evaluate --preset {config.name}"
    if not folder.exists():
        raise ManifestError(f"{folder}: no such folder, expected an evaluation. {again}")
    found = verify_manifest(folder).inputs.get(f"{config.name}/{artefact.name}")
    if found != manifest.digest:
        raise ManifestError(
            f"{folder}: found an evaluation of export {str(found)[:12]}, expected {manifest.digest[:12]}, which is served. {again}"
        )
    return read_judgement(folder / JSON_FILE)


def _benchmarks(path: Path, manifest: Manifest, missing: list[str], *, asked: bool) -> BenchmarkFile | None:
    if not path.exists() and not asked:
        missing.append(
            "Latencies, throughput, growth and training speed were not measured (pytest --benchmark-only); times of the precisions"
            " are those of the export."
        )
        return None
    found = read_benchmarks(path)
    if found.artefact_digest != manifest.digest:
        other = f"found measurements of export {found.artefact_digest[:12]}, expected {manifest.digest[:12]}, which is served"
        if asked:
            raise DataError(f"{path}: {other}. Measure again: pytest --benchmark-only")
        missing.append(f"{path.name} is left out: {other}. Measure again with pytest --benchmark-only.")
        return None
    reasons: dict[str, list[str]] = {}
    for name, reason in found.not_run.items():
        reasons.setdefault(reason, []).append(name)
    missing += [f"{', '.join(names)}: {reason}." for reason, names in reasons.items()]
    return found


def _optional(asked: Path | None, usual: Path, otherwise: str, missing: list[str]) -> dict[str, Any] | None:
    path = asked or usual
    if asked is None and not usual.exists():
        missing.append(f"{otherwise}.")
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}; give another file, or none") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: found a JSON {type(content).__name__}, expected an object; give another file, or none")
    return content


def _examples(config: Config, judgement: Judgement, missing: list[str]) -> tuple[Example, ...]:
    names = [judgement.teacher, judgement.distilled, "distilled, ONNX INT8"]
    try:
        return examples(config, [name for name in names if name in judgement.hops])
    except (DistilRecError, OSError) as error:
        missing.append(f"Recommendations side by side could not be made: {error}")
        return ()
