"""Metrics of drift, read from what ``distilrec drift`` has written into the repository."""

import json
from pathlib import Path

from export.repository.versions import DRIFT_FILE

_GAUGES = {
    "unknown_share": ("distilrec_drift_unknown_share", "Share of unknown items in the histories of recorded requests."),
    "popularity_index": ("distilrec_drift_popularity_index", "Population stability index of item popularity against training."),
    "length_index": ("distilrec_drift_history_length_index", "Population stability index of history lengths against training."),
    "requests": ("distilrec_drift_requests", "Recorded requests that were compared with training."),
    "measured_at_s": ("distilrec_drift_measured_timestamp_seconds", "When drift was last measured."),
}


def drift_metrics(repository: Path) -> list[str]:
    """Lines in Prometheus' text format; none where drift was never measured, and none of a figure that is not known."""
    try:
        found = json.loads((repository / DRIFT_FILE).read_text(encoding="utf-8"))
        known = {name: found[name] for name in _GAUGES if isinstance(found.get(name), int | float)}
    except (OSError, ValueError, AttributeError):  # the next measurement writes the file again
        return []
    return [
        line
        for name, value in known.items()
        for metric, text in [_GAUGES[name]]
        for line in (f"# HELP {metric} {text}", f"# TYPE {metric} gauge", f"{metric} {value}")
    ]
