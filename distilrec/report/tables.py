"""The report's tables, as cells of text: HTML and Markdown render the same ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distilrec.report.collect import Facts
from distilrec.report.names import (
    SERVED,
    hop_of,
    look,
    megabytes,
    milliseconds,
    number_with_interval,
    percent,
    share_with_interval,
    times,
)


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column names the row."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def quality(facts: Facts) -> Table:
    """All hops: what each ranks like, keeps and gains."""
    judgement = facts.judgement
    rows = [
        (
            hop.name + (" (served)" if hop.name == facts.served else ""),
            number_with_interval(hop.quality),
            f"{hop.hit_rate:.4f}",
            "" if hop.gain is None else number_with_interval(hop.gain, "+"),
            "" if hop.retention is None else share_with_interval(hop.retention),
            f"{hop.parameters:,}",
        )
        for hop in judgement.hops.values()
    ]
    hit_rate = judgement.metric.replace("NDCG", "HR")
    headings = ("", judgement.metric, hit_rate, "less the student without a teacher", "kept of the teacher", "parameters")
    return Table(headings, tuple(rows))


def cost(facts: Facts) -> Table | None:
    """What each timed model costs; nothing without benchmarks."""
    if facts.benchmarks is None or not facts.benchmarks.models:
        return None
    names = list(dict.fromkeys(row.model for row in facts.benchmarks.models))
    batches = sorted({row.batch for row in facts.benchmarks.models})
    rows = []
    for name in names:
        timed = {batch: facts.benchmarks.model(name, batch) for batch in batches}
        first = next(row for row in timed.values() if row is not None)
        hop = facts.judgement.hops.get(hop_of(facts.judgement, name))
        family = "distilled, ONNX " if name.startswith("distilled-onnx") else ""
        rows.append(
            (
                family + look(name).label,
                "" if first.ndcg is None or hop is None else f"{first.ndcg:.4f}",
                *("" if row is None else milliseconds(row.p50_ms) for row in timed.values()),
                megabytes(first.size_bytes),
                megabytes(first.resident_bytes),
            )
        )
    headings = ("", facts.judgement.metric, *(f"p50 ms, batch {batch}" for batch in batches), "on disk", "memory of a process")
    return Table(headings, tuple(rows))


def precisions(facts: Facts) -> Table:
    """What the export measured of each precision, on validation users."""
    rows: list[tuple[str, ...]] = []
    for name, found in facts.export["precisions"].items():
        if "refused" in found:
            rows.append((f"{name.upper()}: could not be made", "", "", "", "", ""))
            continue
        kept = [f"{found[f'overlap_at_{k}']:.4f}" for k in (10, 100)]
        cells = (f"{found['ndcg']:.4f}", percent(found["ndcg_loss"], "+"), *kept)
        rows.append((name.upper(), *cells, milliseconds(found["p50_ms"]), megabytes(found["size_bytes"])))
    headings = ("validation users", "NDCG@10", "lost", "top 10 kept", "top 100 kept", "p50 ms", "on disk")
    return Table(headings, tuple(rows))


def serving(facts: Facts) -> Table | None:
    """Through the live server: client and server told apart, and each against the model that does no work."""
    if facts.benchmarks is None or not facts.benchmarks.serving:
        return None
    floors = {row.concurrency: row for row in facts.benchmarks.serving if row.model == "identity"}
    rows = []
    for row in sorted(facts.benchmarks.serving, key=lambda row: row.concurrency):
        floor = floors.get(row.concurrency)
        rows.append(
            (
                SERVED[row.model].label if row.model in SERVED else row.model,
                str(row.concurrency),
                f"{row.requests_per_s:,.0f}",
                milliseconds(row.p50_ms),
                "" if floor is None else f"{row.p50_ms / floor.p50_ms:.2f}x",
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
    return Table(headings, tuple(rows))


def scale(facts: Facts) -> Table | None:
    """How cost grows, beside the machine's limit."""
    if facts.benchmarks is None or not facts.benchmarks.scale:
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
        for row in facts.benchmarks.scale
    ]
    return Table(("items", "history", "batch", "precision", "p50 ms", "limit ms", "of the limit", "on disk"), tuple(rows))


def training(facts: Facts) -> Table:
    """What each stage took, and how fast trainings went where that was measured."""
    rows: list[tuple[str, ...]] = []
    for row in facts.benchmarks.training if facts.benchmarks else ():
        cache = "" if row.cache_bytes is None else f"; soft targets take {megabytes(row.cache_bytes)}"
        rows.append((row.who, f"{row.examples_per_s:,.0f} examples/s{cache}", f"{row.seconds_an_epoch:.1f} s an epoch"))
    for stage, manifest in facts.stages.items():
        epochs = manifest.metrics.get("epochs")
        rows.append((f"stage {stage}", f"{epochs} epochs" if epochs else "", f"{manifest.metrics['seconds']:,.0f} s"))
    return Table(("", "speed", "time"), tuple(rows))


def load(facts: Facts) -> Table | None:
    """What ``distilrec load`` saw: each rate that was tried."""
    if facts.load is None:
        return None
    runs: Sequence[dict[str, Any]] = facts.load.get("search", {}).get("probes") or [facts.load["result"]]
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
    headings = ("requests/s asked", "reached", "answered", "failed", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "client too slow")
    return Table(headings, tuple(rows))


def peers(facts: Facts) -> Table | None:
    """Other ways to the same answer; one that was not measured says why, and has no number."""
    if facts.peers is None:
        return None
    rows = []
    for name, found in facts.peers["contenders"].items():
        if "not_measured" in found:
            rows.append((name, "", "", f"not measured: {found['not_measured']}"))
        else:
            spread = f"in most rounds {found['ratio_p10']:.2f} to {found['ratio_p90']:.2f}"
            own = name == facts.peers["reference"]
            rows.append((name, milliseconds(found["seconds_per_request"] * 1000), times(found["ratio"]), "" if own else spread))
    return Table(("one request, one thread", "ms", "times the student's", ""), tuple(rows))


def provenance(facts: Facts) -> Table:
    """What all of this was measured of, and where."""
    artefact, machine = facts.artefact, facts.export["machine"]
    rows = [
        ("run", facts.run),
        ("seeds judged", ", ".join(map(str, facts.judgement.seeds))),
        ("export", f"{artefact.digest}, {machine['processor']}, {machine['system']}"),
        *((f"made from {name}", digest) for name, digest in artefact.inputs.items()),
        ("versions", ", ".join(f"{name} {version}" for name, version in artefact.versions.items())),
    ]
    if facts.benchmarks is not None:
        measured = facts.benchmarks.machine
        features = ", ".join(measured.cpu_features) or "none of those looked for"
        where = f"{measured.processor}, {measured.cores} cores ({features}), {measured.gpu or 'no GPU'}"
        rows += [
            ("benchmarks", f"{facts.benchmarks.measured_at}, commit {facts.benchmarks.commit}"),
            ("benchmarks' machine", where),
        ]
    return Table(("", ""), tuple(rows))


def settings(facts: Facts) -> Table:
    """Settings of all stages."""
    rows = [
        (f"{stage}: {name}", str(value))
        for stage, manifest in facts.stages.items()
        for name, value in sorted(manifest.settings.items())
    ]
    return Table(("setting", "value"), tuple(rows))
