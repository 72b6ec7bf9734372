"""What ``distilrec load`` does: look at the server, put load on it, and say what happened."""

import datetime as dt
import os
import threading
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distilrec.core.machine import processor
from distilrec.core.manifest import installed_versions
from distilrec.load import statistics
from distilrec.load.arrivals import deal, poisson_arrivals
from distilrec.load.endpoint import Endpoint, examine
from distilrec.load.generator import Generator, interrupts
from distilrec.load.progress_line import ProgressLine
from distilrec.load.settings import LoadSettings
from distilrec.load.slo import Search, Slo, search_rate
from distilrec.load.worker import Job, Outcome

FORMAT_VERSION = 1
_PACKAGES = ("grpcio", "tritonclient", "protobuf")


@dataclass(frozen=True)
class Measured:
    """One load, by all client processes together."""

    rate_per_s: float | None
    duration_s: float
    outcomes: list[Outcome]
    slo: Slo | None
    interrupted: bool

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """float64 [answers]."""
        return np.concatenate([outcome.latency_s for outcome in self.outcomes])

    @property
    def errors(self) -> dict[str, int]:
        """Requests without an answer, by kind."""
        kinds = sorted({kind for outcome in self.outcomes for kind in outcome.errors})
        return {kind: sum(outcome.errors.get(kind, 0) for outcome in self.outcomes) for kind in kinds}

    @property
    def bottleneck(self) -> statistics.Bottleneck:
        """Whether the clients kept up."""
        late = np.concatenate([outcome.late_s for outcome in self.outcomes])
        return statistics.client_bottleneck(late, self.latency_s, np.array([outcome.busy_share for outcome in self.outcomes]))

    @property
    def holds(self) -> bool:
        """Whether the goal was held: every request answered, and the quantile below the limit."""
        assert self.slo is not None
        found = statistics.quantile_ms(self.latency_s, self.slo.quantile)
        return not self.errors and found is not None and found < self.slo.limit_ms

    def to_json(self) -> dict[str, Any]:
        """All that was seen."""
        latency, late = self.latency_s, np.concatenate([outcome.late_s for outcome in self.outcomes])
        seconds = max([self.duration_s, *(outcome.last_s for outcome in self.outcomes)])
        if self.interrupted:
            seconds = max([1e-3, *(outcome.last_s for outcome in self.outcomes)])
        return {
            "rate_per_s": self.rate_per_s,
            "duration_s": self.duration_s,
            "interrupted": self.interrupted,
            "requests": {
                "due": sum(outcome.due for outcome in self.outcomes),
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
                "busy_share_of_processes": [round(outcome.busy_share, 3) for outcome in self.outcomes],
                "cpu_s_of_processes": [round(outcome.cpu_s, 3) for outcome in self.outcomes],
            },
            "client_bottleneck": self.bottleneck.found,
            "client_bottleneck_reason": self.bottleneck.reason,
        } | ({"slo_held": self.holds} if self.slo else {})


def measure(settings: LoadSettings) -> dict[str, Any]:
    """Put load on a server; returns what ``--json`` prints. Ctrl-C ends it early, with what was measured until then.

    Raises:
        ClientError: no server, or not the model.
        LoadError: a client process failed.
    """
    endpoint = examine(settings.connection, settings.model, settings.timeout_s)
    started = dt.datetime.now(dt.UTC)
    with Generator(settings, endpoint.spec) as generator, interrupts() as stop:
        if settings.slo is None:
            found: dict[str, Any] = {"result": _run(generator, settings, settings.rate_per_s, settings.duration_s, stop).to_json()}
        else:
            found = {"search": _search(generator, settings, stop)}
        found["interrupted"] = stop.is_set()
    return _provenance(settings, endpoint, started) | found


def _search(generator: Generator, settings: LoadSettings, stop: threading.Event) -> dict[str, Any]:
    assert settings.slo is not None
    assert settings.rate_per_s is not None
    search = Search[Measured]()

    def probe(rate: float) -> Measured:
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


def _run(generator: Generator, settings: LoadSettings, rate: float | None, duration_s: float, stop: threading.Event) -> Measured:
    """One load at a rate (None: closed loop)."""
    what = f"closed loop, {settings.concurrency} in flight" if rate is None else f"{rate:,.1f} requests/s"
    line = ProgressLine(f"load: {what}", duration_s)
    outcomes = generator.run(lambda start: jobs(settings, rate, duration_s, start), duration_s + 2 * settings.timeout_s, stop, line)
    line.end()
    return Measured(rate, duration_s, outcomes, settings.slo, stop.is_set())


def jobs(settings: LoadSettings, rate_per_s: float | None, duration_s: float, start: float) -> list[Job]:
    """The job of each client process; the same settings and rate give the same arrivals."""
    if rate_per_s is None:
        assert settings.concurrency is not None
        shares = [len(range(first, settings.concurrency, settings.processes)) for first in range(settings.processes)]
        return [Job(start, duration_s, None, share) for share in shares]
    random = np.random.default_rng([settings.seed, round(rate_per_s * 1000)])
    arrivals = poisson_arrivals(rate_per_s, duration_s, random)
    return [Job(start, duration_s, share, 0) for share in deal(arrivals, settings.processes)]


def _provenance(settings: LoadSettings, endpoint: Endpoint, started: dt.datetime) -> dict[str, Any]:
    sizes = vars(endpoint.spec)
    server = {name: value for name, value in vars(endpoint).items() if name not in {"spec", "model_version"}}
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
