"""Fills the tables of README and docs from ``benchmarks/results``, between ``<!-- results: NAME -->`` and ``<!-- end -->``.

A table whose results are not recorded yet stays as it is, and its name is printed. ``--check`` changes nothing and fails where
a document and the results differ.

Example: python -m benchmarks.record --preset ml-100k && python -m benchmarks.readme
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.peers.table import peers_table
from benchmarks.record import PRECISIONS_FILE, RESULTS, STAGES_FILE
from distilrec.core.files import write_text
from distilrec.core.tables import markdown_table
from distilrec.evaluation.report import JSON_FILE
from distilrec.pipeline.folders import MIXED_TARGETS, TEACHERS_VERDICT
from distilrec.report.benchmark_file import read_benchmark_file
from distilrec.report.content import BENCHMARK_FILE, PEERS_FILE
from distilrec.report.evaluation_file import EvaluatedModel, EvaluationFile, exported_model_name, read_evaluation_file
from distilrec.report.model_styles import SERVED_MODEL_STYLES, model_style
from distilrec.report.number_format import megabytes, milliseconds, number_with_interval, percent, share_with_interval, times

ROOT = Path(__file__).parents[1]
DOCUMENTS = tuple(ROOT / name for name in ("README.md", "docs/results.md", "docs/load.md"))
"""Documents with tables."""

DATA_SETS = {
    "amazon-beauty": "Amazon Beauty",
    "ml-100k": "MovieLens-100K",
    "online-retail": "Online Retail",
    "30music": "30Music",
    "diginetica": "DIGINETICA",
}
"""Title of each recorded run, in the order of the tables."""

TIMED_RUNS = DATA_SETS | {"ml-100k-text": "MovieLens-100K"}
"""Title of each run whose models were timed; the last is the demo's run with a text teacher (benchmarks/ml-100k-text.toml)."""

_STUDENT, _TEXT_TEACHER = "student-onnx-fp32", "text-teacher-torch"
_SHOWN_MODELS = ["teacher-torch", "teacher-onnx", "distilled-torch", _STUDENT, "student-onnx-fp16", "student-onnx-int8"]
_IN_FLIGHT = 32
"""Requests in flight in the throughput columns: the most that ``benchmarks/test_serving.py`` measures."""
_SHOWN_HISTORY = 50
"""History length in the table of catalogue sizes: the presets' own."""
_BLOCK = re.compile(r"(<!-- results: (?P<name>[\w-]+) -->\n)(?P<content>.*?)(<!-- end -->)", re.DOTALL)


def fill(text: str, results: Path) -> tuple[str, list[str]]:
    """Fill all blocks; returns the text, and the names of the blocks whose results are not recorded.

    Args:
        text: Content of a document.
        results: Folder with one folder for each run.

    Raises:
        KeyError: A block has an unknown name.
    """
    not_recorded = []

    def filled(block: re.Match[str]) -> str:
        content = TABLES[block["name"]](results)
        if content is None:
            not_recorded.append(block["name"])
            return block[0]
        return f"{block[1]}{content.replace(chr(0xA0), ' ')}\n{block[4]}"

    return _BLOCK.sub(filled, text), not_recorded


def distillation(results: Path) -> str | None:
    """Compare teacher, undistilled student, distilled student and its INT8 export, by data set."""
    rows: list[list[str]] = []
    notes = []
    for run, title in DATA_SETS.items():
        path = results / run / JSON_FILE
        if path.exists():
            evaluation = read_evaluation_file(path)
            rows += _evaluated_models(title, evaluation, _teachers(results / run))
            seeds = f"mean of {len(evaluation.seeds)} seeds" if len(evaluation.seeds) > 1 else "one seed"
            notes.append(f"{title}: {evaluation.users:,} {evaluation.split} users, {seeds}")
    if not rows:
        return None
    headings = ["", "NDCG@10", "HR@10", "less undistilled", "kept of the teacher", "parameters"]
    return f"{markdown_table(headings, rows)}\n\n{'; '.join(notes)}. In brackets: 95 % intervals over users."


def precisions(results: Path) -> str | None:
    """Show what the export measured of each precision on validation users."""
    rows = [
        [f"{title}, {name.upper()}", *_precision(measured)]
        for run, title in DATA_SETS.items()
        for name, measured in reversed(_precisions(results / run).items())
        if "refused" not in measured
    ]
    headings = ["validation users, one thread", "NDCG@10", "lost", "top 10 kept", "top 100 kept", "bytes", "p50 ms"]
    return markdown_table(headings, rows) if rows else None


def speed(results: Path) -> str | None:
    """Compare one request to each model, on one thread, with the student in FP32 of the same benchmark run."""
    rows = [
        row for run, title in TIMED_RUNS.items() if (path := results / run / BENCHMARK_FILE).exists() for row in _timed(title, path)
    ]
    headings = ["one request, one thread", "p50 ms", "times the student", "memory of a process"]
    return markdown_table(headings, rows) if rows else None


def serving(results: Path) -> str | None:
    """Compare the served models with a model that has the same tensors and does no work, through a live server."""
    rows = [
        row for run, title in DATA_SETS.items() if (path := results / run / BENCHMARK_FILE).exists() for row in _served(title, path)
    ]
    headings = ["over gRPC", "p50 ms, one in flight", "of identity's", f"requests/s, {_IN_FLIGHT} in flight", "of identity's"]
    return markdown_table(headings, rows) if rows else None


def catalogue_size(results: Path) -> str | None:
    """Compare FP32, INT8 and the machine's limit by catalogue size, for one request, of the first run that measured them."""
    for run in DATA_SETS:
        path = results / run / BENCHMARK_FILE
        rows = list(_sizes(path)) if path.exists() else []
        if rows:
            headings = ["items (random)", "FP32 ms", "INT8 ms", "INT8 is faster by", "bytes of INT8", "FP32 at its limit", "INT8"]
            return markdown_table(headings, rows)
    return None


def peers(results: Path) -> str | None:
    """Compare the student with other people's recommenders, of the first run that measured them."""
    for run in DATA_SETS:
        path = results / run / PEERS_FILE
        if path.exists():
            return peers_table(json.loads(path.read_text(encoding="utf-8")))
    return None


TABLES: dict[str, Callable[[Path], str | None]] = {
    "distillation": distillation,
    "precisions": precisions,
    "speed": speed,
    "serving": serving,
    "catalogue-size": catalogue_size,
    "peers": peers,
}
"""Function that makes the content of each block; it returns None where nothing is recorded."""


def _evaluated_models(title: str, evaluation: EvaluationFile, teachers: str) -> Iterator[list[str]]:
    int8 = exported_model_name("int8")
    labels = {evaluation.teacher: f"teacher ({teachers})", evaluation.undistilled: "student, no teacher"}
    labels |= {evaluation.distilled: "student, distilled", int8: int8}
    for name, label in labels.items():
        if name in evaluation.models:
            yield _evaluated_model(f"{title}: {label}", evaluation.models[name])


def _evaluated_model(label: str, model: EvaluatedModel) -> list[str]:
    gain = "" if model.gain is None else number_with_interval(model.gain, "+")
    kept = "" if model.retention is None else share_with_interval(model.retention)
    return [label, number_with_interval(model.quality), f"{model.hit_rate:.4f}", gain, kept, f"{model.parameters:,}"]


def _teachers(folder: Path) -> str:
    """Names of the teachers that a recorded run's student was distilled from."""
    stages = json.loads((folder / STAGES_FILE).read_text(encoding="utf-8"))["stages"]
    if MIXED_TARGETS in stages:  # the weights were found
        return " + ".join(stages[TEACHERS_VERDICT]["metrics"]["weights"])
    *_, targets = (stage.removeprefix("targets-") for stage in stages if stage.startswith("targets-"))
    return str(targets).replace("+", " + ")


def _precisions(folder: Path) -> dict[str, Any]:
    path = folder / PRECISIONS_FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))["precisions"]) if path.exists() else {}


def _precision(measured: dict[str, Any]) -> list[str]:
    lost = percent(measured["ndcg_loss"]) if measured["ndcg_loss"] else ""
    kept = [f"{measured[f'overlap_at_{k}']:.4f}" if lost or measured["overlap_at_10"] < 1 else "" for k in (10, 100)]
    return [f"{measured['ndcg']:.4f}", lost, *kept, f"{measured['size_bytes']:,}", f"{measured['p50_ms']:.3f}"]


def _timed(title: str, path: Path) -> Iterator[list[str]]:
    benchmarks = read_benchmark_file(path)
    student = benchmarks.model(_STUDENT)
    shown = [_TEXT_TEACHER] if path.parent.name not in DATA_SETS else _SHOWN_MODELS
    for row in (benchmarks.model(name) for name in shown):
        if row is not None and student is not None:
            ratio = "" if row is student else times(row.p50_ms / student.p50_ms)
            yield [f"{title}: {_timed_label(row.model)}", milliseconds(row.p50_ms), ratio, megabytes(row.resident_bytes)]


def _timed_label(model: str) -> str:
    label = model_style(model).label
    return f"student, {label}" if model.startswith(("distilled", "student")) else label


def _served(title: str, path: Path) -> Iterator[list[str]]:
    rows = {(row.model, row.concurrency): row for row in read_benchmark_file(path).serving}
    for model, style in SERVED_MODEL_STYLES.items():
        single, loaded = rows.get((model, 1)), rows.get((model, _IN_FLIGHT))
        if single is not None and loaded is not None:
            identity_single, identity_loaded = rows["identity", 1], rows["identity", _IN_FLIGHT]
            yield [
                f"{title}: {style.label}",
                milliseconds(single.p50_ms),
                f"{single.p50_ms / identity_single.p50_ms:.2f}x",
                f"{loaded.requests_per_s:,.0f}",
                f"{loaded.requests_per_s / identity_loaded.requests_per_s:.2f}x",
            ]


def _sizes(path: Path) -> Iterator[list[str]]:
    benchmarks = read_benchmark_file(path).scale
    rows = {(row.items, row.precision): row for row in benchmarks if row.batch == 1 and row.history == _SHOWN_HISTORY}
    for items in sorted({items for items, _ in rows}):
        fp32, int8 = rows.get((items, "fp32")), rows.get((items, "int8"))
        if fp32 is not None and int8 is not None:
            yield [
                f"{items:,}",
                milliseconds(fp32.p50_ms),
                milliseconds(int8.p50_ms),
                f"{fp32.p50_ms / int8.p50_ms:.1f}x",
                f"{int8.size_of_fp32:.0%} of FP32".replace("%", " %"),
                f"{fp32.times_limit:.1f}x",
                f"{int8.times_limit:.1f}x",
            ]


def main() -> int:
    """Fill the tables, or check them; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where documents and results differ")
    options, status = parser.parse_args(), 0
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        filled, not_recorded = fill(text, RESULTS)
        for name in not_recorded:
            print(f"{path.name}: {name}: not recorded yet, left as it is", file=sys.stderr)
        if filled == text:
            continue
        if options.check:
            found = f"{path.name}: found other numbers than in benchmarks/results"
            print(f"{found}; fill it with: python -m benchmarks.readme", file=sys.stderr)
            status = 1
        else:
            write_text(path, filled)
    return status


if __name__ == "__main__":
    sys.exit(main())
