"""The subject of the benchmarks: a finished run, or an export folder alone."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from distilrec.config import Config, spec_of_artefact
from distilrec.core.manifest import Manifest, read_manifest
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.evaluation.report import JSON_FILE
from distilrec.pipeline.finished import served_artefact
from distilrec.pipeline.folders import run_dir
from distilrec.pipeline.stages import with_sizes_of_data
from distilrec.report.evaluation_file import exported_model_name
from export.artefact import CALIBRATION_FILE, REPORT_FILE
from export.graph.calibration import CalibrationSet, load_calibration

EvaluatedAs = Literal["teacher", "undistilled", "distilled"] | Precision
"""A model's counterpart in the evaluation: its role, or its precision for a model of the export."""


class CannotMeasureError(Exception):
    """A benchmark cannot run; the message says what is missing."""


@dataclass(frozen=True)
class Subject:
    """Run or export folder to measure, and the requests to measure it with."""

    artefact: Path
    """Export folder."""
    manifest: Manifest
    """Manifest of the artefact."""
    config: Config | None
    """Settings of the run; None for an export folder alone."""
    spec: RecommenderSpec

    @property
    def vocabulary_sha256(self) -> str:
        """Digest of the vocabulary of recommended items."""
        return str(self.manifest.metrics["vocabulary_sha256"])

    @cached_property
    def requests(self) -> CalibrationSet:
        """Requests that are sampled like traffic from the training data; every artefact contains them."""
        return load_calibration(self.artefact / CALIBRATION_FILE, self.spec, self.vocabulary_sha256)

    @cached_property
    def export_report(self) -> dict[str, Any]:
        """Content of the export's report.json."""
        return dict(json.loads((self.artefact / REPORT_FILE).read_text(encoding="utf-8")))

    def run(self) -> Config:
        """Return the settings of the run.

        Raises:
            CannotMeasureError: The subject is an export folder alone.
        """
        if self.config is None:
            raise CannotMeasureError("needs the teacher and the students of a run, and --artefact names an export folder alone")
        return with_sizes_of_data(self.config)

    def quality(self, evaluated_as: EvaluatedAs) -> dict[str, Any]:
        """Return NDCG@10 and retention of a model, as far as they were measured, or the reason why not.

        They come from the evaluation of the run, or, for an export folder alone, from its report.json.
        """
        if self.config is None:
            measured = self.export_report["precisions"].get(evaluated_as, {})
            return {"ndcg@10": measured["ndcg"], "judged_by": "validation users"} if "ndcg" in measured else {}
        folder, evaluate = run_dir(self.config) / "evaluation", f"distilrec evaluate --preset {self.config.name}"
        if not (folder / JSON_FILE).is_file():
            return {"not_judged": f"found no {folder / JSON_FILE}; make it with: {evaluate}"}
        if read_manifest(folder).inputs.get(f"{self.config.name}/{self.artefact.name}") != self.manifest.digest:
            return {"not_judged": f"{folder} is of another export; evaluate this one: {evaluate}"}
        evaluation = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
        return _quality(evaluation, _evaluated_model_name(evaluation, evaluated_as))


def of_run(config: Config) -> Subject:
    """Return the run of these settings as a subject.

    Raises:
        ManifestError: The run is not finished.
    """
    return _subject(served_artefact(config), config)


def of_artefact(folder: Path) -> Subject:
    """Return an export folder as a subject.

    Raises:
        ManifestError: The folder is not a finished export.
    """
    return _subject(folder, None)


def _subject(artefact: Path, config: Config | None) -> Subject:
    manifest = read_manifest(artefact)
    return Subject(artefact, manifest, config, spec_of_artefact(manifest))


def _evaluated_model_name(evaluation: dict[str, Any], evaluated_as: EvaluatedAs) -> str:
    if isinstance(evaluated_as, Precision):
        return exported_model_name(evaluated_as.value)
    return str(evaluation["roles"][evaluated_as])


def _quality(evaluation: dict[str, Any], model: str) -> dict[str, Any]:
    all_users, metric = evaluation["evaluation"]["everybody"], evaluation["evaluation"]["primary"]
    if model not in all_users["estimates"]:
        return {"not_judged": f"the evaluation has no {model}"}
    estimate = all_users["estimates"][model][metric]
    to_teacher = all_users["differences"].get(evaluation["roles"]["teacher"], {}).get(model, {}).get(metric, {"relative": 0.0})
    quality = {metric: estimate["mean"], f"{metric}_low": estimate["low"], f"{metric}_high": estimate["high"]}
    if to_teacher["relative"] is not None:
        quality["retention"] = 1 + to_teacher["relative"]
    users = f"{all_users['users']:,} {evaluation['split']} users, {len(evaluation['seeds'])} seed(s)"
    return quality | {"judged_as": model, "judged_by": users}
