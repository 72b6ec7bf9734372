"""The report's tables, as cells of text: the HTML and the Markdown report show the same ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distilrec.report.content import ReportContent
from distilrec.report.model_styles import SERVED_MODEL_STYLES, evaluated_model_name, model_style
from distilrec.report.number_format import megabytes, milliseconds, number_with_interval, percent, share_with_interval, times


@dataclass(frozen=True)
class ReportTable:
    """A table of text cells; the first column names the row."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def quality(content: ReportContent) -> ReportTable:
    """List all evaluated models with ranking quality, retention, gain and size."""
    evaluation = content.evaluation
    rows = [
        (
            model.name + (" (served)" if model.name == content.served_model else ""),
            number_with_interval(model.quality),
            f"{model.hit_rate:.4f}",
            "" if model.gain is None else number_with_interval(model.gain, "+"),
            "" if model.retention is None else share_with_interval(model.retention),
            f"{model.parameters:,}",
        )
        for model in evaluation.models.values()
    ]
    hit_rate = evaluation.metric.replace("NDCG", "HR")
    headings = ("", evaluation.metric, hit_rate, "less the student without a teacher", "kept of the teacher", "parameters")
    return ReportTable(headings, tuple(rows))


def cold(content: ReportContent) -> ReportTable | None:
    """List how well each model recommends items that nobody has touched; None where that was not evaluated."""
    if content.cold is None:
        return None
    hits = content.evaluation.metric.replace("NDCG", "HR")
    answers = list(dict.fromkeys(name for model in content.cold.models for name in model.gains))
    rows = [
        (
            model.name,
            number_with_interval(model.hit_rate),
            *(number_with_interval(model.gains[name], "+") if name in model.gains else "" for name in answers),
            f"{model.quality:.4f}",
            f"{model.hit_rate_among:.4f}",
        )
        for model in content.cold.models
    ]
    headings = ("", hits, *(f"less {name}" for name in answers), content.evaluation.metric, f"{hits} among these items")
    return ReportTable(headings, tuple(rows))


def cost(content: ReportContent) -> ReportTable | None:
    """List what a request to each timed model costs; None without benchmarks."""
    if content.benchmarks is None or not content.benchmarks.models:
        return None
    names = list(dict.fromkeys(row.model for row in content.benchmarks.models))
    batches = sorted({row.batch for row in content.benchmarks.models})
    rows = []
    for name in names:
        timed = {batch: content.benchmarks.model(name, batch) for batch in batches}
        first = next(row for row in timed.values() if row is not None)
        model = content.evaluation.models.get(evaluated_model_name(content.evaluation, name))
        family = "student, ONNX " if name.startswith("student-onnx") else ""
        rows.append(
            (
                family + model_style(name).label,
                "" if first.ndcg is None or model is None else f"{first.ndcg:.4f}",
                *("" if row is None else milliseconds(row.p50_ms) for row in timed.values()),
                megabytes(first.size_bytes),
                megabytes(first.resident_bytes),
            )
        )
    headings = ("", content.evaluation.metric, *(f"p50 ms, batch {batch}" for batch in batches), "on disk", "memory of a process")
    return ReportTable(headings, tuple(rows))


def precisions(content: ReportContent) -> ReportTable:
    """List what the export measured of each precision on validation users."""
    rows: list[tuple[str, ...]] = []
    for name, measured in content.export["precisions"].items():
        if "refused" in measured:
            rows.append((f"{name.upper()}: could not be made", "", "", "", "", ""))
            continue
        kept = [f"{measured[f'overlap_at_{k}']:.4f}" for k in (10, 100)]
        cells = (f"{measured['ndcg']:.4f}", percent(measured["ndcg_loss"], "+"), *kept)
        rows.append((name.upper(), *cells, milliseconds(measured["p50_ms"]), megabytes(measured["size_bytes"])))
    headings = ("validation users", "NDCG@10", "lost", "top 10 kept", "top 100 kept", "p50 ms", "on disk")
    return ReportTable(headings, tuple(rows))


def serving(content: ReportContent) -> ReportTable | None:
    """List times through the live server: client and server apart, and next to the model that does no work."""
    if content.benchmarks is None or not content.benchmarks.serving:
        return None
    times_of_identity = {row.concurrency: row for row in content.benchmarks.serving if row.model == "identity"}
    rows = []
    for row in sorted(content.benchmarks.serving, key=lambda row: row.concurrency):
        identity = times_of_identity.get(row.concurrency)
        rows.append(
            (
                SERVED_MODEL_STYLES[row.model].label if row.model in SERVED_MODEL_STYLES else row.model,
                str(row.concurrency),
                f"{row.requests_per_s:,.0f}",
                milliseconds(row.p50_ms),
                "" if identity is None else f"{row.p50_ms / identity.p50_ms:.2f}x",
                "" if row.p99_ms is None else milliseconds(row.p99_ms),
                milliseconds(row.client_side_ms),
                milliseconds(row.queue_ms),
                milliseconds(row.compute_infer_ms),
                f"{row.mean_batch_size:.1f}",
            )
        )
    headings = (
        "",
        "in flight",
        "requests/s",
        "p50 ms",
        "of identity's",
        "p99 ms",
        "client and wire ms",
        "queue ms",
        "compute ms",
        "batch",
    )
    return ReportTable(headings, tuple(rows))


def scale(content: ReportContent) -> ReportTable | None:
    """List how request time grows, next to the least time that the machine allows."""
    if content.benchmarks is None or not content.benchmarks.scale:
        return None
    rows = [
        (
            f"{row.items:,}",
            str(row.history),
            str(row.batch),
            row.precision.upper(),
            milliseconds(row.p50_ms),
            milliseconds(row.limit_ms),
            times(row.times_limit),
            megabytes(row.size_bytes),
        )
        for row in content.benchmarks.scale
    ]
    return ReportTable(("items", "history", "batch", "precision", "p50 ms", "limit ms", "of the limit", "on disk"), tuple(rows))


def training(content: ReportContent) -> ReportTable:
    """List the duration of each stage, and the speed of each training that was measured."""
    rows: list[tuple[str, ...]] = []
    for row in content.benchmarks.training if content.benchmarks else ():
        cache = "" if row.cache_bytes is None else f"; soft targets take {megabytes(row.cache_bytes)}"
        rows.append((row.who, f"{row.examples_per_s:,.0f} examples/s{cache}", f"{row.seconds_an_epoch:.1f} s an epoch"))
    for stage, manifest in content.stages.items():
        epochs = manifest.metrics.get("epochs")
        rows.append((f"stage {stage}", f"{epochs} epochs" if epochs else "", f"{manifest.metrics['seconds']:,.0f} s"))
    return ReportTable(("", "speed", "time"), tuple(rows))


def load(content: ReportContent) -> ReportTable | None:
    """List each request rate that ``distilrec load`` tried."""
    if content.load is None:
        return None
    runs: Sequence[dict[str, Any]] = content.load.get("search", {}).get("probes") or [content.load["result"]]
    rows = []
    for run in runs:
        quantiles = [run["latency"].get(name) for name in ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms")]
        rate = run.get("rate_per_s")
        rows.append(
            (
                "closed loop" if rate is None else f"{rate:,.0f}",
                f"{run['achieved_rate_per_s']:,.0f}",
                f"{run['requests']['answered']:,}",
                f"{run['requests']['failed']:,}",
                *("" if value is None else milliseconds(value) for value in quantiles),
                "yes" if run.get("client_bottleneck") else "no",
            )
        )
    headings = ("requests/s sent", "reached", "answered", "failed", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "client too slow")
    return ReportTable(headings, tuple(rows))


def peers(content: ReportContent) -> ReportTable | None:
    """List other recommenders next to the student; a recommender that was not measured has a reason instead of numbers."""
    if content.peers is None:
        return None
    rows = []
    for name, measured in content.peers["contenders"].items():
        if "not_measured" in measured:
            rows.append((name, "", "", f"not measured: {measured['not_measured']}"))
        else:
            spread = f"in most rounds {measured['ratio_p10']:.2f} to {measured['ratio_p90']:.2f}"
            is_reference = name == content.peers["reference"]
            ms = milliseconds(measured["seconds_per_request"] * 1000)
            rows.append((name, ms, times(measured["ratio"]), "" if is_reference else spread))
    return ReportTable(("one request, one thread", "ms", "times the student's", ""), tuple(rows))


def provenance(content: ReportContent) -> ReportTable:
    """List what was measured, and on which machine."""
    artefact, machine = content.artefact, content.export["machine"]
    rows = [
        ("run", content.run),
        ("seeds evaluated", ", ".join(map(str, content.evaluation.seeds))),
        ("export", f"{artefact.digest}, {machine['processor']}, {machine['system']}"),
        *((f"made from {name}", digest) for name, digest in artefact.inputs.items()),
        ("versions", ", ".join(f"{name} {version}" for name, version in artefact.versions.items())),
    ]
    if content.benchmarks is not None:
        benchmark_machine = content.benchmarks.machine
        features = ", ".join(benchmark_machine.cpu_features) or "none of those looked for"
        cores, gpu = f"{benchmark_machine.cores} cores ({features})", benchmark_machine.gpu or "no GPU"
        rows += [
            ("benchmarks", f"{content.benchmarks.measured_at}, commit {content.benchmarks.commit}"),
            ("benchmarks' machine", f"{benchmark_machine.processor}, {cores}, {gpu}"),
        ]
    return ReportTable(("", ""), tuple(rows))


def settings(content: ReportContent) -> ReportTable:
    """List the settings of all stages."""
    rows = [
        (f"{stage}: {name}", str(value))
        for stage, manifest in content.stages.items()
        for name, value in sorted(manifest.settings.items())
    ]
    return ReportTable(("setting", "value"), tuple(rows))
