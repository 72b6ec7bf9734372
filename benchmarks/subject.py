"""What is measured: a finished run, or an export folder alone."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from distilrec.config import Config, spec_of_artefact
from distilrec.core.manifest import Manifest, read_manifest
from distilrec.core.specs import Precision, RecommenderSpec
from distilrec.evaluation.report import JSON_FILE
from distilrec.pipeline.stages import run_dir, served_artefact
from export.artefact import CALIBRATION_FILE, REPORT_FILE
from export.graph.calibration import CalibrationSet, load_calibration

Judged = Literal["teacher", "undistilled", "distilled"] | Precision
"""How a model is known to the evaluation: by its role, or as a precision of the export."""


class MissingError(Exception):
    """Something cannot be measured; the message says what is missing."""


@dataclass(frozen=True)
class Subject:
    """What is measured, and with which requests."""

    artefact: Path
    """Export folder."""
    manifest: Manifest
    """Of the artefact."""
    config: Config | None
    """Of the run; None where there is an export folder alone."""
    spec: RecommenderSpec

    @property
    def vocabulary_sha256(self) -> str:
        """Of the items that are recommended."""
        return str(self.manifest.metrics["vocabulary_sha256"])

    @cached_property
    def requests(self) -> CalibrationSet:
        """Training requests shaped like traffic, which travel with every artefact."""
        return load_calibration(self.artefact / CALIBRATION_FILE, self.spec, self.vocabulary_sha256)

    @cached_property
    def export_report(self) -> dict[str, Any]:
        """What the export measured."""
        return dict(json.loads((self.artefact / REPORT_FILE).read_text(encoding="utf-8")))

    def run(self) -> Config:
        """Settings of the run.

        Raises:
            MissingError: there is an export folder alone.
        """
        if self.config is None:
            raise MissingError("needs the teacher and the students of a run, and --artefact names an export folder alone")
        return self.config

    def quality(self, judged: Judged) -> dict[str, Any]:
        """NDCG@10 and retention of a model, as far as somebody has measured them, or why not.

        Where there is a run, by its evaluation; where there is an artefact alone, by what its own report says of a precision.
        """
        if self.config is None:
            found = self.export_report["precisions"].get(judged, {})
            return {"ndcg@10": found["ndcg"], "judged_by": "validation users"} if "ndcg" in found else {}
        folder = run_dir(self.config) / "evaluation"
        if not (folder / JSON_FILE).is_file():
            return {"not_judged": f"found no {folder / JSON_FILE}; make it with: distilrec evaluate --preset {self.config.name}"}
        if read_manifest(folder).inputs.get(f"{self.config.name}/{self.artefact.name}") != self.manifest.digest:
            return {"not_judged": f"{folder} is of another export; judge this one: distilrec evaluate --preset {self.config.name}"}
        report = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
        return _quality(report, _hop(report, judged))


def of_run(config: Config) -> Subject:
    """The run of these settings.

    Raises:
        ManifestError: it is not finished.
    """
    return _subject(served_artefact(config), config)


def of_artefact(folder: Path) -> Subject:
    """An export folder.

    Raises:
        ManifestError: it is none.
    """
    return _subject(folder, None)


def _subject(artefact: Path, config: Config | None) -> Subject:
    manifest = read_manifest(artefact)
    return Subject(artefact, manifest, config, spec_of_artefact(manifest))


def _hop(report: dict[str, Any], judged: Judged) -> str:
    return f"distilled, ONNX {judged.value.upper()}" if isinstance(judged, Precision) else str(report["roles"][judged])


def _quality(report: dict[str, Any], hop: str) -> dict[str, Any]:
    everybody, metric = report["evaluation"]["everybody"], report["evaluation"]["primary"]
    if hop not in everybody["estimates"]:
        return {"not_judged": f"the evaluation has no {hop}"}
    estimate = everybody["estimates"][hop][metric]
    to_teacher = everybody["differences"][report["roles"]["teacher"]].get(hop, {}).get(metric, {"relative": 0.0})
    quality = {metric: estimate["mean"], f"{metric}_low": estimate["low"], f"{metric}_high": estimate["high"]}
    if to_teacher["relative"] is not None:
        quality["retention"] = 1 + to_teacher["relative"]
    judges = f"{everybody['users']:,} {report['split']} users, {len(report['seeds'])} seed(s)"
    return quality | {"judged_as": hop, "judged_by": judges}
