"""Recorded live requests against the training of a finished run."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distilrec.config import Config
from distilrec.core.files import write_text
from distilrec.core.recorded import read_requests
from distilrec.data import stage as data_stage
from distilrec.evaluation.drift import Drift, measure_drift
from distilrec.pipeline.finished import served_artefact
from distilrec.pipeline.folders import REFRESHED_DATA, REFRESHED_EXPORT, run_dir


def measure(config: Config, requests: Path, most: int) -> tuple[Drift, int]:
    """Compare recorded requests with what the served export of a run was trained on.

    Args:
        config: Settings of the run.
        requests: File or folder of recorded requests.
        most: Newest requests that count, at most.

    Returns:
        The drift, and the number of lines that could not be read.

    Raises:
        DataError: there are no recorded requests.
        ManifestError: the run is not finished.
    """
    refreshed = served_artefact(config).name == REFRESHED_EXPORT
    dataset, vocabulary = data_stage.load(run_dir(config) / (REFRESHED_DATA if refreshed else "data"))
    recorded, broken = read_requests(requests)
    histories = [vocabulary.encode(request.history) for request in recorded[-most:]]
    return measure_drift(histories, dataset.training_counts(), dataset.validation_start, config.history_length), broken


def write(drift: Drift, path: Path) -> None:
    """Write what was found as JSON, for the watchdog's metrics and the page that is reviewed before a version is approved."""
    found: dict[str, Any] = {"reason": drift.reason, "drifted": drift.drifted, "measured_at_s": round(time.time())}
    write_text(path, json.dumps(found | asdict(drift), indent=2) + "\n")
