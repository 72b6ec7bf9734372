"""Everything that a report shows, read from the files of a run; nothing is measured here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distilrec.config import Config, as_cold
from distilrec.core.errors import DataError, DistilRecError, ManifestError
from distilrec.core.manifest import Manifest, read_manifest, verify_manifest
from distilrec.evaluation.report import JSON_FILE
from distilrec.pipeline.finished import line_of, served_artefact
from distilrec.pipeline.folders import STUDENT_VERDICT, TEACHERS_VERDICT, run_dir
from distilrec.pipeline.generations import updates_of
from distilrec.pipeline.stages import stages
from distilrec.report.benchmark_file import BenchmarkFile, read_benchmark_file
from distilrec.report.evaluation_file import ColdItems, EvaluationFile, exported_model_name, read_evaluation_file
from distilrec.report.side_by_side import ExampleUser, example_users

BENCHMARK_FILE, LOAD_FILE, PEERS_FILE = "benchmark.json", "load.json", "peers.json"
"""Names of the measurement files in a run's folder."""

_DIGEST_SHOWN = 12
"""Characters of a digest in an error message: enough to tell two exports apart."""


@dataclass(frozen=True)
class MeasurementFiles:
    """Paths of measurement files; None stands for the file in the run's own folder, which may be absent."""

    benchmarks: Path | None = None
    load: Path | None = None
    peers: Path | None = None


@dataclass(frozen=True)
class ReportContent:
    """What a report shows."""

    run: str
    """Name of the run."""
    evaluation: EvaluationFile
    export: dict[str, Any]
    """Content of the served artefact's report.json."""
    artefact: Manifest
    """Manifest of the served artefact."""
    stages: dict[str, Manifest]
    benchmarks: BenchmarkFile | None
    load: dict[str, Any] | None
    """Content of the result of ``distilrec load``."""
    peers: dict[str, Any] | None
    """Content of the result of ``python -m benchmarks.peers``."""
    examples: tuple[ExampleUser, ...]
    cold: ColdItems | None
    """How well items are recommended that nobody has touched: of this run, or of its run with ``--cold``."""
    missing: tuple[str, ...]
    """What was not measured, and why, as whole sentences."""
    updates: tuple[str, ...] = ()
    """Verdicts on the updates of the trained student, as whole sentences, in their order."""

    @property
    def teachers_verdict(self) -> dict[str, Any]:
        """What each teacher is worth, from the manifest of ``teachers-verdict``."""
        return self.stages[TEACHERS_VERDICT].metrics

    @property
    def student_verdict(self) -> dict[str, Any]:
        """Which student ships and why, from the manifest of ``student-verdict``."""
        return self.stages[STUDENT_VERDICT].metrics

    @property
    def served_model(self) -> str:
        """Name of the served model in the evaluation."""
        return exported_model_name(self.artefact.metrics["precision"])


def read_report_content(config: Config, files: MeasurementFiles) -> ReportContent:
    """Read a finished and evaluated run, and its measurements.

    Args:
        config: Settings of the run.
        files: Paths of the measurement files.

    Raises:
        ManifestError: The run is not finished or not evaluated, or the evaluation is of another export.
        DataError: A measurement file does not hold what it should.
    """
    folder = run_dir(config)
    artefact = served_artefact(config, updates=False)
    manifest = verify_manifest(artefact)
    evaluation = _read_evaluation(config, artefact, manifest)
    missing: list[str] = []
    benchmarks = _read_benchmarks(files.benchmarks, folder / BENCHMARK_FILE, manifest, missing)
    load = _read_optional(files.load, folder / LOAD_FILE, "Load on a live server was not measured (distilrec load)", missing)
    peers = _read_optional(files.peers, folder / PEERS_FILE, "Peers were not measured", missing)
    finished_stages = {stage: read_manifest(folder / stage) for stage in stages(config) if (folder / stage).exists()}
    return ReportContent(
        run=config.name,
        evaluation=evaluation,
        export=json.loads((artefact / "report.json").read_text(encoding="utf-8")),
        artefact=manifest,
        stages=finished_stages,
        benchmarks=benchmarks,
        load=load,
        peers=peers,
        examples=_read_examples(config, evaluation, missing),
        cold=evaluation.cold or _read_cold(config),
        missing=tuple(missing),
        updates=_read_updates(config),
    )


def _read_updates(config: Config) -> tuple[str, ...]:
    finished = [update for update in updates_of(run_dir(config), line_of(config)) if update.is_finished]
    reasons = {update.number: read_manifest(update.verdict).metrics["reason"] for update in finished}
    return tuple(f"Update {number}: {reason}." for number, reason in reasons.items())


def _read_evaluation(config: Config, artefact: Path, manifest: Manifest) -> EvaluationFile:
    folder = run_dir(config) / "evaluation"
    what_to_do = f"Evaluate the run: distilrec evaluate --preset {config.name}"
    if not folder.exists():
        raise ManifestError(f"{folder}: no such folder, expected an evaluation. {what_to_do}")
    evaluated = verify_manifest(folder).inputs.get(f"{config.name}/{artefact.name}")
    if evaluated != manifest.digest:
        raise ManifestError(
            f"{folder}: found an evaluation of export {str(evaluated)[:_DIGEST_SHOWN]},"
            f" expected {manifest.digest[:_DIGEST_SHOWN]}, which is served. {what_to_do}"
        )
    return read_evaluation_file(folder / JSON_FILE)


def _read_cold(config: Config) -> ColdItems | None:
    """What the run with ``--cold`` found, where it has been evaluated."""
    path = run_dir(as_cold(config)) / "evaluation" / JSON_FILE
    return read_evaluation_file(path).cold if path.exists() else None


def _read_benchmarks(given: Path | None, usual: Path, manifest: Manifest, missing: list[str]) -> BenchmarkFile | None:
    """Read the benchmarks of the served export; appends to ``missing`` what was not measured."""
    if given is None and not usual.exists():
        missing.append(
            "Latencies, throughput, growth and training speed were not measured (pytest --benchmark-only). Times of the precisions"
            " are those of the export."
        )
        return None
    path = given or usual
    benchmarks = read_benchmark_file(path)
    if benchmarks.artefact_digest != manifest.digest:
        mismatch = (
            f"found measurements of export {benchmarks.artefact_digest[:_DIGEST_SHOWN]},"
            f" expected {manifest.digest[:_DIGEST_SHOWN]}, which is served"
        )
        if given is not None:
            raise DataError(f"{path}: {mismatch}. Measure again: pytest --benchmark-only")
        missing.append(f"{path.name} is left out: {mismatch}. Measure again with pytest --benchmark-only.")
        return None
    names_by_reason: dict[str, list[str]] = {}
    for name, reason in benchmarks.not_run.items():
        names_by_reason.setdefault(reason, []).append(name)
    missing += [f"{', '.join(names)}: {reason}." for reason, names in names_by_reason.items()]
    return benchmarks


def _read_optional(given: Path | None, usual: Path, if_absent: str, missing: list[str]) -> dict[str, Any] | None:
    """Read a JSON object; appends ``if_absent`` to ``missing`` where no file was given and the usual one does not exist."""
    path = given or usual
    if given is None and not usual.exists():
        missing.append(f"{if_absent}.")
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON: {error}; give another file, or none") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: found a JSON {type(content).__name__}, expected an object; give another file, or none")
    return content


def _read_examples(config: Config, evaluation: EvaluationFile, missing: list[str]) -> tuple[ExampleUser, ...]:
    names = [evaluation.teacher, evaluation.distilled, exported_model_name("int8")]
    try:
        return example_users(config, [name for name in names if name in evaluation.models])
    except (DistilRecError, OSError) as error:
        missing.append(f"Recommendations side by side could not be made: {error}")
        return ()
