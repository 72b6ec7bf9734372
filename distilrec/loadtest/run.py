"""The command ``distilrec load``: examine the server, put load on it, and report what was measured."""

import datetime as dt
import os
import threading
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distilrec.core.errors import ConfigError
from distilrec.core.machine import processor
from distilrec.core.manifest import installed_versions
from distilrec.loadtest import statistics
from distilrec.loadtest.arrivals import deal, poisson_arrivals
from distilrec.loadtest.endpoint import Endpoint, examine
from distilrec.loadtest.generator import LoadGenerator, interrupts
from distilrec.loadtest.progress_line import ProgressLine
from distilrec.loadtest.settings import LoadSettings
from distilrec.loadtest.slo import Search, Slo, search_rate
from distilrec.loadtest.worker import LoadShare, WorkerResult

FORMAT_VERSION = 1
_PACKAGES = ("grpcio", "tritonclient", "protobuf")


@dataclass(frozen=True)
class LoadMeasurement:
    """The measurement of one load, by all client processes together."""

    rate_per_s: float | None
    duration_s: float
    results: list[WorkerResult]
    slo: Slo | None
    interrupted: bool

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """float64 [answers]."""
        return np.concatenate([result.latency_s for result in self.results])

    @property
    def errors(self) -> dict[str, int]:
        """Requests without an answer, by kind."""
        kinds = sorted({kind for result in self.results for kind in result.errors})
        return {kind: sum(result.errors.get(kind, 0) for result in self.results) for kind in kinds}

    @property
    def bottleneck(self) -> statistics.Bottleneck:
        """Verdict on whether the clients limited the measurement."""
        late = np.concatenate([result.late_s for result in self.results])
        return statistics.client_bottleneck(late, self.latency_s, np.array([result.busy_share for result in self.results]))

    @property
    def holds(self) -> bool:
        """Whether the goal was held: every request answered, and the quantile below the limit."""
        assert self.slo is not None
        latency_ms = statistics.quantile_ms(self.latency_s, self.slo.quantile)
        return not self.errors and latency_ms is not None and latency_ms < self.slo.limit_ms

    def to_json(self) -> dict[str, Any]:
        """Return the measurement as it stands in the JSON."""
        latency, late = self.latency_s, np.concatenate([result.late_s for result in self.results])
        seconds = max([self.duration_s, *(result.last_s for result in self.results)])
        if self.interrupted:
            seconds = max([1e-3, *(result.last_s for result in self.results)])
        return {
            "rate_per_s": self.rate_per_s,
            "duration_s": self.duration_s,
            "interrupted": self.interrupted,
            "requests": {
                "due": sum(result.due for result in self.results),
                "answered": len(latency),
                "failed": sum(self.errors.values()),
            },
            "achieved_rate_per_s": len(latency) / seconds,
            "latency_from": "sending" if self.rate_per_s is None else "intended sending",
            "latency": statistics.latency_ms(latency),
            "errors": self.errors,
            "client": {
                "late_p99_ms": statistics.quantile_ms(late, 0.99),
                "late_max_ms": statistics.quantile_ms(late, 1.0),
                "busy_share_of_processes": [round(result.busy_share, 3) for result in self.results],
                "cpu_s_of_processes": [round(result.cpu_s, 3) for result in self.results],
            },
            "client_bottleneck": self.bottleneck.found,
            "client_bottleneck_reason": self.bottleneck.reason,
        } | ({"slo_held": self.holds} if self.slo else {})


def measure(settings: LoadSettings) -> dict[str, Any]:
    """Put load on a server and return what ``--json`` prints. Ctrl-C ends it early, with the measurements until then.

    Raises:
        ClientError: no server answers, or it does not serve the model.
        LoadError: a client process failed.
    """
    endpoint = examine(settings.connection, settings.model, settings.timeout_s)
    started = dt.datetime.now(dt.UTC)
    if settings.filter_share and not endpoint.filter_values:
        raise ConfigError(
            "--filter-share: found a model without attributes to filter by (data.filters), expected one; leave it out"
        )
    with LoadGenerator(settings, endpoint.spec, endpoint.filter_values) as generator, interrupts() as stop:
        if settings.slo is None:
            load = _run(generator, settings, settings.rate_per_s, settings.duration_s, stop)
            measured: dict[str, Any] = {"result": load.to_json()}
        else:
            measured = {"search": _search(generator, settings, stop)}
        measured["interrupted"] = stop.is_set()
    return _provenance(settings, endpoint, started) | measured


def _search(generator: LoadGenerator, settings: LoadSettings, stop: threading.Event) -> dict[str, Any]:
    assert settings.slo is not None
    assert settings.rate_per_s is not None
    search = Search[LoadMeasurement]()

    def probe(rate: float) -> LoadMeasurement:
        return _run(generator, settings, rate, settings.probe_s(rate), stop)

    most, lowest = settings.probes, settings.lowest_rate
    search_rate(probe, settings.rate_per_s, search, most_probes=most, lowest_rate=lowest, stop=stop.is_set)
    failed = [measured for rate, measured in search.probes if rate == search.lowest_failed]
    return {
        "slo": str(settings.slo),
        "highest_rate_held_per_s": search.highest_held,
        "lowest_rate_failed_per_s": search.lowest_failed,
        "complete": search.complete,
        "limited_by_client": any(measured.bottleneck.found for measured in failed),
        "probes": [measured.to_json() for _, measured in search.probes],
    }


def _run(
    generator: LoadGenerator, settings: LoadSettings, rate: float | None, duration_s: float, stop: threading.Event
) -> LoadMeasurement:
    """Measure one load at a rate in requests per second (None: closed loop)."""
    what = f"closed loop, {settings.concurrency} in flight" if rate is None else f"{rate:,.1f} requests/s"
    line = ProgressLine(f"load: {what}", duration_s)
    max_s = duration_s + 2 * settings.timeout_s
    results = generator.run(lambda start: split_load(settings, rate, duration_s, start), max_s, stop, line)
    line.end()
    return LoadMeasurement(rate, duration_s, results, settings.slo, stop.is_set())


def split_load(settings: LoadSettings, rate_per_s: float | None, duration_s: float, start: float) -> list[LoadShare]:
    """Return the share of each client process; the same settings and rate give the same arrivals."""
    if rate_per_s is None:
        assert settings.concurrency is not None
        shares = [len(range(first, settings.concurrency, settings.processes)) for first in range(settings.processes)]
        return [LoadShare(start, duration_s, None, share) for share in shares]
    random = np.random.default_rng([settings.seed, round(rate_per_s * 1000)])
    arrivals = poisson_arrivals(rate_per_s, duration_s, random)
    return [LoadShare(start, duration_s, share, 0) for share in deal(arrivals, settings.processes)]


def _provenance(settings: LoadSettings, endpoint: Endpoint, started: dt.datetime) -> dict[str, Any]:
    sizes = vars(endpoint.spec)
    server = {name: value for name, value in vars(endpoint).items() if name not in {"spec", "model_version", "filter_values"}}
    return {
        "format_version": FORMAT_VERSION,
        "started": started.isoformat(timespec="seconds"),
        "settings": settings.to_json(),
        "seed": settings.seed,
        "model": {"name": settings.model, "version": endpoint.model_version} | sizes,
        "server": server,
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "versions": installed_versions() | {name: metadata.version(name) for name in _PACKAGES},
    }
