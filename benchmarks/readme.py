"""Fills the README's tables from ``benchmarks/results``, between ``<!-- results: NAME -->`` and ``<!-- end -->``.

A table whose results are not recorded yet stays as it is, and that is said. ``--check`` changes nothing and fails where README and
results differ.

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
from distilrec.report.benchmark_file import read_benchmarks
from distilrec.report.collect import BENCHMARK_FILE, PEERS_FILE
from distilrec.report.judgement import HopRow, Judgement, read_judgement
from distilrec.report.names import SERVED, look, megabytes, milliseconds, number_with_interval, percent, share_with_interval, times

README = Path(__file__).parents[1] / "README.md"

DATA_SETS = {"amazon-beauty": "Amazon Beauty", "ml-100k": "MovieLens-100K"}
"""Title of each recorded run, in the order of the tables."""

TIMED = DATA_SETS | {"ml-100k-text": "MovieLens-100K"}
"""Runs whose models were timed; the last is the demo's with a text teacher beside it (benchmarks/ml-100k-text.toml)."""

_STUDENT, _TEXT_TEACHER = "distilled-onnx-fp32", "text-teacher-torch"
_SHOWN = ["teacher-torch", "teacher-onnx", "distilled-torch", _STUDENT, "distilled-onnx-fp16", "distilled-onnx-int8"]
_IN_FLIGHT = 32
_BLOCK = re.compile(r"(<!-- results: (?P<name>[\w-]+) -->\n)(?P<content>.*?)(<!-- end -->)", re.DOTALL)


def fill(text: str, results: Path) -> tuple[str, list[str]]:
    """The text with all blocks filled, and the names of those whose results are not recorded.

    Args:
        text: of the README.
        results: folder with a folder for each run.

    Raises:
        KeyError: a block has a name that nothing is known of.
    """
    left = []

    def filled(block: re.Match[str]) -> str:
        made = TABLES[block["name"]](results)
        if made is None:
            left.append(block["name"])
            return block[0]
        return f"{block[1]}{made.replace(chr(0xA0), ' ')}\n{block[4]}"

    return _BLOCK.sub(filled, text), left


def distillation(results: Path) -> str | None:
    """Teacher, student without, student with, and what is left of that in INT8; by data set."""
    rows: list[list[str]] = []
    notes = []
    for name, title in DATA_SETS.items():
        path = results / name / JSON_FILE
        if path.exists():
            judgement = read_judgement(path)
            rows += _hops(title, judgement, _teachers(results / name))
            seeds = f"mean of {len(judgement.seeds)} seeds" if len(judgement.seeds) > 1 else "one seed"
            notes.append(f"{title}: {judgement.users:,} {judgement.split} users, {seeds}")
    if not rows:
        return None
    headings = ["", "NDCG@10", "HR@10", "less undistilled", "kept of the teacher", "parameters"]
    return f"{markdown_table(headings, rows)}\n\n{'; '.join(notes)}. In brackets: 95 % intervals over users."


def precisions(results: Path) -> str | None:
    """What the export measured of each precision, on validation users."""
    rows = [
        [f"{title}, {name.upper()}", *_precision(found)]
        for run, title in DATA_SETS.items()
        for name, found in reversed(_precisions(results / run).items())
        if "refused" not in found
    ]
    headings = ["validation users, one thread", "NDCG@10", "lost", "top 10 kept", "top 100 kept", "bytes", "p50 ms"]
    return markdown_table(headings, rows) if rows else None


def speed(results: Path) -> str | None:
    """One request on one thread: each model beside the student in FP32, which was timed in the same run."""
    rows = [row for run, title in TIMED.items() if (path := results / run / BENCHMARK_FILE).exists() for row in _timed(title, path)]
    headings = ["one request, one thread", "p50 ms", "times the student", "memory of a process"]
    return markdown_table(headings, rows) if rows else None


def serving(results: Path) -> str | None:
    """Through a live server, beside a model with the same tensors that does no work."""
    rows = [
        row for run, title in DATA_SETS.items() if (path := results / run / BENCHMARK_FILE).exists() for row in _served(title, path)
    ]
    headings = ["over gRPC", "p50 ms, one in flight", "of identity's", f"requests/s, {_IN_FLIGHT} in flight", "of identity's"]
    return markdown_table(headings, rows) if rows else None


def catalogue_size(results: Path) -> str | None:
    """FP32 and INT8 by catalogue, one request, beside the machine's limit; of the first run that has it."""
    for run in DATA_SETS:
        path = results / run / BENCHMARK_FILE
        rows = list(_sizes(path)) if path.exists() else []
        if rows:
            headings = ["items (random)", "FP32 ms", "INT8 ms", "INT8 is faster by", "bytes of INT8", "FP32 at its limit", "INT8"]
            return markdown_table(headings, rows)
    return None


def peers(results: Path) -> str | None:
    """The student beside other people's recommenders; of the first run that has it."""
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
"""What makes each block; None where nothing is recorded."""


def _hops(title: str, judgement: Judgement, teachers: str) -> Iterator[list[str]]:
    int8 = "distilled, ONNX INT8"
    names = {judgement.teacher: f"teacher ({teachers})", judgement.undistilled: "student, no teacher"}
    names |= {judgement.distilled: "student, distilled", int8: "distilled, ONNX INT8"}
    for hop, name in names.items():
        if hop in judgement.hops:
            yield _hop(f"{title}: {name}", judgement.hops[hop])


def _hop(name: str, hop: HopRow) -> list[str]:
    gain = "" if hop.gain is None else number_with_interval(hop.gain, "+")
    kept = "" if hop.retention is None else share_with_interval(hop.retention)
    return [name, number_with_interval(hop.quality), f"{hop.hit_rate:.4f}", gain, kept, f"{hop.parameters:,}"]


def _teachers(folder: Path) -> str:
    """Names of the teachers that the student of a recorded run has learned from."""
    stages = json.loads((folder / STAGES_FILE).read_text(encoding="utf-8"))["stages"]
    *_, taught_by = (stage.removeprefix("targets-") for stage in stages if stage.startswith("targets-"))
    return str(taught_by).replace("+", " + ")


def _precisions(folder: Path) -> dict[str, Any]:
    path = folder / PRECISIONS_FILE
    return dict(json.loads(path.read_text(encoding="utf-8"))["precisions"]) if path.exists() else {}


def _precision(found: dict[str, Any]) -> list[str]:
    lost = percent(found["ndcg_loss"]) if found["ndcg_loss"] else ""
    kept = [f"{found[f'overlap_at_{k}']:.4f}" if lost or found["overlap_at_10"] < 1 else "" for k in (10, 100)]
    return [f"{found['ndcg']:.4f}", lost, *kept, f"{found['size_bytes']:,}", f"{found['p50_ms']:.3f}"]


def _timed(title: str, path: Path) -> Iterator[list[str]]:
    found = read_benchmarks(path)
    student = found.model(_STUDENT)
    shown = [_TEXT_TEACHER] if path.parent.name not in DATA_SETS else _SHOWN
    for row in (found.model(name) for name in shown):
        if row is not None and student is not None:
            ratio = "" if row is student else times(row.p50_ms / student.p50_ms)
            yield [f"{title}: {_timed_name(row.model)}", milliseconds(row.p50_ms), ratio, megabytes(row.resident_bytes)]


def _timed_name(model: str) -> str:
    return f"student, {look(model).label}" if model.startswith("distilled") else look(model).label


def _served(title: str, path: Path) -> Iterator[list[str]]:
    found = {(row.model, row.concurrency): row for row in read_benchmarks(path).serving}
    for model, name in SERVED.items():
        alone, together = found.get((model, 1)), found.get((model, _IN_FLIGHT))
        if alone is not None and together is not None:
            floor, most = found["identity", 1], found["identity", _IN_FLIGHT]
            yield [
                f"{title}: {name.label}",
                milliseconds(alone.p50_ms),
                f"{alone.p50_ms / floor.p50_ms:.2f}x",
                f"{together.requests_per_s:,.0f}",
                f"{together.requests_per_s / most.requests_per_s:.2f}x",
            ]


def _sizes(path: Path) -> Iterator[list[str]]:
    found = read_benchmarks(path).scale
    usual = {(row.items, row.precision): row for row in found if row.batch == 1 and row.history == 50}
    for items in sorted({items for items, _ in usual}):
        fp32, int8 = usual.get((items, "fp32")), usual.get((items, "int8"))
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
    """Fill, or check; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where README and results differ")
    asked = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    filled, left = fill(text, RESULTS)
    for name in left:
        print(f"{name}: not recorded yet, left as it is", file=sys.stderr)
    if filled == text:
        return 0
    if asked.check:
        print(
            "README.md: found other numbers than in benchmarks/results; fill it with: python -m benchmarks.readme", file=sys.stderr
        )
        return 1
    write_text(README, filled)
    return 0


if __name__ == "__main__":
    sys.exit(main())
